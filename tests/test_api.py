"""The public surface: names, signatures as in the running Python's asyncio, stubs, and lints over the sources."""

import ast
import asyncio
import inspect
import pathlib
import re
import subprocess
import sys
import types

import hotloop
import pytest
from hotloop import _core, _pipes, _transports
from support import ROOT, clean_environment, run_command

PACKAGE = pathlib.Path(hotloop.__file__).parent
SOURCES = sorted((ROOT / "src").glob("*.[ch]"))

PUBLIC = {
    "run",
    "new_event_loop",
    "EventLoop",
    "Loop",
    "install",
    "Future",
    "Task",
    "Handle",
    "TimerHandle",
    "__version__",
    "libuv_version",
}


# -- names -------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_the_public_names_are_there(name):
    assert getattr(hotloop, name) is not None


def test_all_lists_the_public_names():
    assert PUBLIC - {"__version__"} <= set(hotloop.__all__)
    for name in hotloop.__all__:
        if name != "EventLoopPolicy":
            assert hasattr(hotloop, name)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no_such_name"):
        hotloop.no_such_name


def test_the_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert hotloop.__version__ == version("hotloop")


def test_the_version_of_libuv_is_told():
    assert re.fullmatch(r"1\.\d+\.\d+(-\w+)?", hotloop.libuv_version())
    assert int(hotloop.libuv_version().split(".")[1]) >= 44


def test_the_types_are_real_subclasses_of_asyncios():
    assert issubclass(hotloop.Future, asyncio.Future)
    assert issubclass(hotloop.Task, asyncio.Task)
    assert issubclass(hotloop.Handle, asyncio.Handle)
    assert issubclass(hotloop.TimerHandle, asyncio.TimerHandle)
    assert issubclass(hotloop.EventLoop, asyncio.SelectorEventLoop)
    assert hotloop.Loop is hotloop.EventLoop


def test_a_loop_makes_the_public_types():
    loop = hotloop.new_event_loop()
    assert type(loop) is hotloop.EventLoop
    assert type(loop.create_future()) is hotloop.Future
    assert type(loop.call_soon(int)) is hotloop.Handle
    assert type(loop.call_later(1, int)) is hotloop.TimerHandle
    loop.close()


# -- run, install, the policy ------------------------------------------------


def test_run_runs_a_coroutine_on_a_hotloop():
    async def main():
        return type(asyncio.get_running_loop())

    assert hotloop.run(main()) is hotloop.EventLoop


def test_run_takes_debug():
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert hotloop.run(main(), debug=True) is True
    assert hotloop.run(main(), debug=False) is False


def test_run_refuses_what_is_no_coroutine():
    with pytest.raises((ValueError, TypeError)):
        hotloop.run(5)


def test_run_refuses_to_nest():
    async def inner():
        pass

    async def main():
        coro = inner()
        try:
            with pytest.raises(RuntimeError, match="running event loop"):
                hotloop.run(coro)
        finally:
            coro.close()

    hotloop.run(main())


def test_run_lets_exceptions_out():
    async def main():
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        hotloop.run(main())


def script(source, *flags):
    result = run_command([sys.executable, *flags, "-c", source])
    assert (result.returncode, result.stderr) == (0, ""), result
    return result.stdout


def test_importing_gives_no_warning():
    assert (
        script("import hotloop; hotloop.run; hotloop.install; hotloop.EventLoop", "-W", "error")
        == ""
    )


def test_importing_makes_neither_policy_nor_loop_nor_thread():
    assert (
        script("""
import asyncio, sys, threading
import hotloop
print("hotloop._policy" in sys.modules, threading.active_count())
""")
        == "False 1\n"
    )


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="policies are deprecated from 3.14 on")
def test_the_policy_is_there_without_a_warning():
    """uvloop#637: asyncio's own policies warn from 3.14 on."""
    assert (
        script(
            """
import asyncio
import hotloop
policy = hotloop.EventLoopPolicy()
assert isinstance(policy, asyncio.AbstractEventLoopPolicy)
asyncio.set_event_loop_policy(policy)
loop = asyncio.new_event_loop()
print(type(loop) is hotloop.EventLoop)
loop.close()

async def main():
    print(type(asyncio.get_running_loop()) is hotloop.EventLoop)

asyncio.run(main())
""",
            "-W",
            "error",
        )
        == "True\nTrue\n"
    )


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="policies are gone in 3.16")
def test_install_makes_asyncio_run_use_hotloop():
    assert (
        script(
            """
import asyncio
import hotloop
hotloop.install()

async def main():
    print(type(asyncio.get_running_loop()) is hotloop.EventLoop)

asyncio.run(main())
""",
            "-W",
            "ignore::DeprecationWarning",
        )
        == "True\n"
    )


