"""python -m hotloop script.py | -m module | -c code: any asyncio program, as Python itself would run it."""

import os
import signal
import subprocess
import sys
import time

import pytest
from support import PATIENCE, clean_environment, run_command

WHICH_LOOP = """
import asyncio

async def main():
    return type(asyncio.get_running_loop()).__module__.split(".")[0]

print(asyncio.run(main()))
"""


def run_python(*arguments, cwd, stdin=subprocess.DEVNULL, flags=()):
    return run_command([sys.executable, *flags, *map(str, arguments)], cwd=cwd, stdin=stdin)


def run_hotloop(*arguments, cwd, flags=(), stdin=subprocess.DEVNULL):
    return run_python("-m", "hotloop", *arguments, cwd=cwd, flags=flags, stdin=stdin)


@pytest.fixture
def script(tmp_path):
    def write(source, name="script.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        return path

    return write


def same_as_python(arguments, cwd, flags=()):
    """Run by Python and by hotloop: output and exit status must agree. Returns Python's."""
    expected = run_python(*arguments, cwd=cwd, flags=flags)
    got = run_hotloop(*arguments, cwd=cwd, flags=flags)
    assert (got.returncode, got.stdout) == (expected.returncode, expected.stdout), got
    return expected, got


# -- the loop ----------------------------------------------------------------


def test_asyncio_run_inside_gives_a_hotloop(script, tmp_path):
    path = script(WHICH_LOOP)
    assert run_hotloop(path, cwd=tmp_path).stdout == "hotloop\n"
    assert run_hotloop("-m", "script", cwd=tmp_path).stdout == "hotloop\n"
    assert run_hotloop("-c", WHICH_LOOP, cwd=tmp_path).stdout == "hotloop\n"
    assert run_python(path, cwd=tmp_path).stdout == "asyncio\n"


def test_every_way_to_get_a_loop_gives_a_hotloop(script, tmp_path):
    path = script("""
import asyncio

def kind(loop):
    return type(loop).__module__.split(".")[0]

loop = asyncio.new_event_loop()
print(kind(loop))
loop.close()
with asyncio.Runner() as runner:
    print(kind(runner.get_loop()))

async def main():
    return kind(asyncio.get_running_loop())

print(asyncio.run(main()), asyncio.run(main(), debug=True))

import threading
thread = threading.Thread(target=lambda: print(asyncio.run(main())))
thread.start()
thread.join()

import unittest
class Case(unittest.IsolatedAsyncioTestCase):
    async def test(self):
        print(await main())

unittest.main(argv=["x"], exit=False, verbosity=0)
""")
    result = run_hotloop(path, cwd=tmp_path)
    assert result.stdout.split() == ["hotloop"] * 6, result


def test_a_loop_asked_for_by_name_is_what_was_asked_for(script, tmp_path):
    path = script("""
import asyncio

async def main():
    return type(asyncio.get_running_loop()).__module__.split(".")[0]

with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
    print(runner.run(main()))
""")
    assert run_hotloop(path, cwd=tmp_path).stdout == "asyncio\n"


def test_no_warning_is_shown(script, tmp_path):
    result = run_hotloop(script(WHICH_LOOP), cwd=tmp_path, flags=["-W", "error"])
    assert (result.returncode, result.stdout, result.stderr) == (0, "hotloop\n", "")


# -- as Python itself --------------------------------------------------------

SURROUNDINGS = """
import sys
print(__name__, sys.argv[1:], sys.path[0] == {path!r}, sys.argv[0])
print(globals().get("__file__"), __spec__ and __spec__.name, __package__, __doc__)
print(sys.modules["__main__"].__dict__ is globals())
print(sorted(globals()), globals().get("__annotations__"), globals().get("__cached__"))
"""


def test_a_script_sees_what_python_shows_it(script, tmp_path):
    path = script(SURROUNDINGS.format(path=str(tmp_path)))
    expected, _ = same_as_python([path, "one", "-x", "--two=3", "-m", "four"], tmp_path)
    assert expected.returncode == 0
    same_as_python(["script.py"], tmp_path)


def test_a_script_in_another_folder_imports_its_neighbours(script, tmp_path):
    script("VALUE = 5\n", "folder/neighbour.py")
    script("import neighbour; print(neighbour.VALUE)\n", "folder/script.py")
    expected, _ = same_as_python(["folder/script.py"], tmp_path)
    assert expected.stdout == "5\n"


def test_a_module_sees_what_python_shows_it(script, tmp_path):
    script(SURROUNDINGS.format(path=str(tmp_path)), "module.py")
    expected, _ = same_as_python(["-m", "module", "one", "-x"], tmp_path)
    assert expected.returncode == 0
    assert "__main__ ['one', '-x'] True" in expected.stdout


def test_a_package_is_run_by_its_main(script, tmp_path):
    script("", "package/__init__.py")
    script("import sys; print(__package__, sys.argv[1:])\n", "package/__main__.py")
    expected, _ = same_as_python(["-m", "package", "x"], tmp_path)
    assert expected.stdout == "package ['x']\n"


def test_code_sees_what_python_shows_it(tmp_path):
    code = "import sys; print(__name__, sys.argv, repr(sys.path[0])); print(sorted(globals()))"
    expected, _ = same_as_python(["-c", code, "one", "-x"], tmp_path)
    assert expected.stdout.splitlines()[0] == "__main__ ['-c', 'one', '-x'] ''"


def test_a_folder_or_zip_with_a_main_is_run(script, tmp_path):
    import zipfile

    script("print('main', __name__)\n", "app/__main__.py")
    expected, _ = same_as_python(["app"], tmp_path)
    assert expected.stdout == "main __main__\n"
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.write(tmp_path / "app" / "__main__.py", "__main__.py")
    expected, _ = same_as_python(["app.zip"], tmp_path)
    assert expected.stdout == "main __main__\n"


EXITS = {
    "the end": "",
    "exit 0": "import sys; sys.exit()",
    "exit 3": "import sys; sys.exit(3)",
    "exit with a message": "import sys; sys.exit('said so')",
    "exit from a coroutine": "import asyncio, sys\nasync def main(): sys.exit(4)\nasyncio.run(main())",
    "an exception": "raise LookupError('lost')",
    "an exception from a coroutine": "import asyncio\nasync def main(): raise LookupError\nasyncio.run(main())",
    "os._exit": "import os; os._exit(7)",
    "a syntax error": "this is no python",
    "keyboard interrupt": "raise KeyboardInterrupt",
    "a signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
}


@pytest.mark.parametrize("source", EXITS.values(), ids=EXITS)
def test_the_exit_status_is_pythons(script, tmp_path, source):
    expected, got = same_as_python([script(source)], tmp_path)
    last = expected.stderr.strip().splitlines()[-1:]
    assert got.stderr.strip().splitlines()[-1:] == last


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "1 / 0", "raise KeyboardInterrupt"])
def test_finalizers_at_the_end_still_see_the_scripts_names(script, tmp_path, end):
    path = script(f"""
import sys

class Closing:
    def __del__(self):
        print("closed", NAME, sys is not None)

NAME = "it"
closing = Closing()
{end}
""")
    expected, _ = same_as_python([path], tmp_path)
    assert expected.stdout == "closed it True\n"


