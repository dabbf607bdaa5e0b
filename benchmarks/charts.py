"""--charts: pictures of the results, as SVG for documents and PNG for eyes (needs matplotlib)."""

import functools
from pathlib import Path
from typing import Any

from .family import Family, Workload
from .loops import LIMIT
from .record import Record
from .report import by_family, verdict
from .rounds import Results

MISSING = "charts are left out: matplotlib is not installed (pip install --group bench)"

FASTER, SAME, SLOWER = "#2a7f9e", "#9aa5ab", "#c8323c"
PEERS = {
    "uvloop": ("D", "#e09f3e"),
    "zuvloop": ("s", "#7b5ea7"),
    "rsloop": ("^", "#5a9367"),
    "rloop": ("v", "#8c564b"),
    "blazio": ("P", "#d67ab1"),
    LIMIT: ("|", "#111111"),
}
STYLE = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "hotloop",  # the same results make the same file
    "figure.facecolor": "white",
}


@functools.cache
def plotting() -> Any:
    """matplotlib.pyplot, only when it is wanted, as it takes a second to import; None without it."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def name(what: str, record: Record) -> str:
    """Of a chart's file, without the ending."""
    return f"{what}-py{'.'.join(record.machine['python'].split('.')[:2])}"


def draw(folder: str, records: list[Record]) -> None:
    """For each record: the headlines, every family's ratios, and how late timers are."""
    if plotting() is None:
        print(f"\n{MISSING}")
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    with plotting().rc_context(STYLE):
        for record in records:
            headlines = {w: row for w, row in record.results.items() if w.headline}
            for what, results in [("headlines", headlines), *families(record.results)]:
                draw_ratios(Path(folder) / name(what, record), record, results, what)
            draw_lateness(Path(folder) / name("timers", record), record)


def families(results: Results) -> list[tuple[str, Results]]:
    return [(f.name, found) for f, found in by_family(results) if f.name != "timers"]


def save(figure: Any, path: Path) -> None:
    figure.savefig(path.with_name(path.name + ".svg"), metadata={"Date": None})
    figure.savefig(path.with_name(path.name + ".png"), dpi=110)
    plotting().close(figure)


# ---- times as fast as asyncio ----


def draw_ratios(path: Path, record: Record, results: Results, what: str) -> None:
    """A bar for hotloop, with its interval, and a mark for every other loop."""
    shown = {w: row for w, row in results.items() if "ratio" in summary(row, "hotloop")}
    if not shown:
        return
    places = positions(list(shown))
    figure, axes = plotting().subplots(
        figsize=(10, 1.5 + 0.23 * (max(places.values()) + 1)), layout="constrained"
    )
    for workload, row in shown.items():
        draw_row(axes, places[workload], row)
    label_rows(axes, places)
    label_axis(axes, shown)
    head(figure, "hotloop, times as fast as stock asyncio", record)
    legend(axes, shown)
    save(figure, path)


def summary(row: dict, loop: str) -> dict:
    return row[loop].summary if loop in row else {}


def positions(workloads: list[Workload]) -> dict[Workload, int]:
    """A line for each, from the top, with one left free for each family's heading."""
    places, line, family = {}, -1, None
    for workload in workloads:
        line += 1 if workload.family is family else 2
        family = workload.family
        places[workload] = line
    return places


def draw_row(axes: Any, place: int, row: dict) -> None:
    ours = summary(row, "hotloop")
    ratio, low, high = ours["ratio"], ours["low"], ours["high"]
    color = FASTER if low > 1 else SLOWER if high < 1 else SAME
    # From 1, so that a loss points to the other side.
    axes.barh(place, ratio - 1, left=1, height=0.62, color=color, zorder=2)
    axes.plot([low, high], [place, place], color="#10333f", linewidth=1.4, zorder=4)
    say(axes, place, f"{ratio:.2f}x", verdict(row))
    for loop, (marker, color) in PEERS.items():
        if "ratio" in summary(row, loop):
            axes.plot(
                row[loop].summary["ratio"],
                place,
                marker,
                color=color,
                markersize=9 if loop == LIMIT else 4.5,
                markeredgewidth=2 if loop == LIMIT else 0.5,
                zorder=3,
            )


