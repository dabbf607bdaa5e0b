"""hotloop beside stock asyncio and the other loops: ``python -m benchmarks --help``.

One file holds one family of workloads; MODULES below is the whole list. A run of one workload on
one loop happens in a process of its own (child.py); rounds.py starts them. record.py keeps what
they found, report.py, markdown.py and charts.py tell it, compare.py holds it against earlier ones.
"""

import functools
import importlib
import typing

if typing.TYPE_CHECKING:
    from .family import Family

# The file of each family, by its name, in the order of the tables.
MODULES = {
    "scheduling": "scheduling",
    "executor": "executor",
    "patterns": "patterns",
    "timers": "timers",
    "ctrl-c": "ctrl_c",
    "processes": "processes",
    "connections": "connections",
    "echo": "echo",
    "tls": "tls",
    "http": "http",
    "clients": "clients",
    "databases": "databases",
    "memory": "memory",
    "start-up": "startup",
}


def load_family(name: str) -> "Family":
    """Alone: hundreds of children start, each of which needs but one."""
    return importlib.import_module(f".{MODULES[name]}", __name__).FAMILY


@functools.cache
def families() -> tuple["Family", ...]:
    return tuple(map(load_family, MODULES))
