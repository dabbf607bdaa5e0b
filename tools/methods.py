#!/usr/bin/env python3
"""Write docs/methods.md: each public method of asyncio's loops, and what runs it on each Python.

    tools/methods.py            ask every Python from 3.11 to 3.15 that is here, and write the page
    tools/methods.py --probe    say in JSON what the Python that runs this has; needs hotloop

A Python that is not here keeps its column. tests/test_docs.py compares the page with the running Python.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "methods.md"
VERSIONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]
ABSENT = "-"

HEAD = """\
# Methods

Every public method of asyncio's event loops (`AbstractEventLoop` and `BaseEventLoop`), and what runs it on
hotloop. `tools/methods.py` wrote this table by looking at the classes; a test compares it with each Python.

- **C**: the method is written in C.
- **hotloop**: a few lines of hotloop's Python around the C core.
- **asyncio**: the running Python's own method, inherited. Many of these only prepare what C then does; the
  last column says which.
- **-**: this Python's asyncio has no such method.

"""

TRANSPORT = "the transport is C"
LISTENER = "accepting and the transports are C"
PIPE = "the pipe transport is C"
CHILD = "`subprocess.Popen`; the pipes' transports are C"
# What an inherited method ends in. The source does not say it in a way that a program could read.
THEN = {
    "add_reader": "`_add_reader`, which is C",
    "add_writer": "`_add_writer`, which is C",
    "connect_accepted_socket": TRANSPORT,
    "connect_read_pipe": PIPE,
    "connect_write_pipe": PIPE,
    "create_connection": TRANSPORT + "; with `ssl=`, asyncio's TLS on top",
    "create_datagram_endpoint": TRANSPORT,
    "create_server": LISTENER + "; with `ssl=`, asyncio's TLS on top",
    "create_unix_connection": TRANSPORT,
    "create_unix_server": LISTENER,
    "getaddrinfo": "literal addresses at once, names in a thread",
    "remove_reader": "`_remove_reader`, which is C",
    "remove_writer": "`_remove_writer`, which is C",
    "run_until_complete": "`run_forever`, which is C",
    "sendfile": "`os.sendfile`; the transport is C",
    "shutdown_default_executor": "with the first 3.12 releases' `timeout=` mended",
    "start_tls": "asyncio's TLS on a transport in C",
    "subprocess_exec": CHILD,
    "subprocess_shell": CHILD,
}
# Overridden only where a patch release needs it: asyncio's as far as this table goes.
MENDED = {"shutdown_default_executor"}


def public_methods():
    names = {*dir(asyncio.AbstractEventLoop), *dir(asyncio.BaseEventLoop)}
    return sorted(
        name
        for name in names
        if not name.startswith("_") and callable(getattr(asyncio.SelectorEventLoop, name))
    )


def what_runs(function):
    """ "C", "hotloop" or "asyncio" for what an attribute lookup on the class has found."""
    if isinstance(function, (types.MethodDescriptorType, types.WrapperDescriptorType)):
        return "C"
    if not isinstance(function, types.FunctionType):
        return "C"  # EventLoop's own descriptors of the core's methods
    return "hotloop" if function.__module__.partition(".")[0] == "hotloop" else "asyncio"


def probe():
    import hotloop

    return {
        name: "asyncio" if name in MENDED else what_runs(getattr(hotloop.EventLoop, name))
        for name in public_methods()
    }


def ask(version):
    """That Python's answer, or None if it is not here."""
    tool = [ROOT / "tools" / "with-python"]
    if subprocess.run([*tool, "--has", version], cwd=ROOT).returncode:
        return None
    command = [*tool, version, "python", "tools/methods.py", "--probe"]
    bare = os.environ | {"GROUPS_WANTED": ""}  # hotloop is all it takes
    run = subprocess.run(command, cwd=ROOT, env=bare, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def read_page():
    """{version: {method: what runs it}}, as the page has it."""
    columns = {version: {} for version in VERSIONS}
    if PAGE.exists():
        for row in re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE):
            cells = row[1].split(" | ")
            for version, cell in zip(VERSIONS, cells, strict=False):
                if cell != ABSENT:
                    columns[version][row[0]] = cell
    return columns


def page(columns):
    lines = [
        f"| method | {' | '.join(VERSIONS)} | then |",
        "|---" * (len(VERSIONS) + 2) + "|",
    ]
    for name in sorted({name for column in columns.values() for name in column}):
        cells = [columns[version].get(name, ABSENT) for version in VERSIONS]
        lines.append(f"| `{name}` | {' | '.join([*cells, THEN.get(name, '')])} |")
    return HEAD + "\n".join(lines) + "\n"


def main():
    if sys.argv[1:] == ["--probe"]:
        print(json.dumps(probe()))
        return
    columns = read_page()
    for version in VERSIONS:
        answer = ask(version)
        if answer is None:
            print(f"Python {version} is not here; its column stays", file=sys.stderr)
        else:
            columns[version] = answer
    PAGE.write_text(page(columns))


if __name__ == "__main__":
    main()
