"""Timers: how late, or early, a sleep ends on a loop that has nothing else to do."""

import asyncio
import statistics
from time import perf_counter

from .family import Family, LoopFactory, Metrics, Workload

DELAYS_MS = (0.2, 0.5, 1, 2, 5, 10)
GOAL_US = 40


class Timers(Family):
    name = "timers"
    title = "Timers on an idle loop: us late, median / worst, and how many fired early"

    def summarise(self, runs: list[Metrics], stock: list[Metrics]) -> Metrics:
        return {
            **super().summarise(runs, stock),
            "worst_us": max(run["worst_us"] for run in runs),
            "early": sum(run["early"] for run in runs),
            "count": sum(run["count"] for run in runs),
        }

    def cell(self, summary: Metrics) -> str:
        early = f" {summary['early']} of {summary['count']} early" if summary["early"] else ""
        return f"{summary['median_us']:,.0f} / {summary['worst_us']:,.0f}{early}"

    def goal(self, workload: Workload) -> str:
        return f"{workload.goal:g} us"

    def met(self, workload: Workload, summary: Metrics) -> bool:
        return summary["median_us"] <= workload.goal and not summary["early"]


def lateness(delay: float):
    async def sleeps(count: int) -> list[float]:
        late = []
        for _ in range(count):
            start = perf_counter()
            await asyncio.sleep(delay)
            late.append(perf_counter() - start - delay)
        return late

    def measure(new_event_loop: LoopFactory, seconds: float) -> Metrics:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(sleeps(5))
            late = runner.run(sleeps(round(min(max(seconds / delay, 10), 200))))
        return {
            "median_us": statistics.median(late) * 1e6,
            "worst_us": max(late) * 1e6,
            "early": len([t for t in late if t < 0]),
            "count": len(late),
        }

    return measure


FAMILY = Timers()
for ms in DELAYS_MS:
    FAMILY.workloads.append(Workload(FAMILY, f"sleep {ms} ms", lateness(ms / 1e3), goal=GOAL_US))
