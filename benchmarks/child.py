"""One run of one workload on one loop, in a process of its own. rounds.py and instructions.py start it:

python -m benchmarks.child LOOP FAMILY/WORKLOAD seconds|batches NUMBER
"""

import json
import os
import sys

from . import FAMILIES, loops


def main() -> None:
    loop, path, unit, number = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    (workload,) = (w for family in FAMILIES for w in family.workloads if w.path == path)
    if unit == "seconds":
        result = workload.measure(loops.factory(loop), float(number))
    else:
        result = {"operations": workload.repeat(loops.factory(loop), int(number))}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
