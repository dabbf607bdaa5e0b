"""User-space instructions per operation: what a change costs, without the noise of time.

A child runs N batches under the counter, another 2 N; the difference is free of start-up.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from .family import Workload
from .progress import Progress
from .report import print_table
from .rounds import ChildFailed, run_child

UNAVAILABLE = """\
Instructions cannot be counted here. It takes perf (Debian: linux-perf) on a machine whose counters
it may read, which many virtual machines do not have, or valgrind, which counts anywhere, slowly."""


@dataclass(frozen=True)
class Counter:
    """A program that runs another and leaves the number of its instructions in a file."""

    command: tuple[str, ...]
    log_option: str
    pattern: str
    batches: int

    def wrapper(self, log: str) -> tuple[str, ...]:
        return (*self.command, self.log_option + log)

    def read(self, log: str) -> int | None:
        with open(log) as file:
            found = re.search(self.pattern, file.read(), re.MULTILINE)
        return found and int(found[1].replace(",", ""))

    def works(self) -> bool:
        if not shutil.which(self.command[0]):
            return False
        with tempfile.NamedTemporaryFile() as log:
            command = [*self.wrapper(log.name), sys.executable, "-c", ""]
            subprocess.run(command, check=False, capture_output=True)
            return self.read(log.name) is not None

    def count(self, loop: str, workload: Workload, batches: int) -> tuple[int, int]:
        """Instructions and operations of a child that runs so many batches."""
        with tempfile.NamedTemporaryFile() as log:
            result = run_child(loop, workload, "batches", batches, self.wrapper(log.name))
            return self.read(log.name), result["operations"]

    def per_operation(self, loop: str, workload: Workload) -> float:
        once, operations = self.count(loop, workload, self.batches)
        twice, twice_operations = self.count(loop, workload, 2 * self.batches)
        return (twice - once) / (twice_operations - operations)


COUNTERS = (
    Counter(("perf", "stat", "-x,", "-e", "instructions:u"), "--output=", r"^(\d+),", 8),
    Counter(
        ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"),
        "--log-file=",
        r"refs:\s+([\d,]+)",
        1,
    ),
)


def report(workloads: list[Workload], loops: list[str]) -> int:
    """Prints the table; the exit code."""
    counter = next((counter for counter in COUNTERS if counter.works()), None)
    if counter is None:
        print(UNAVAILABLE, file=sys.stderr)
        return 2
    workloads = [workload for workload in workloads if workload.repeat]
    rows = []
    with Progress(len(workloads) * len(loops)) as progress:
        for workload in workloads:
            row = [workload.name]
            for loop in loops:
                progress.step(f"{counter.command[0]}: {workload.path} on {loop}")
                try:
                    row.append(f"{counter.per_operation(loop, workload):,.0f}")
                except ChildFailed as failure:
                    row.append(f"failed: {failure}")
                progress.done()
            rows.append(row)
    title = f"User instructions per operation, counted by {counter.command[0]}"
    print_table(title, ["", *loops], rows)
    return 0
