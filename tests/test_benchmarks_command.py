"""The benchmark's command line, as a person types it."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from support import ROOT

from benchmarks import loops, rounds, tls
from benchmarks.__main__ import main
from benchmarks.family import modules
from benchmarks.options import parse

# hotloop, but every call_soon() is preceded by a busy-wait.
SLOWED = """
import time
import hotloop

class Loop(hotloop.EventLoop):
    def call_soon(self, *args, **kwargs):
        until = time.perf_counter() + 5e-6
        while time.perf_counter() < until:
            pass
        return super().call_soon(*args, **kwargs)
"""


@pytest.fixture
def benchmarks(monkeypatch, capsys):
    """Runs the command: the exit code and what it printed. Only what it measures is in processes
    of their own."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *map(str, arguments)])
        try:
            code = main()
        except SystemExit as end:
            code = end.code
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module that the processes of the benchmark can import."""

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        inherited = os.environ.get("PYTHONPATH", "")
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{inherited}")

    return write


SHORT = ("--only", "call_soon chain", "--minutes", "0.01", "--rounds", 3)
BOTH = ("--loops", "asyncio,hotloop")


def test_list(benchmarks):
    code, told = benchmarks("--list")
    assert code == 0
    for line in (
        "scheduling/call_soon chain",
        "echo/streams, 100 KiB x 1000",
        "timers/sleep 50 ms",
        "processes/50 at once",
    ):
        assert line in told
    assert "Loops: asyncio, hotloop" in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--only", "nonsense"), "no workload's name contains 'nonsense'"),
        (("--loops", "noloop"), "noloop: not known"),
        (("--loops", "a=b"), "write NAME=MODULE:FACTORY"),
        (("--loops", "mine=no_such_module:new"), "not installed"),
        (("--loops", "asyncio,asyncio=asyncio:new_event_loop"), "one name twice"),
        (("--rounds", "0"), "at least 1"),
        (("--minutes", "0"), "not below 0"),
        (("--loops", "asyncio", "--check"), "not among --loops"),
        (("--loudly",), "unrecognized arguments"),
        (("--compare", "no-such-file.json"), "No such file"),
        (("--compare", "pyproject.toml"), "not what --json writes"),
        (("--from", "pyproject.toml"), "not what --json writes"),
    ],
)
def test_bad_options(benchmarks, options, said):
    code, told = benchmarks(*options)
    assert code == 2
    assert said in told


def test_help_states_the_test_of_compare():
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert told.returncode == 0
    assert "99 % bootstrap" in told.stdout and "THRESHOLD" in told.stdout


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A record of one workload on asyncio and hotloop."""
    path = tmp_path_factory.mktemp("benchmarks") / "folder" / "record.json"
    command = [sys.executable, "-m", "benchmarks", *map(str, SHORT), *BOTH, "--json", path]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert told.returncode == 0, told.stderr
    assert "call_soon chain" in told.stdout
    assert told.stderr == ""  # no progress bar, as this is no terminal
    return path


def test_json(stored):
    record = json.loads(stored.read_text())
    assert record["settings"]["rounds"] == 3
    assert {"cpu", "cores", "system", "python", "loops"} <= set(record["machine"])
    assert record["loops"] == ["asyncio", "hotloop"]
    ours = record["results"][1]
    assert (ours["workload"], ours["loop"], len(ours["runs"])) == ("call_soon chain", "hotloop", 3)
    assert {"ns", "cpu_us", "rss_kib"} <= set(ours["runs"][0])
    assert ours["summary"]["low"] <= ours["summary"]["ratio"] <= ours["summary"]["high"]


def test_an_identical_record_has_not_become_slower(benchmarks, stored):
    code, told = benchmarks("--from", stored, "--compare", stored)
    assert code == 0
    assert "nothing changed beyond noise" in told
    assert "1 of 1 workloads agree" in told


def test_an_identical_loop_has_not_become_slower(benchmarks, stored):
    # Whatever else the machine does meanwhile: only half the speed counts.
    code, told = benchmarks(*SHORT, *BOTH, "--compare", stored, "--threshold", 1)
    assert code == 0, told
    assert "SLOWER" not in told


def test_a_call_soon_that_is_one_microsecond_slower_is_caught(benchmarks, stored, tmp_path):
    """By the default threshold, in records of the same noise."""
    slowed = json.loads(stored.read_text())
    for run in slowed["results"][1]["runs"]:
        run["ns"] += 1000
    path = tmp_path / "slowed.json"
    path.write_text(json.dumps(slowed))
    code, told = benchmarks("--from", path, "--compare", stored)
    assert (code, "SLOWER" in told) == (1, True)