def test_the_policy_goes_when_asyncios_goes():
    if sys.version_info >= (3, 16):
        assert not hasattr(hotloop, "EventLoopPolicy")
    elif sys.version_info < (3, 14):
        assert issubclass(hotloop.EventLoopPolicy, asyncio.AbstractEventLoopPolicy)


def test_new_event_loop_serves_as_a_loop_factory():
    async def main():
        return type(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=hotloop.new_event_loop) as runner:
        assert runner.run(main()) is hotloop.EventLoop


# -- signatures --------------------------------------------------------------


def shape(function):
    """The parameters of a method after self: names, kinds, defaults; without annotations."""
    parameters = list(inspect.signature(function).parameters.values())
    return [
        (parameter.name, parameter.kind.name, parameter.default) for parameter in parameters[1:]
    ]


def methods(cls):
    return [
        name
        for name in dir(cls)
        if not name.startswith("_")
        and callable(inspect.getattr_static(cls, name))
        and not isinstance(inspect.getattr_static(cls, name), (staticmethod, classmethod, type))
    ]


PAIRS = {
    "EventLoop": (hotloop.EventLoop, asyncio.SelectorEventLoop),
    "Future": (hotloop.Future, asyncio.Future),
    "Task": (hotloop.Task, asyncio.Task),
    "Handle": (hotloop.Handle, asyncio.Handle),
    "TimerHandle": (hotloop.TimerHandle, asyncio.TimerHandle),
}
CASES = [(kind, name) for kind, (_, stock) in PAIRS.items() for name in methods(stock)]

# Patch releases of one Python differ in these: 3.13.3 made create_task(coro, **kwargs) of the keywords.
VARYING = {("EventLoop", "create_task")}


@pytest.mark.parametrize("kind, name", CASES, ids=[f"{kind}.{name}" for kind, name in CASES])
def test_the_signature_is_that_of_asyncio(kind, name):
    ours, stock = (getattr(cls, name) for cls in PAIRS[kind])
    try:
        expected = shape(stock)
    except ValueError:
        pytest.skip("asyncio's own method has no signature to compare with")
    if (kind, name) in VARYING:
        accepted = set(inspect.signature(ours).parameters)
        assert "coro" in accepted
        assert "kwargs" in accepted or {"name", "context"} <= accepted
    else:
        assert shape(ours) == expected


@pytest.mark.parametrize("kind", ["Future", "Task"])
def test_the_constructor_takes_what_asyncios_takes(kind):
    ours, stock = PAIRS[kind]
    try:
        expected = inspect.signature(stock)
    except ValueError:
        pytest.skip("asyncio's own type has no signature to compare with")
    assert [(p.name, p.kind) for p in inspect.signature(ours).parameters.values()] == [
        (p.name, p.kind) for p in expected.parameters.values()
    ]


@pytest.mark.parametrize("kind", PAIRS)
def test_everything_asyncio_has_is_there(kind):
    ours, stock = PAIRS[kind]
    assert [name for name in dir(stock) if not hasattr(ours, name)] == []


@pytest.mark.parametrize("kind", PAIRS)
def test_what_is_written_in_c_has_a_docstring(kind):
    ours, _ = PAIRS[kind]
    undocumented = [
        name
        for cls in ours.__mro__
        if cls.__module__.startswith("hotloop")
        for name, member in vars(cls).items()
        if not name.startswith("_") and callable(member) and not getattr(member, "__doc__", None)
    ]
    assert undocumented == []


def test_the_names_of_the_types_are_theirs():
    """repr() and error messages use them."""
    for kind, (ours, _) in PAIRS.items():
        assert ours.__name__ == kind
        assert ours.__module__.split(".")[0] == "hotloop"


def test_every_module_is_imported_in_python():
    """What freezes programs (PyInstaller) goes by that."""
    imported = set()
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                imported |= {node.module} if node.module else {name.name for name in node.names}
    alone = {path.stem for path in PACKAGE.glob("*.py")} - imported
    assert alone == {"__init__", "__main__", "pytest_plugin"}


# -- stubs -------------------------------------------------------------------


def stub(name):
    path = PACKAGE / name
    assert path.exists(), f"{name} is not installed"
    return ast.parse(path.read_text())


