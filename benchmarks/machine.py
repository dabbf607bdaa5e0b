"""Where the results come from: the machine, the system, and the versions of all that was run."""

import os
import platform
import re
import time
from pathlib import Path

from . import loops, native

MOMENT_S = 0.5
BUSY = 0.1  # the share of the cores that others may have without a warning


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
    if busy := share_busy():
        found["busy"] = round(busy, 2)
    return found


def why_not_quiet(machine: dict) -> str:
    """A warning, "" if the machine had nothing else to do."""
    busy = machine.get("busy", 0)
    if busy < BUSY:
        return ""
    return f"Beware, something else kept the machine {busy:.0%} busy when this began"


def share_busy() -> float:
    """Of all cores' time, while this process sleeps for a moment; 0 where that is not known."""
    try:
        before = processor_times()
        time.sleep(MOMENT_S)
        passed = [now - then for then, now in zip(before, processor_times(), strict=True)]
    except OSError:
        return 0
    return 1 - (passed[3] + passed[4]) / max(sum(passed), 1)  # idle, and waiting for a disk


def processor_times() -> list[int]:
    with open("/proc/stat") as file:
        return list(map(int, file.readline().split()[1:9]))


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
    return [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}",
        ", ".join([f"Python {machine['python']} ({machine['compiler']})", *versions]),
    ]