def test_a_slowed_loop_is_caught(benchmarks, stored, module):
    module("slowed_loop", SLOWED)
    loops = ("--loops", "asyncio,hotloop=slowed_loop:Loop")
    code, told = benchmarks(*SHORT, *loops, "--compare", stored, "--threshold", 1)
    assert code == 1, told
    assert "scheduling/call_soon chain" in told and "SLOWER" in told


def test_other_loops_run_the_headlines(monkeypatch):
    everyone = ["asyncio", "hotloop", "uvloop", "blazio"]
    monkeypatch.setattr(loops, "installed", lambda: everyone)
    monkeypatch.setattr(loops.Loop, "is_installed", lambda loop: True)

    def that_run(*options):
        chosen = parse(list(options))
        results = rounds.empty(chosen.only, chosen.loops, chosen.headlines_only)
        kinds = {True: set(), False: set()}
        for workload, row in results.items():
            kinds[workload.headline] |= set(row) - {loops.LIMIT}
        return kinds[True], kinds[False]

    assert that_run() == (set(everyone), set(everyone[:3]))
    assert that_run("--only", "scheduling,timers") == (set(everyone), set(everyone))
    assert that_run("--loops", "asyncio,blazio") == ({"asyncio", "blazio"},) * 2
    assert that_run("--quick")[0] == set(everyone[:3])


def test_names_with_commas():
    chosen = parse(["--only", "protocol, 1 KiB x 50,gather"]).only
    assert {"echo/protocol, 1 KiB x 50", "scheduling/gather(1000)"} <= {w.path for w in chosen}
    assert not any("x 1000" in workload.path for workload in chosen)


def test_the_whole_matrix_is_there():
    def paths(*options):
        return {workload.path for workload in parse(list(options)).only}

    assert "echo/Unix, streams, 100 KiB x 1000" in paths("--all") - paths()
    for way in ("protocol", "buffered protocol", "streams", "sock_recv and sock_sendall"):
        for size in (1, 10, 100):
            for connections in (1, 50, 1000):
                assert f"echo/{way}, {size} KiB x {connections}" in paths()
                assert f"echo/Unix, {way}, {size} KiB x {connections}" in paths("--all")
                if way in tls.WAYS:
                    assert f"tls/{way}, {size} KiB x {connections}" in paths("--all")


def test_markdown_and_details_of_a_stored_record(benchmarks, stored, tmp_path):
    path = tmp_path / "results.md"
    code, told = benchmarks("--from", stored, "--markdown", path, "--details")
    assert code == 0
    assert "CPU us/op" in told
    assert "| call_soon chain |" in path.read_text()


def test_charts(stored, tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--from", stored, "--charts", tmp_path]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert told.returncode == 0, told.stderr
    if "matplotlib is not installed" in told.stdout:
        pytest.skip("matplotlib is not installed")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert (tmp_path / f"headlines-py{version}.svg").stat().st_size > 1000
    assert (tmp_path / f"scheduling-py{version}.png").read_bytes().startswith(b"\x89PNG")


def test_a_loop_that_fails_is_told_not_hidden(benchmarks, module):
    module("broken_loop", "def new():\n    raise RuntimeError('no loop today')\n")
    code, told = benchmarks(*SHORT, "--loops", "mine=broken_loop:new")
    assert code == 0
    assert "call_soon chain on mine failed: RuntimeError: no loop today" in told


def test_what_is_missing_is_told(benchmarks, monkeypatch):
    """A workload whose package is missing is left out, with the reason."""
    real = importlib.util.find_spec
    absent = {"uvicorn", "httptools"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in absent else real(name, *a)
    )
    code, told = benchmarks("--only", "http/uvicorn", "--loops", "asyncio")
    assert code == 0
    assert (
        "http/uvicorn with httptools, x 50 left out: uvicorn and httptools not installed" in told
    )


def test_a_part_of_a_missing_package_is_missing():
    assert modules("asyncio.tasks")() == ""
    assert modules("no_such.part", "json")() == "no_such.part not installed"


def test_ctrl_c_is_measured_in_the_background_too():
    """A shell has background jobs ignore SIGINT, and they pass that on."""
    program = """if True:
        import asyncio, json
        from benchmarks.ctrl_c import measure
        print(json.dumps(measure(asyncio.new_event_loop, 0.1)))
        """
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", program]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["median_ms"] < 1900, "ended by the program's own timer"
