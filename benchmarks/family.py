"""What a family of workloads is: how one is measured, and how its results are told."""

import asyncio
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

# What one run found. Besides the family's own: cpu_us, the processor time of an operation; p50, p99
# and p999, latencies in us that the load generator saw; rss_kib, the most memory the process had.
Metrics = dict[str, float]

# Says why a workload cannot run here, "" if it can.
Need = Callable[[], str]


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
    limit: Callable[[float], Metrics] | None = None  # the same by a server in C, without Python
    needs: tuple[Need, ...] = ()
    headline: bool = False  # also in --quick runs and in the README
    extra: bool = False  # only with --all
    service: str = ""  # a server that must run beside it, of services.py
    weight: float = 1  # how much more time than others it wants

    @property
    def path(self) -> str:
        return f"{self.family.name}/{self.name}"

    def why_not(self) -> str:
        """Why it cannot run here, "" if it can."""
        return next((reason for need in self.needs if (reason := need())), "")


class Family:
    """Workloads whose results are the same metrics and so fill one table."""

    name: str
    title: str  # heads the table: what its cells say
    unit: str = ""
    # The metric by which loops are compared, less being better; "" if they are not.
    cost: str = ""

    def __init__(self) -> None:
        self.workloads: list[Workload] = []

    def summarise(self, runs: list[Metrics], stock: list[Metrics]) -> Metrics:
        """One summary of the runs of all rounds; `stock` are asyncio's, round by round."""
        # Only here: the children do without, and start sooner.
        import statistics

        from . import stats

        summary = {
            metric: statistics.median(run[metric] for run in runs)
            for metric, value in runs[0].items()
            if not isinstance(value, list)
        }
        ratios = stats.ratios(stock, runs, self.cost) if self.cost else []
        if ratios:
            ratio = stats.estimate(ratios)
            summary |= {"ratio": ratio.median, "low": ratio.low, "high": ratio.high}
        return summary

    def cell(self, summary: Metrics) -> str:
        """The cost alone, for asyncio, or with the ratio to asyncio and its interval."""
        cost = number(summary[self.cost])
        if "ratio" not in summary:
            return cost
        return f"{cost}  {times(summary)}"

    def goal(self, workload: Workload) -> str:
        """The goal as the table names it, "" where there is none."""
        return f"{workload.goal:.3g}x" if workload.goal else ""

    def met(self, workload: Workload, summary: Metrics) -> bool:
        return not workload.goal or summary.get("ratio", workload.goal) >= workload.goal


def times(summary: Metrics) -> str:
    """12.83x [12.10-13.32]: the ratio to asyncio and its interval."""
    return f"{summary['ratio']:.2f}x [{summary['low']:.2f}-{summary['high']:.2f}]"


def number(value: float) -> str:
    """Three or four significant digits: 1,234 or 12.3 or 1.23."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def modules(*names: str) -> Need:
    """These must be installed."""

    def is_here(name: str) -> bool:
        try:
            return importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:  # nor its package
            return False

    def need() -> str:
        missing = [name for name in names if not is_here(name)]
        return f"{' and '.join(missing)} not installed" if missing else ""

    return need
