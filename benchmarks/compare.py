"""--compare: what hotloop does more slowly than in an earlier record, beyond noise.

The test: in each round, hotloop's cost is divided by asyncio's, so that a machine that has become
slower as a whole says nothing. The median of these ratios now is divided by that of the earlier
record, with a 99 % bootstrap interval that has the noise of both in it. A workload has become
slower if the whole interval lies above 1 + THRESHOLD. As some of a hundred workloads look slower
by chance, those found are measured once more, and count only if they are slower again.
"""

from dataclasses import dataclass

from . import stats
from .family import Workload, number
from .record import Record
from .report import Row, print_table
from .rounds import Results

THRESHOLD = 0.05

# What makes two records comparable only with a grain of salt.
SAME = ("cpu", "cores", "python")


@dataclass(frozen=True)
class Change:
    """One workload's cost now, in units of what it was."""

    workload: Workload
    factor: stats.Estimate

    def slower(self, threshold: float) -> bool:
        return self.factor.low > 1 + threshold

    def faster(self, threshold: float) -> bool:
        return self.factor.high < 1 / (1 + threshold)

    def agrees(self) -> bool:
        """The two measurements say the same within their noise."""
        return self.factor.low <= 1 <= self.factor.high


def changes(old: Results, new: Results) -> list[Change]:
    """Of the workloads that hotloop has done in both."""
    found = []
    for workload, row in new.items():
        earlier = old.get(workload, {})
        metric = workload.family.cost
        relative = all(good(r, "asyncio") for r in (row, earlier))
        before, now = costs(earlier, metric, relative), costs(row, metric, relative)
        if before and now:
            found.append(Change(workload, stats.quotient(now, before)))
    return found


def costs(row: Row, metric: str, relative: bool) -> list[float]:
    """hotloop's in each round, in units of asyncio's if both records have that."""
    ours = good(row, "hotloop") if metric else []
    if relative:
        return stats.ratios(ours, row["asyncio"].runs, metric)
    return [run[metric] for run in ours if run[metric] > 0]


def good(row: Row, loop: str) -> list[dict]:
    return row[loop].runs if loop in row and not row[loop].error else []


def unlike(old: Record, new: Record) -> list[str]:
    """In what the two records' machines differ."""
    pairs = [(key, old.machine.get(key), new.machine.get(key)) for key in SAME]
    return [f"{key} was {before}, is {now}" for key, before, now in pairs if before != now]


def print_changes(path: str, found: list[Change], slower: list[Change], threshold: float) -> None:
    """`slower` are those confirmed by a second measurement."""
    rows = [row(change, "SLOWER") for change in slower]
    rows += [row(change, "faster") for change in found if change.faster(threshold)]
    title = f"Compared with {path}: cost now / then [99 % interval]"
    if rows:
        print_table(title, ["", "", ""], rows)
    else:
        print(f"\n{title}: nothing changed beyond noise and {threshold:.0%}")
    agreeing = sum(map(Change.agrees, found))
    print(f"{agreeing} of {len(found)} workloads agree: their intervals contain 1")


def row(change: Change, what: str) -> list[str]:
    factor = change.factor
    interval = f"{number(factor.median)}x [{number(factor.low)}-{number(factor.high)}]"
    return [change.workload.path, interval, what]
