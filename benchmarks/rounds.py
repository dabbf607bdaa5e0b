"""Runs the children, interleaved: each round runs every workload on every loop once."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path

from . import loops, native
from .family import Metrics, Workload
from .progress import Progress

TIMEOUT_S = 10  # of a child, which measures for a second at most
SLOW_TIMEOUT_S = 600  # where a counter slows it down
ROOT = Path(__file__).resolve().parent.parent

# What starting and ending a child takes, by experience, besides the time that it measures.
OVERHEAD_S = 0.3
LEAST_ROUNDS = 3
SECONDS = (0.06, 0.5)  # the least and the most that a run measures


@dataclass
class Result:
    """What one workload did on one loop: the metrics of each round, or why there are none."""

    workload: Workload
    loop: str  # its name
    runs: list[Metrics] = field(default_factory=list)
    error: str = ""
    summary: Metrics = field(default_factory=dict)
    spec: str = ""  # what the child is to run, if not just the name

    @property
    def met(self) -> bool:
        """Whether the workload's goal is reached."""
        return not self.error and self.workload.family.met(self.workload, self.summary)


# By workload and loop, both in the order of the tables.
Results = dict[Workload, dict[str, Result]]


@dataclass(frozen=True)
class Plan:
    """How many rounds of how many seconds a run, and when to stop early (never before the third
    round)."""

    rounds: int
    seconds: float
    minutes: float

    @classmethod
    def make(cls, runs: float, rounds: int, minutes: float) -> "Plan":
        """One that takes about so long, for so many runs (weighted) in a round."""
        least, most = SECONDS
        seconds = minutes * 60 / (rounds * max(runs, 1)) - OVERHEAD_S
        return cls(rounds, round(min(max(seconds, least), most), 3), minutes)

    def about(self, results: Results) -> str:
        """For somebody who waits."""
        runs = sum(map(len, results.values()))
        round_s = weight(results) * self.seconds + runs * OVERHEAD_S
        minutes = min(self.rounds * round_s / 60, max(self.minutes, LEAST_ROUNDS * round_s / 60))
        return (
            f"{len(results)} workloads, {self.rounds} rounds of {runs} runs of {self.seconds:g} s, "
            f"fewer if it takes longer: some {max(minutes, 0.1):.1f} minutes"
        )


class ChildFailed(Exception):
    pass


def empty(
    workloads: list[Workload], specs: list[str], headlines_only: Container[str] = ()
) -> Results:
    """Of these loops, as loops.find() takes them. The limit is one more where a workload has one.
    Those of `headlines_only` do not run the other workloads."""
    limited = not native.why_no_server()
    results: Results = {}
    for workload in workloads:
        chosen = [spec for spec in specs if workload.headline or spec not in headlines_only]
        row = {loops.find(spec).name: spec for spec in chosen}
        if workload.limit and limited:
            row[loops.LIMIT] = loops.LIMIT
        results[workload] = {n: Result(workload, n, spec=spec) for n, spec in row.items()}
    return results


def weight(results: Results) -> float:
    return sum(workload.weight * len(row) for workload, row in results.items())


def measure(results: Results, plan: Plan) -> int:
    """Fills the results in; the number of rounds there was time for."""
    total = plan.rounds * sum(map(len, results.values()))
    began = time.monotonic()
    with Progress(total) as progress:
        for number in range(plan.rounds):
            started = time.monotonic()
            run_round(results, number, plan, progress)
            now = time.monotonic()
            if number + 1 >= LEAST_ROUNDS and now + (now - started) > began + plan.minutes * 60:
                break
    for row in results.values():
        summarise(row)
    return number + 1


def run_round(results: Results, number: int, plan: Plan, progress: Progress) -> None:
    for workload, row in results.items():
        # Which loop comes first changes, lest one always runs on a core that another warmed up.
        names = list(row)
        first = number % len(names)
        for loop in names[first:] + names[:first]:
            progress.step(f"round {number + 1}: {workload.path} on {loop}")
            run_once(row[loop], plan.seconds * workload.weight)
            progress.done()


def run_once(result: Result, seconds: float) -> None:
    if result.error:
        return
    try:
        result.runs.append(run_child(result.spec, result.workload, "seconds", seconds))
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
    timeout = SLOW_TIMEOUT_S if wrapper else TIMEOUT_S
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
