"""--markdown: the tables for the README and the documentation.

A file that has these lines keeps all that is around them; any other is written as a whole, with the
details folded away:

    <!-- benchmarks headlines -->   or   <!-- benchmarks all -->
    <!-- /benchmarks -->
"""

import os
import re
from pathlib import Path

from . import charts, machine, report
from .family import number, times
from .loops import LIMIT
from .record import Record
from .report import Row

BLOCK = re.compile(r"(<!-- benchmarks (headlines|all) -->\n).*?(<!-- /benchmarks -->)", re.DOTALL)


def write(path: str, records: list[Record], charts_folder: str | None = None) -> None:
    """`charts_folder` is where the charts are, for the file to show them."""
    file = Path(path)
    present = file.read_text() if file.exists() else ""
    links = chart_links(file, records, charts_folder)
    forms = {"headlines": headlines, "all": everything}

    def fill(found: re.Match) -> str:
        return f"{found[1]}\n{forms[found[2]](records, links)}\n{found[3]}"

    if BLOCK.search(present):
        file.write_text(BLOCK.sub(fill, present))
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"# Benchmarks\n\n{everything(records, links, details=True)}")


def chart_links(file: Path, records: list[Record], folder: str | None) -> list[str]:
    """For each record an image of its headlines, "" where there is none."""
    if not folder:
        return [""] * len(records)
    relative = Path(os.path.relpath(folder, file.parent))
    links = []
    for record in records:
        name = charts.name("headlines", record) + ".svg"
        alt = f"times as fast as asyncio, Python {python(record)}"
        shown = (Path(folder) / name).exists()
        links.append(f"![{alt}]({(relative / name).as_posix()})\n\n" if shown else "")
    return links


def python(record: Record) -> str:
    return ".".join(record.machine["python"].split(".")[:2])


def headlines(records: list[Record], links: list[str]) -> str:
    """One table of the most telling workloads: for each record, how many times as fast as asyncio
    hotloop is, and the fastest of the others."""
    header = [""]
    for record in records:
        header += [f"hotloop, Python {python(record)}", others(record)]
    family, rows = None, []
    for workload in dict.fromkeys(w for r in records for w in r.results if w.headline):
        if workload.family is not family:
            family = workload.family
            rows.append([f"**{family.title.split(':')[0]}**", *[""] * (len(header) - 1)])
        cells = []
        for record in records:
            row = record.results.get(workload, {})
            cells += [headline_cell(row), fastest_other(row)]
        rows.append([workload.name, *cells])
    about = "\n".join(f"- {line}" for r in records for line in origin(r))
    return f"{''.join(links[:1])}{markdown_table(header, rows)}\n{about}\n"


def others(record: Record) -> str:
    """What the column of the fastest of them is called."""
    names = [name for name in record.loops if name not in ("asyncio", "hotloop", LIMIT)]
    return names[0] if len(names) == 1 else "fastest other loop"


def headline_cell(row: Row) -> str:
    """12.8x [12.1-13.3], with both costs and every loss."""
    if "hotloop" not in row:
        return ""
    result = row["hotloop"]
    summary, family = result.summary, result.workload.family
    if result.error or "ratio" not in summary:
        return report.cell(result)
    before = number(row["asyncio"].summary[family.cost])
    costs = f"{before} to {number(summary[family.cost])} {family.unit}"
    verdict = report.verdict(row)
    loss = f", **{verdict}**" if verdict.startswith("slower") else ""
    return f"{times(summary)}, {costs}{loss}"


def fastest_other(row: Row) -> str:
    ratios = {
        loop: result.summary["ratio"]
        for loop, result in row.items()
        if loop not in ("hotloop", LIMIT) and "ratio" in result.summary
    }
    best = max(ratios, key=ratios.get, default="")
    return f"{best} {ratios[best]:.2f}x" if best else ""


def everything(records: list[Record], links: list[str], details: bool = False) -> str:
    """All tables of all records."""
    return "\n".join(
        f"### Python {record.machine['python']}\n\n{link}{sections(record, details)}"
        for record, link in zip(records, links, strict=True)
    )


def sections(record: Record, details: bool) -> str:
    parts = ["\n".join(f"- {line}" for line in origin(record)) + "\n"]
    for family, results in report.by_family(record.results):
        header, rows = report.table(results, record.loops)
        parts.append(f"**{family.title}**\n\n{markdown_table(header, bold_losses(rows))}")
        if details and (found := report.details_table(results)):
            parts.append(
                f"<details><summary>{family.name}, in detail</summary>\n\n"
                f"{markdown_table(*found)}\n</details>\n"
            )
    parts += [f"- {remark}" for remark in report.remarks(record)]
    return "\n".join(parts) + "\n"


def origin(record: Record) -> list[str]:
    settings = record.settings
    how = f"{settings['rounds']} rounds of {settings['seconds']:g} s a run"
    warning = machine.why_not_quiet(record.machine)
    return [*machine.describe(record.machine), how, *[warning] * bool(warning)]


def bold_losses(rows: list[list[str]]) -> list[list[str]]:
    return [
        [f"**{cell}**" if cell.startswith("slower than") else cell for cell in row] for row in rows
    ]


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    alignment = ["---", *["---:"] * (len(header) - 1)]
    lines = (header, alignment, *rows)
    return "".join(
        f"| {' | '.join(cell.replace('|', ' ') for cell in line)} |\n" for line in lines
    )
