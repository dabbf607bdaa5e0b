"""hotloop beside stock asyncio and the other loops: ``python -m benchmarks --help``.

One file holds one family of workloads; FAMILIES below is the whole list. A run of one workload on
one loop happens in a process of its own (child.py); rounds.py starts them, report.py tells.
"""

from . import ctrl_c, echo, executor, processes, scheduling, timers
from .family import Family

FAMILIES: tuple[Family, ...] = (
    scheduling.FAMILY,
    executor.FAMILY,
    processes.FAMILY,
    echo.FAMILY,
    timers.FAMILY,
    ctrl_c.FAMILY,
)
