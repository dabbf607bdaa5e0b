"""The tables that a person reads in the terminal, and what the other reports share with them."""

from collections.abc import Iterator

from . import machine, stats
from .family import Family, number
from .loops import LIMIT
from .record import Record
from .rounds import LEAST_ROUNDS, Result, Results

Row = dict[str, Result]

# What every family may have found, and how --details heads it. RSS is in KiB.
DETAILS = {
    "cpu_us": "CPU us/op",
    "p50": "p50 us",
    "p99": "p99 us",
    "p999": "p99.9 us",
    "client_busy": "client busy",
    "rss_kib": "RSS MiB",
}


# Share of its time that the load generator needs, above which it holds the server back.
CLIENT_IS_THE_LIMIT = 0.95


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    print(f"\n{title}")
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())


def print_record(record: Record, details: bool) -> None:
    for family, results in by_family(record.results):
        header, rows = table(results, record.loops)
        print_table(family.title, header, rows)
        if details and (found := details_table(results)):
            print_table(f"{family.name}, in detail", *found)
    for remark in remarks(record):
        print(f"\n{remark}")


def print_machine(about: dict) -> None:
    print("\n".join(filter(None, [*machine.describe(about), machine.why_not_quiet(about)])))


def by_family(results: Results) -> Iterator[tuple[Family, Results]]:
    for family in dict.fromkeys(workload.family for workload in results):
        yield family, {w: row for w, row in results.items() if w.family is family}


def table(results: Results, loops: list[str]) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of one family: a cell for each loop, the goal, the verdict."""
    names = loops + [LIMIT] * any(LIMIT in row for row in results.values())
    goals = any(workload.family.goal(workload) for workload in results)
    ours = "hotloop" in loops
    header = ["", *names, *["goal"] * goals, *["hotloop is"] * ours]
    rows = []
    for workload, row in results.items():
        cells = [cell(row.get(name)) for name in names]
        cells += [goal(row)] * goals
        rows.append([workload.name, *cells, *[verdict(row)] * ours])
    return header, rows


def cell(result: Result | None) -> str:
    if result is None:
        return ""
    return "failed" if result.error else result.workload.family.cell(result.summary)


def goal(row: Row) -> str:
    workload = next(iter(row.values())).workload
    text = workload.family.goal(workload)
    if not text or "hotloop" not in row or "asyncio" not in row:
        return text
    return f"{text} {'met' if row['hotloop'].met else 'missed'}"


def verdict(row: Row) -> str:
    """Of hotloop: which loops it is slower than, beyond the interval; a loss is never left out."""
    ours = row.get("hotloop")
    others = [r for r in row.values() if r.loop not in ("hotloop", LIMIT) and not r.error]
    if not ours or ours.error or not others or not ours.workload.family.cost:
        return ""
    if len(ours.runs) < LEAST_ROUNDS:
        return "too few rounds to say"
    against = {other.loop: comparison(other, ours) for other in others}
    if losses := [name for name, ratio in against.items() if ratio and ratio.high < 1]:
        return f"slower than {', '.join(losses)}"
    equals = [name for name, ratio in against.items() if not ratio or ratio.low <= 1]
    return f"like {', '.join(equals)}" if equals else "fastest" if len(others) > 1 else "faster"


def comparison(other: Result, ours: Result) -> stats.Estimate | None:
    """How many times as fast as another loop ours is."""
    ratios = stats.ratios(other.runs, ours.runs, ours.workload.family.cost)
    return stats.estimate(ratios) if ratios else None


def details_table(results: Results) -> tuple[list[str], list[list[str]]] | None:
    """A row for each workload and loop, with a column for each metric that any of them has."""
    found = [r for row in results.values() for r in row.values() if not r.error]
    columns = {
        key: title for key, title in DETAILS.items() if any(key in r.summary for r in found)
    }
    if not columns:
        return None
    unit = found[0].workload.family.unit
    rows = []
    for result in found:
        cost = number(result.summary.get(result.workload.family.cost, 0))
        details = [detail(key, result.summary.get(key)) for key in columns]
        rows.append([result.workload.name, result.loop, cost, *details])
    return ["", "loop", unit, *columns.values()], rows


def detail(key: str, value: float | None) -> str:
    if value is None:
        return ""
    if key == "client_busy":
        return f"{value:.0%}"
    return number(value / 1024 if key == "rss_kib" else value)


def remarks(record: Record) -> list[str]:
    """What is not in the tables, and what casts doubt on them."""
    every = [result for row in record.results.values() for result in row.values()]
    limited = [r for r in every if r.summary.get("client_busy", 0) > CLIENT_IS_THE_LIMIT]
    return [
        *(f"{path} left out: {reason}" for path, reason in record.skipped.items()),
        *(f"{r.workload.path} on {r.loop} failed: {r.error}" for r in every if r.error),
        *(
            f"{r.workload.path} on {r.loop} may be faster than told: the load generator was busy "
            f"for {r.summary['client_busy']:.0%} of the time"
            for r in limited
        ),
    ]