def test_a_traceback_shows_the_script(script, tmp_path):
    path = script("def function():\n    raise LookupError('lost')\n\nfunction()\n")
    result = run_hotloop(path, cwd=tmp_path)
    assert result.returncode == 1
    assert f'File "{path}", line 2, in function' in result.stderr
    assert "raise LookupError('lost')" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["missing.py"], ["-m", "missing_module"], ["-m"], ["-c"], []],
    ids=["script", "module", "-m alone", "-c alone", "nothing"],
)
def test_what_cannot_be_run_is_an_error(tmp_path, arguments):
    result = run_hotloop(*arguments, cwd=tmp_path)
    assert result.returncode in (1, 2)
    assert result.stdout == ""
    assert result.stderr.strip()
    if arguments and "missing" in arguments[-1]:
        assert arguments[-1] in result.stderr


def test_options_of_python_come_before_and_hold(script, tmp_path):
    path = script("import sys; print(sys.flags.dev_mode, sys.flags.optimize)\n")
    assert run_hotloop(path, cwd=tmp_path, flags=["-X", "dev", "-O"]).stdout == "True 1\n"


def test_standard_input_is_the_scripts(script, tmp_path):
    path = script("print(input())\n")
    result = subprocess.run(
        [sys.executable, "-m", "hotloop", path],
        input="typed\n",
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
    )
    assert result.stdout == "typed\n"


def test_ctrl_c_ends_the_script_as_python_does(script, tmp_path):
    path = script("""
import asyncio

async def main():
    print("READY", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
""")
    child = subprocess.Popen(
        [sys.executable, "-m", "hotloop", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    assert child.stdout.readline() == "READY\n"
    time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30 * PATIENCE)
    assert child.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_worker_processes_find_the_main_module(script, tmp_path, method):
    """A spawned worker imports the program again by its __main__, which must be the script's."""
    path = script(f"""
import asyncio
import concurrent.futures
import multiprocessing

def square(number):
    return number * number

async def main():
    loop = asyncio.get_running_loop()
    context = multiprocessing.get_context({method!r})
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        print(await asyncio.gather(*(loop.run_in_executor(pool, square, n) for n in range(4))))

if __name__ == "__main__":
    asyncio.run(main())
""")
    result = run_hotloop(path, cwd=tmp_path, flags=["-W", "ignore::DeprecationWarning"])
    assert result.stdout == "[0, 1, 4, 9]\n", result


def test_a_program_with_everything(script, tmp_path):
    path = script("""
import asyncio

async def echo(reader, writer):
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\\n")
        print((await reader.readline()).decode().strip())
        writer.close()
        await writer.wait_closed()
    process = await asyncio.create_subprocess_exec("echo", "child", stdout=asyncio.subprocess.PIPE)
    print((await process.communicate())[0].decode().strip())
    print(await asyncio.to_thread(sum, range(10)))

asyncio.run(main())
""")
    expected, _ = same_as_python([path], tmp_path)
    assert expected.stdout == "hello\nchild\n45\n"


def test_the_current_directory_may_be_gone(script, tmp_path):
    program = script("print('ran')\n")
    start = script(
        """
import os, sys
os.mkdir("gone")
os.chdir("gone")
os.rmdir("../gone")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
""",
        "start.py",
    )
    got = run_python(start, "-m", "hotloop", program, cwd=tmp_path)
    assert (got.returncode, got.stdout) == (0, "ran\n"), got


def test_the_current_directory_is_kept(script, tmp_path):
    path = script("import os; print(os.getcwd())\n", "folder/script.py")
    expected, _ = same_as_python([path], tmp_path)
    assert expected.stdout.strip() == os.path.realpath(tmp_path)