def say(axes: Any, place: int, ratio: str, words: str) -> None:
    """At the right edge: the ratio, and what a reader must not overlook."""
    lost = words.startswith("slower")
    for text, indent, color in ((ratio, 8, "#222222"), (words if lost else "", 44, SLOWER)):
        axes.annotate(
            text,
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(indent, 0),
            textcoords="offset points",
            va="center",
            color=color,
            fontsize=8,
            annotation_clip=False,
        )


def label_rows(axes: Any, places: dict[Workload, int]) -> None:
    axes.set_yticks(list(places.values()), [workload.name for workload in places])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(max(places.values()) + 0.7, -0.6)
    for family, place in first_places(places).items():
        text = family.title.split(":")[0]
        axes.annotate(
            text,
            (0, place - 1),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontweight="bold",
        )


def first_places(places: dict[Workload, int]) -> dict[Family, int]:
    found: dict[Family, int] = {}
    for workload, place in places.items():
        found.setdefault(workload.family, place)
    return found


def label_axis(axes: Any, shown: Results) -> None:
    values = [
        value
        for row in shown.values()
        for result in row.values()
        for key in ("ratio", "low", "high")
        if (value := result.summary.get(key))
    ]
    low, high = min(*values, 0.9), max(*values, 1.5)
    axes.set_xscale("log")
    axes.set_xlim(low * 0.9, high * 1.15)
    ticks = [
        t for t in (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 40) if low * 0.9 <= t <= high * 1.15
    ]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.axvline(1, color="#444444", linewidth=1, zorder=1)
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.7, zorder=0)
    axes.set_axisbelow(True)
    axes.set_xlabel("log scale; lines are 95 % intervals")


def legend(axes: Any, shown: Results) -> None:
    """Only what is in the picture."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    ours = [row["hotloop"].summary for row in shown.values()]
    entries = [Patch(color=FASTER, label="hotloop, faster")]
    if any(s["low"] <= 1 <= s["high"] for s in ours):
        entries.append(Patch(color=SAME, label="hotloop, no difference"))
    if any(s["high"] < 1 for s in ours):
        entries.append(Patch(color=SLOWER, label="hotloop, slower"))
    for loop, (marker, color) in PEERS.items():
        if any("ratio" in summary(row, loop) for row in shown.values()):
            entries.append(
                Line2D([], [], linestyle="", marker=marker, color=color, label=loop, markersize=6)
            )
    axes.figure.legend(
        handles=entries, loc="outside lower center", ncols=len(entries), frameon=False, fontsize=8
    )


def head(figure: Any, title: str, record: Record) -> None:
    about = record.machine
    system = " ".join(about["system"].split("-")[:2])
    rounds = f"{record.settings['rounds']} rounds"
    facts = f"Python {about['python']}, {about['cpu']}, {about['cores']} cores, {system}, {rounds}"
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    figure.axes[0].set_title(facts, loc="left", fontsize=8, color="#555555")


# ---- timers ----


def draw_lateness(path: Path, record: Record) -> None:
    """Lateness by delay: the median as a line, up to the 99th percentile as a shade."""
    results = {w: row for w, row in record.results.items() if w.family.name == "timers"}
    if len(results) < 2:
        return
    delays = [float(workload.name.split()[1]) for workload in results]
    figure, axes = plotting().subplots(figsize=(7, 4), layout="constrained")
    for loop in record.loops:
        found = [summary(row, loop) for row in results.values()]
        if not all(found):
            continue
        color = {"asyncio": SAME, "hotloop": FASTER}.get(loop) or PEERS.get(loop, ("", "#555555"))[
            1
        ]
        middle = [s["p50"] for s in found]
        axes.plot(delays, middle, "o-", color=color, markersize=4, label=loop, zorder=3)
        axes.fill_between(delays, middle, [s["p99"] for s in found], color=color, alpha=0.15)
    axes.set_xscale("log")
    axes.set_xticks(delays, [f"{delay:g}" for delay in delays])
    axes.set_xticks([], minor=True)
    axes.set_yscale("symlog", linthresh=100)
    highest = axes.get_ylim()[1]
    ticks = [t for t in (-1000, 0, 50, 100, 200, 500, 1000, 2000, 5000, 10000) if t <= highest]
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.grid(color="#e5e5e5", linewidth=0.7)
    axes.set_xlabel("asyncio.sleep(), ms")
    axes.set_ylabel("us late: median, shaded up to p99")
    head(figure, "How late asyncio.sleep() returns on an idle loop", record)
    axes.legend(frameon=False)
    save(figure, path)
