"""Run any asyncio program on hotloop: ``python -m hotloop script.py``, ``-m module``, ``-c code``.

The program runs as Python itself would run it, in a ``__main__`` module of its own: pickling,
multiprocessing, ``inspect`` and tracebacks see the program's names and files, none of ours.
"""

import linecache
import os
import pkgutil
import runpy
import sys
import textwrap
import types
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader

from hotloop import install

USAGE = """\
usage: python -m hotloop script.py [args...]
       python -m hotloop -m module [args...]
       python -m hotloop -c code [args...]
"""
HELP = f"""{USAGE}
Runs a program as python would, with hotloop as its asyncio event loop: asyncio.run(),
asyncio.Runner() and asyncio.new_event_loop() in it use hotloop. script.py may be a folder
or a zip file with a __main__.py, or "-" for the standard input.
"""


def parse(argv):
    """What to run and its arguments: ("-c", code, args), ("-m", module, args) or ("", path, args)."""
    if not argv:
        usage_error("script.py, -m module or -c code expected")
    first, *rest = argv
    if first in ("-h", "--help"):
        print(HELP, end="")
        sys.exit(0)
    if first[:2] in ("-c", "-m"):
        if first[2:]:
            return first[:2], first[2:], rest
        if not rest:
            usage_error(f"argument expected for the {first} option")
        return first, rest[0], rest[1:]
    if first.startswith("-") and first != "-":
        usage_error(f"unknown option {first}")
    return "", first, rest


def usage_error(message):
    print(f"{USAGE}python -m hotloop: {message}", file=sys.stderr)
    sys.exit(2)


def run_module(name, namespace):
    runpy._run_module_as_main(name)  # what python -m calls


def run_code(source, namespace):
    if not sys.flags.safe_path:
        sys.path[0] = ""
    if sys.version_info >= (3, 14):
        source = textwrap.dedent(source)
    execute(compile_source(source, "<string>"), namespace)


def run_path(path, namespace):
    """Run a script, a folder or zip file with a __main__.py, or the standard input."""
    full = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    if path == "-":
        if not sys.flags.safe_path:
            sys.path[0] = ""
        namespace.update(__file__="<stdin>", **like_ours(__cached__=None))
        execute(compile_source(sys.stdin.buffer.read(), "<stdin>"), namespace)
    elif pkgutil.get_importer(full):
        # With -P there is no first entry of Python's own to replace.
        sys.path[: not sys.flags.safe_path] = [full]
        runpy._run_module_as_main("__main__", alter_argv=False)
    else:
        run_script(full, namespace)


def run_script(path, namespace):
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    compiled = path.endswith(".pyc")
    loader = (SourcelessFileLoader if compiled else SourceFileLoader)("__main__", path)
    try:
        source = loader.get_data(path)
    except OSError as error:
        reason = f"[Errno {error.errno}] {error.strerror}"
        print(f"{sys.orig_argv[0]}: can't open file {path!r}: {reason}", file=sys.stderr)
        sys.exit(2)
    namespace.update(__file__=path, **like_ours(__cached__=None), __loader__=loader)
    code = loader.get_code("__main__") if compiled else compile_source(source, path)
    execute(code, namespace)


def like_ours(**names):
    """Those that this Python gives a ``__main__`` module, as it gave them ours."""
    return {name: value for name, value in names.items() if name in globals()}


def compile_source(source, filename):
    code = compile(source, filename, "exec", dont_inherit=True)
    remember = getattr(linecache, "_register_code", None)
    if filename == "<string>" and remember:  # 3.13+: tracebacks of -c show source lines
        remember(code if sys.version_info >= (3, 14) else filename, source, filename)
    return code


def execute(code, namespace):
    exec(code, namespace)  # noqa: S102


def begin_traceback_below_us(error):
    """Let Python report `error` as it does when the program is not run by us: without our frames."""
    hook = sys.excepthook
    traceback = error.__traceback__
    while traceback and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next

    def excepthook(kind, value, seen):
        if value is error:
            sys.excepthook = hook  # ours holds the program's objects, which end before sys does
            value.__traceback__ = seen = traceback
        hook(kind, value, seen)

    sys.excepthook = excepthook


def main():
    option, target, args = parse(sys.argv[1:])
    install()
    sys.argv = [option or target, *args]
    program = sys.modules["__main__"] = types.ModuleType("__main__")
    program.__dict__.update(
        **like_ours(__annotations__={}),
        __builtins__=sys.modules["builtins"],
        __loader__=BuiltinImporter,
    )
    run = {"-c": run_code, "-m": run_module, "": run_path}[option]
    try:
        run(target, program.__dict__)
    except BaseException as error:
        if sys.flags.inspect or not isinstance(error, SystemExit):
            begin_traceback_below_us(error)
        raise  # to Python, whose exit code it decides: SystemExit, Ctrl-C and all


if __name__ == "__main__":
    main()
