"""Run every example on hotloop and on stock asyncio, and compare.

Each example runs in a process of its own, once as `python -m hotloop FILE`
and once as `python FILE`, the two directly after one another. Standard
output, standard error and the exit code have to be the same. The exit code of
this program is 0 when they are and every example succeeded, otherwise 1; it
is 2 when hotloop itself is not there.
"""

import argparse
import ast
import difflib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOOPS = {"hotloop": ["-m", "hotloop"], "asyncio": []}
PROBE = """
import asyncio, hotloop
async def main():
    loop = type(asyncio.get_running_loop())
    assert any(c.__module__.partition(".")[0] == "hotloop" for c in loop.__mro__), loop
    print("hotloop", hotloop.__version__, "with libuv", hotloop.libuv_version())
asyncio.run(main())
"""


@dataclass
class Run:
    """What one process did; code is None when it ran out of time."""

    code: int | None
    stdout: str
    stderr: str
    seconds: float

    def problem(self, timeout: float) -> str | None:
        if self.code is None:
            return f"no end after {timeout:g} s"
        if self.code:
            return f"exit code {self.code}"
        return None


def run(arguments: list[str], timeout: float) -> Run:
    """Run Python with these arguments, in a process group that can be killed."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        code = None
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Run(code, stdout, stderr, time.perf_counter() - began)


def missing_packages(example: Path) -> list[str]:
    """The modules that an example imports at top level and that are not here."""
    names: set[str] = set()
    for node in ast.parse(example.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    packages = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    return sorted(p for p in packages if importlib.util.find_spec(p) is None)


def differences(hot: Run, stock: Run) -> list[str]:
    """A diff of what the two runs gave, empty when they are the same."""
    lines: list[str] = []
    for stream in ("stdout", "stderr"):
        lines += difflib.unified_diff(
            getattr(stock, stream).splitlines(),
            getattr(hot, stream).splitlines(),
            f"asyncio, {stream}",
            f"hotloop, {stream}",
            lineterm="",
        )
    if hot.code != stock.code:
        lines.append(f"exit codes: asyncio {stock.code}, hotloop {hot.code}")
    if not lines and (hot.stdout, hot.stderr) != (stock.stdout, stock.stderr):
        lines.append("the outputs differ in their line ends")
    return lines


def compare(example: Path, timeout: float, hot_first: bool) -> tuple[dict[str, Run], list[str]]:
    """Run one example on both loops; the second result is what went wrong."""
    order = sorted(LOOPS, reverse=hot_first)
    runs = {loop: run([*LOOPS[loop], str(example)], timeout) for loop in order}
    complaints = differences(runs["hotloop"], runs["asyncio"])
    for loop, result in runs.items():
        if problem := result.problem(timeout):
            complaints += [f"{loop}: {problem}", *result.stderr.splitlines()[-20:]]
    return runs, complaints


def choose(only: list[str]) -> list[Path]:
    examples = {p.stem: p for p in sorted(HERE.glob("*.py")) if p.stem != "run_all"}
    wanted = [name.removesuffix(".py") for name in only] or list(examples)
    unknown = sorted(set(wanted) - set(examples))
    if unknown:
        sys.exit(f"no example {', '.join(unknown)}; there are: {', '.join(examples)}")
    return [examples[name] for name in wanted]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run every example on hotloop and on stock asyncio, and compare.")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="may be repeated"
    )
    parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS", help="of each run")
    parser.add_argument(
        "--require-all",
        action="store_true",
        help="an example whose packages are not installed is a failure",
    )
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    examples = choose(options.only)
    probe = run([*LOOPS["hotloop"], "-c", PROBE], options.timeout)
    if problem := probe.problem(options.timeout):
        print(f"`{sys.executable} -m hotloop` does not run on hotloop ({problem}):")
        print(probe.stderr.rstrip())
        return 2
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"{probe.stdout.strip()}, Python {python}; wall times of whole processes\n")
    print(f"{'example':<22}{'hotloop':>10}{'asyncio':>10}  same output")

    failed: dict[str, list[str]] = {}
    same = skipped = 0
    total = dict.fromkeys(LOOPS, 0.0)
    for number, example in enumerate(examples):
        name = example.stem
        if missing := missing_packages(example):
            note = f"not installed: {', '.join(missing)}"
            if options.require_all:
                failed[name] = [note]
                note = f"no, {note}"
            else:
                skipped += 1
                note = f"skipped, {note}"
            print(f"{name:<22}{'-':>10}{'-':>10}  {note}", flush=True)
            continue
        runs, complaints = compare(example, options.timeout, number % 2 == 0)
        times = ""
        for loop in LOOPS:
            total[loop] += runs[loop].seconds
            times += f"{runs[loop].seconds:8.2f} s"
        if not complaints:
            verdict = "yes"
            same += 1
        else:
            failed[name] = complaints
            alike = not differences(runs["hotloop"], runs["asyncio"])
            verdict = "yes, but it failed on both" if alike else "no"
        print(f"{name:<22}{times}  {verdict}", flush=True)

    print(f"{'total':<22}{total['hotloop']:8.2f} s{total['asyncio']:8.2f} s")
    for name, complaints in failed.items():
        print(f"\n{name}:")
        print("\n".join(f"    {line}" for line in complaints))
    print(f"\n{same} the same, {len(failed)} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
