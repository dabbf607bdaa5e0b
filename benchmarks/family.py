"""What a family of workloads is: how one is measured, and how its results are told."""

import asyncio
import statistics
from collections.abc import Callable
from dataclasses import dataclass

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Metrics = dict[str, float]


@dataclass(frozen=True)
class Workload:
    """One line of a family's table."""

    family: "Family"
    name: str
    # Both run in the child. measure() takes about so many seconds; repeat() runs so many batches,
    # for counting what they cost from outside, and returns the number of operations they were.
    measure: Callable[[LoopFactory, float], Metrics]
    repeat: Callable[[LoopFactory, int], int] | None = None
    goal: float | None = None

    @property
    def path(self) -> str:
        return f"{self.family.name}/{self.name}"


class Family:
    """Workloads whose results are the same metrics and so fill one table."""

    name: str
    title: str  # heads the table: what its cells say

    def __init__(self) -> None:
        self.workloads: list[Workload] = []

    def summarise(self, runs: list[Metrics], stock: list[Metrics]) -> Metrics:
        """One summary of the runs of all rounds; `stock` are asyncio's, round by round."""
        return {metric: statistics.median(run[metric] for run in runs) for metric in runs[0]}

    def cell(self, summary: Metrics) -> str:
        raise NotImplementedError

    def goal(self, workload: Workload) -> str:
        """The goal as the table names it, "" where there is none."""
        return ""

    def met(self, workload: Workload, summary: Metrics) -> bool:
        return True
