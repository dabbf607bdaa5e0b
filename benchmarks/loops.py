"""The loops to compare, as far as they are installed."""

import asyncio
import importlib
import importlib.util
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

# How each one that has libuv inside tells its version.
LIBUV = {
    "hotloop": "import hotloop; print(hotloop.libuv_version())",
    "uvloop": "from uvloop.loop import libuv_get_version as f; n = f();"
    "print(n >> 16, n >> 8 & 255, n & 255, sep='.')",
}


@dataclass
class Loop:
    """A loop by name; calling it makes one. Nothing is imported before, as some loops patch
    asyncio when they are imported."""

    name: str
    module: str
    attribute: str = "new_event_loop"
    make: Any = field(default=None, repr=False)

    def __call__(self) -> asyncio.AbstractEventLoop:
        if self.make is None:
            self.make = getattr(importlib.import_module(self.module), self.attribute)
        return self.make()

    @property
    def spec(self) -> str:
        """What find() understands."""
        if self is ORDINARY.get(self.name):
            return self.name
        return f"{self.name}={self.module}:{self.attribute}"

    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def about(self) -> dict[str, str]:
        """Its version, and libuv's where it has one."""
        import importlib.metadata  # only here: it is slow, and the children do without

        about = {}
        try:
            about["version"] = importlib.metadata.version(self.module)
        except importlib.metadata.PackageNotFoundError:
            about["version"] = "(unknown version)"
        if self.module in LIBUV:
            command = [sys.executable, "-c", LIBUV[self.module]]
            found = subprocess.run(command, check=False, capture_output=True, text=True)
            if found.returncode == 0:
                about["libuv"] = found.stdout.strip()
        return about


NAMES = ("asyncio", "hotloop", "uvloop", "zuvloop", "rsloop", "rloop", "blazio")
ORDINARY = {name: Loop(name, name) for name in NAMES}

# Not a loop but the server in C (native/server.c), where a workload has one to compare with.
LIMIT = "C libuv"


def installed() -> list[str]:
    return [name for name, loop in ORDINARY.items() if loop.is_installed()]


def find(spec: str) -> Loop:
    """NAME, or NAME=MODULE:FACTORY for a loop of one's own, possibly under a known name."""
    name, separator, place = spec.partition("=")
    module, _, attribute = place.partition(":")
    if separator and not (name and module and attribute):
        raise ValueError(f"{spec}: write NAME=MODULE:FACTORY")
    if not separator and name not in ORDINARY:
        raise ValueError(f"{name}: not known; write NAME=MODULE:FACTORY for a loop of your own")
    return Loop(name, module, attribute) if separator else ORDINARY[name]
