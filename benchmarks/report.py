"""What a person, or another program, reads of the results."""

import json
import os
import platform
import re
from pathlib import Path

from . import loops
from .rounds import Results


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    print(f"\n{title}")
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())


def print_results(results: Results, names: list[str]) -> None:
    for family in dict.fromkeys(workload.family for workload in results):
        rows = []
        for workload, row in results.items():
            if workload.family is family:
                cells = ["failed" if r.error else family.cell(r.summary) for r in row.values()]
                rows.append([workload.name, *cells, family.goal(workload)])
                if "hotloop" in row:
                    rows[-1].append("met" if row["hotloop"].met else "missed")
        verdict = ["hotloop"] if "hotloop" in names else []
        print_table(family.title, ["", *names, "goal", *verdict], rows)
    for row in results.values():
        for result in row.values():
            if result.error:
                print(f"\n{result.workload.path} on {result.loop} failed: {result.error}")


def machine(names: list[str]) -> dict:
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "loops": {name: loops.version(name) for name in names if name != "asyncio"},
    }


def cpu() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def print_machine(names: list[str]) -> None:
    about = machine(names)
    print(f"{about['cpu']}, {about['cores']} cores, {about['system']}")
    versions = [f"{name} {version}" for name, version in about["loops"].items()]
    print(", ".join([f"Python {about['python']}", *versions]))


def write_json(path: str, results: Results, names: list[str], options: dict) -> None:
    found = [
        {
            "family": result.workload.family.name,
            "workload": result.workload.name,
            "loop": result.loop,
            "summary": result.summary,
            "goal": result.workload.goal,
            "error": result.error,
            "runs": result.runs,
        }
        for row in results.values()
        for result in row.values()
    ]
    content = {"machine": machine(names), "options": options, "results": found}
    Path(path).write_text(json.dumps(content, indent=1) + "\n")
