"""Runs the children, interleaved: each round runs every workload on every loop once."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from .family import Metrics, Workload

TIMEOUT_S = 60
ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Result:
    """What one workload did on one loop: the metrics of each round, or why there are none."""

    workload: Workload
    loop: str
    runs: list[Metrics] = field(default_factory=list)
    error: str = ""
    summary: Metrics = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the workload's goal is reached."""
        return not self.error and self.workload.family.met(self.workload, self.summary)


Results = dict[Workload, dict[str, Result]]


class ChildFailed(Exception):
    pass


class Progress:
    """One line that rewrites itself, on a terminal only."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.shown = sys.stderr.isatty()

    def step(self, text: str) -> None:
        self.done += 1
        if self.shown:
            self.write(f"[{self.done}/{self.total}] {text}")

    def clear(self) -> None:
        if self.shown:
            self.write("")

    def write(self, text: str) -> None:
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def measure(workloads: list[Workload], loops: list[str], rounds: int, seconds: float) -> Results:
    results = {w: {loop: Result(w, loop) for loop in loops} for w in workloads}
    progress = Progress(rounds * len(workloads) * len(loops))
    for number in range(rounds):
        # Which loop comes first changes, lest one always runs on a core that another warmed up.
        first = number % len(loops)
        for workload in workloads:
            for loop in loops[first:] + loops[:first]:
                progress.step(f"round {number + 1} of {rounds}: {workload.path} on {loop}")
                run_once(results[workload][loop], seconds)
    progress.clear()
    for row in results.values():
        summarise(row)
    return results


def run_once(result: Result, seconds: float) -> None:
    if result.error:
        return
    try:
        result.runs.append(run_child(result.loop, result.workload, "seconds", seconds))
    except ChildFailed as failure:
        result.error = str(failure)


def summarise(row: dict[str, Result]) -> None:
    stock = row["asyncio"].runs if "asyncio" in row and not row["asyncio"].error else []
    for result in row.values():
        if not result.error:
            base = [] if result.loop == "asyncio" else stock
            result.summary = result.workload.family.summarise(result.runs, base)


def run_child(
    loop: str, workload: Workload, unit: str, number: float, wrapper: tuple[str, ...] = ()
) -> Metrics:
    child = [sys.executable, "-m", "benchmarks.child", loop, workload.path, unit, str(number)]
    timeout = TIMEOUT_S * (10 if wrapper else 1)  # a counter makes the run slower
    try:
        process = subprocess.run(
            [*wrapper, *child],
            check=False,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise ChildFailed(f"no end after {timeout} s") from None
    if process.returncode < 0:
        raise ChildFailed(f"killed by {signal.Signals(-process.returncode).name}")
    if process.returncode:
        raise ChildFailed((process.stderr.strip() or f"exit {process.returncode}").split("\n")[-1])
    return json.loads(process.stdout.splitlines()[-1])
