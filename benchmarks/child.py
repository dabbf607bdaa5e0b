"""One run of one workload on one loop, in a process of its own. rounds.py and instructions.py start it:

python -m benchmarks.child LOOP FAMILY/WORKLOAD seconds|batches NUMBER
"""

import json
import sys

from . import cores, load_family, loops
from .family import Metrics, Workload
from .procfs import peak_memory


def main() -> None:
    loop, path, unit, number = sys.argv[1:]
    cores.pin()
    raise_malloc_threshold()
    name, _, _ = path.partition("/")
    (workload,) = (w for w in load_family(name).workloads if w.path == path)
    if unit == "seconds":
        result = measure(workload, loop, float(number))
    else:
        result = {"operations": workload.repeat(loops.find(loop), int(number))}
    print(json.dumps(result))


def raise_malloc_threshold() -> None:
    """As any program has done that once gave a big object back: until then, glibc maps fresh memory
    for each object of more than 128 KiB, asyncio's reads for instance, which take four times as long
    then. Whether a small program has happened to do so hangs on what it imports."""
    bytes(1 << 22)


def measure(workload: Workload, loop: str, seconds: float) -> Metrics:
    if loop == loops.LIMIT:
        return workload.limit(seconds)
    found = workload.measure(loops.find(loop), seconds)
    return {"rss_kib": peak_memory(), **found}


if __name__ == "__main__":
    main()
