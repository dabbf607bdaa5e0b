"""Where the results come from: the machine, the system, and the versions of all that was run."""

import os
import platform
import re
from pathlib import Path

from . import loops, native


def about(specs: list[str]) -> dict:
    found = {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
        "loops": {},
    }
    for loop in map(loops.find, specs):
        if loop.name != "asyncio":
            found["loops"][loop.name] = loop.about()
    if not native.why_no_server() and (version := native.libuv_version()):
        found["loops"][loops.LIMIT] = {"version": version}
    if hasattr(os, "getloadavg"):
        found["load"] = round(os.getloadavg()[0], 2)
    return found


def cpu() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def describe(machine: dict) -> list[str]:
    """The same in two lines."""
    versions = [
        f"{name} {known['version']}" + (f" (libuv {known['libuv']})" if "libuv" in known else "")
        for name, known in machine["loops"].items()
    ]
    load = f", load {machine['load']}" if "load" in machine else ""
    return [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}{load}",
        ", ".join([f"Python {machine['python']} ({machine['compiler']})", *versions]),
    ]
