"""hotloop beside stock asyncio and the other loops: ``python -m benchmarks --help``.

One file holds one family of workloads; FAMILIES below is the whole list. A run of one workload on
one loop happens in a process of its own (child.py); rounds.py starts them. record.py keeps what
they found, report.py, markdown.py and charts.py tell it, compare.py holds it against earlier ones.
"""

from . import (
    clients,
    ctrl_c,
    databases,
    echo,
    executor,
    http,
    memory,
    patterns,
    scheduling,
    startup,
    timers,
    tls,
)
from .family import Family

FAMILIES: tuple[Family, ...] = (
    scheduling.FAMILY,
    executor.FAMILY,
    patterns.FAMILY,
    timers.FAMILY,
    ctrl_c.FAMILY,
    echo.FAMILY,
    tls.FAMILY,
    http.FAMILY,
    clients.FAMILY,
    databases.FAMILY,
    memory.FAMILY,
    startup.FAMILY,
)