def names_bound(body):
    found = set()
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.If):
            found |= names_bound(node.body) | names_bound(node.orelse)
    return found


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()


def test_the_stub_names_everything_public():
    names = names_bound(stub("__init__.pyi").body)
    assert PUBLIC - names == set()
    assert set(hotloop.__all__) - names - {"EventLoopPolicy"} == set()


@pytest.mark.parametrize("kind", ["Loop", "Future", "Task", "Handle", "TimerHandle"])
def test_the_stub_of_the_c_module_names_every_method(kind):
    from hotloop import _core

    classes = {
        node.name: node for node in stub("_core.pyi").body if isinstance(node, ast.ClassDef)
    }
    assert kind in classes
    listed = names_bound(classes[kind].body)
    # What asyncio's own type has is typed by inheriting from it.
    inherited = dir(getattr(asyncio, kind, object)) if classes[kind].bases else []
    written = {name for name in vars(getattr(_core, kind)) if not name.startswith("_")}
    assert written - listed - set(inherited) == set()


# -- the sources -------------------------------------------------------------


def code_of(path):
    """A C source without comments and string literals, its lines kept."""

    def blank(match):
        return re.sub(r"[^\n]", " ", match.group())

    return re.sub(
        r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, path.read_text(), flags=re.DOTALL
    )


FORBIDDEN = {
    "objects in static variables, which belong in the module state": r"^\s*static\s+(?:const\s+)?Py(?:Object|TypeObject)\s*\*?\s*\w+\s*(?:=|;|\[)",
    "PyGILState_Ensure: the loop attaches once a turn": r"PyGILState_Ensure",
    "CPython's internal headers": r"pycore_",
    "macros that hide a return or goto": r"^[ \t]*#\s*define(?:[^\n]*\\\n)*[^\n]*\b(?:return|goto)\b",
}


@pytest.mark.skipif(not SOURCES, reason="the sources are not beside the tests")
@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_sources_are_free_of(what):
    found = [
        f"{path.name}:{code[: match.start()].count(chr(10)) + 1}: {match.group().strip()}"
        for path in SOURCES
        for code in [code_of(path) if "headers" not in what else path.read_text()]
        for match in re.finditer(FORBIDDEN[what], code, re.MULTILINE)
    ]
    assert found == []


@pytest.mark.skipif(not SOURCES, reason="the sources are not beside the tests")
def test_every_source_begins_with_what_it_is():
    assert [path.name for path in SOURCES if not path.read_text().lstrip().startswith("/*")] == []


def test_the_lints_would_find_something(tmp_path):
    """So that the tests above can fail."""
    bad = tmp_path / "bad.c"
    bad.write_text(
        'static PyObject *cache = NULL;\n#include "pycore_long.h"\n'
        "#define CHECK(x) \\\n    if (!(x)) return NULL\nvoid f(void) { PyGILState_Ensure(); }\n"
    )
    for what, pattern in FORBIDDEN.items():
        text = bad.read_text() if "headers" in what else code_of(bad)
        assert re.search(pattern, text, re.MULTILINE), what


# -- the command line, as far as it is the module's --------------------------


def test_the_smoke_test_of_wheels_passes():
    run = run_command([sys.executable, "-W", "error", ROOT / "tests" / "smoke.py"])
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"works: hotloop {hotloop.__version__}, ")


def test_the_module_can_be_run():
    result = subprocess.run(
        [sys.executable, "-m", "hotloop", "-c", "import asyncio, sys; print(sys.argv)", "a", "b"],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "['-c', 'a', 'b']\n", "")


@pytest.mark.parametrize(
    "ours",
    [
        hotloop.EventLoop,
        _transports.SocketTransport,
        _pipes.ReadPipeTransport,
        _pipes.WritePipeTransport,
    ],
)
def test_methods_in_c_belong_to_the_very_type(ours):
    # The interpreter's specialised calls of C methods want that.
    methods = [getattr(ours, name) for name in dir(ours)]
    methods = [method for method in methods if isinstance(method, types.MethodDescriptorType)]
    assert {method.__objclass__ for method in methods} <= {ours, object}
    assert len(methods) > 10


@pytest.mark.parametrize("other", [object, int, type("Derived", (dict,), {}), 3, None])
def test_only_types_derived_from_ours_get_methods_of_their_own(other):
    with pytest.raises(TypeError, match="derived from one in C"):
        _core._own_methods(other)
