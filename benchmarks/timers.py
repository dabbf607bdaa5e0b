"""Timers: how late, or early, a sleep ends on a loop that has nothing else to do."""

import asyncio
import statistics
from collections.abc import Callable
from time import perf_counter

from . import stats
from .family import Family, LoopFactory, Metrics, Workload

DELAYS_MS = (0.2, 0.5, 1, 2, 5, 10, 20, 50)
GOAL_US = 40
LEAST = 8  # sleeps in a run
MOST = 200


class Timers(Family):
    name = "timers"
    title = "Timers on an idle loop: us late, p50 / p90 / p99 / worst, and how many fired early"
    unit = "us late"
    cost = "median_us"

    def summarise(self, runs: list[Metrics], stock: list[Metrics]) -> Metrics:
        late = [lateness for run in runs for lateness in run["late_us"]]
        return {
            **super().summarise(runs, stock),
            "p50": statistics.median(late),
            "p90": stats.percentile(late, 0.9),
            "p99": stats.percentile(late, 0.99),
            "worst_us": max(late),
            "early": sum(lateness < 0 for lateness in late),
            "count": len(late),
        }

    def cell(self, summary: Metrics) -> str:
        early = f" {summary['early']} of {summary['count']} early" if summary["early"] else ""
        shown = (f"{summary[key]:,.0f}" for key in ("p50", "p90", "p99", "worst_us"))
        return " / ".join(shown) + early

    def goal(self, workload: Workload) -> str:
        return f"{workload.goal:g} us"

    def met(self, workload: Workload, summary: Metrics) -> bool:
        return summary["p50"] <= workload.goal and not summary["early"]


def lateness(delay: float) -> Callable[[LoopFactory, float], Metrics]:
    async def sleeps(count: int) -> list[float]:
        late = []
        for _ in range(count):
            start = perf_counter()
            await asyncio.sleep(delay)
            late.append(perf_counter() - start - delay)
        return late

    def measure(new_event_loop: LoopFactory, seconds: float) -> Metrics:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(sleeps(2))
            late = runner.run(sleeps(round(min(max(seconds / delay, LEAST), MOST))))
        late_us = [round(seconds * 1e6, 1) for seconds in late]
        return {"median_us": statistics.median(late_us), "late_us": late_us}

    return measure


FAMILY = Timers()
for ms in DELAYS_MS:
    FAMILY.workloads.append(
        Workload(
            FAMILY, f"sleep {ms} ms", lateness(ms / 1e3), goal=GOAL_US, headline=ms in (0.5, 5)
        )
    )
