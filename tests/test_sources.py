"""House rules that the sources, the stubs and the packaging can be held to by machine; see also test_api.py."""

import ast
import asyncio
import re
import sys

import hotloop
import pytest
from hotloop import _core
from support import ROOT, run_command

SOURCES = sorted((ROOT / "src").glob("*.[ch]"))
STUB = ROOT / "python" / "hotloop" / "_core.pyi"

with_sources = pytest.mark.skipif(not SOURCES, reason="the sources are not beside the tests")


# -- size ------------------------------------------------------------------------


@with_sources
def test_files_have_at_most_700_lines():
    files = [*SOURCES, *(ROOT / "tests").rglob("*.py")]
    sizes = {path.name: len(path.read_text().splitlines()) for path in files}
    assert {name: size for name, size in sizes.items() if size > 700} == {}


@with_sources
def test_functions_have_at_most_80_lines():
    long = []
    for path in SOURCES:
        begin = None
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line == "{":
                begin = number
            elif line == "}" and begin is not None:
                if number - begin > 80:
                    long.append(f"{path.name}:{begin}")
                begin = None
    assert long == []


@with_sources
def test_every_c_file_is_compiled_and_has_what_it_shares_in_a_header():
    """A function that is not static is declared in a header."""
    headers = "\n".join(path.read_text() for path in SOURCES if path.suffix == ".h")
    undeclared = []
    for path in SOURCES:
        if path.suffix != ".c":
            continue
        # PEP 7: the type alone on a line, then the name at the beginning of the next.
        for kind, name in re.findall(
            r"^([^\s#/*{}][^\n;{}()]*)\n(\w+)\([^;]*?\)\n\{", path.read_text(), re.MULTILINE
        ):
            if not kind.startswith(("static", "PyMODINIT_FUNC")) and not re.search(
                rf"\b{name}\(", headers
            ):
                undeclared.append(f"{path.name}: {name}")
    assert undeclared == []


@with_sources
def test_private_functions_of_cpython_are_called_in_compat_h_only():
    calls = {
        f"{path.name}: {name}"
        for path in SOURCES
        if path.name != "compat.h"
        for name in re.findall(r"\b(_Py\w+)\s*\(", path.read_text())
    }
    assert calls == set()


# -- stubs -------------------------------------------------------------------------


def names_in(body):
    found = set()
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            found.add(node.target.id)
        elif isinstance(node, ast.If):
            found |= names_in(node.body) | names_in(node.orelse)
    return found


def stub():
    return ast.parse(STUB.read_text()).body


@pytest.mark.skipif(not STUB.exists(), reason="the sources are not beside the tests")
@pytest.mark.parametrize("name", ["Loop", "Future", "Task", "Handle", "TimerHandle"])
def test_every_method_written_in_c_is_in_the_stub_or_asyncios(name):
    node = next(node for node in stub() if isinstance(node, ast.ClassDef) and node.name == name)
    inherited = set(dir(getattr(asyncio, name))) if node.bases else set()
    written = {
        method
        for method, value in vars(getattr(_core, name)).items()
        if callable(value) and not method.startswith("__")
    }
    assert written - names_in(node.body) - inherited == set()
    # And nothing is promised that is not there.
    promised = {method for method in names_in(node.body) if not method.startswith("__")}
    if sys.version_info >= (3, 14):
        assert {
            method for method in promised if not hasattr(getattr(_core, name), method)
        } == set()


@pytest.mark.skipif(not STUB.exists(), reason="the sources are not beside the tests")
def test_everything_in_the_c_module_is_in_the_stub():
    written = {name for name in vars(_core) if not name.startswith("__")}
    assert written - names_in(stub()) == set()


# -- no warnings ----------------------------------------------------------------------


def script(source):
    result = run_command([sys.executable, "-W", "error", "-X", "dev", "-c", source])
    assert (result.returncode, result.stderr) == (0, ""), result
    return result.stdout


def test_install_warns_of_nothing():
    """3.14 deprecates what asyncio offers for this; our users did nothing wrong."""
    assert (
        script("""
import asyncio, hotloop
hotloop.install()
hotloop.install()

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60
    return type(asyncio.get_running_loop()) is hotloop.EventLoop

with asyncio.Runner() as runner:
    print(asyncio.run(main()), runner.run(main()))
loop = asyncio.new_event_loop()
print(type(loop) is hotloop.EventLoop)
loop.close()
""")
        == "True True\nTrue\n"
    )


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="there are no policies any more")
def test_the_policy_is_made_without_a_warning():
    assert (
        script("""
import hotloop
from hotloop import EventLoopPolicy
loop = EventLoopPolicy().new_event_loop()
print(type(loop) is hotloop.EventLoop)
loop.close()
""")
        == "True\n"
    )


def test_star_import_warns_of_nothing():
    assert script("from hotloop import *; print(run.__module__)") == "hotloop\n"


def test_hotloop_run_warns_of_nothing():
    assert (
        script("""
import asyncio, hotloop

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0.001))
    return await asyncio.to_thread(str, "done")

print(hotloop.run(main()), hotloop.run(main(), debug=True))
""")
        == "done done\n"
    )


def test_the_version_is_said_once():
    """pyproject.toml reads it from the package."""
    text = (ROOT / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in text and hotloop.__version__ not in text
