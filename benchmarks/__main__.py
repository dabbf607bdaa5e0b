"""The command line: ``python -m benchmarks``."""

import argparse
import sys

from . import FAMILIES, instructions, loops, report, rounds
from .family import Workload

# The loops of a quick run where --loops does not name others.
QUICK_LOOPS = ("asyncio", "hotloop", "uvloop")
OURS = ("asyncio", "hotloop")


def main() -> int:
    options = parse()
    if options.list:
        return list_all()
    if "hotloop" not in loops.installed():
        print("hotloop is not installed: pip install . (or make run)", file=sys.stderr)
    report.print_machine(options.loops)
    if options.instructions:
        return instructions.report(options.only, options.loops)
    results = rounds.measure(options.only, options.loops, options.rounds, options.seconds)
    report.print_results(results, options.loops)
    if options.json:
        settings = {"rounds": options.rounds, "seconds": options.seconds}
        report.write_json(options.json, results, options.loops, settings)
    return exit_code(results, options.check)


def exit_code(results: rounds.Results, check: bool) -> int:
    """1 if hotloop or asyncio failed; with --check also if hotloop missed a goal."""
    failed = any(row[name].error for row in results.values() for name in OURS if name in row)
    missed = check and not all(row["hotloop"].met for row in results.values())
    return int(failed or missed)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compares hotloop with stock asyncio and other event loops that are installed.",
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument(
        "--only", metavar="TEXT,...", help="workloads whose FAMILY/NAME contains one of the texts"
    )
    parser.add_argument("--loops", metavar="NAME,...", help="instead of all that are installed")
    parser.add_argument("--rounds", type=int, help="5, or 3 with --quick")
    parser.add_argument(
        "--json", metavar="OUT", help="write every run and the summaries there too"
    )
    parser.add_argument("--check", action="store_true", help="exit 1 if hotloop misses a goal")
    parser.add_argument(
        "--list", action="store_true", help="list the workloads and loops, run none"
    )
    parser.add_argument(
        "--instructions",
        action="store_true",
        help="count instructions per operation instead of time (perf or valgrind)",
    )
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = 3 if options.quick else 5
    options.seconds = 0.03 if options.quick else 0.25
    try:
        options.loops = choose_loops(options.loops, options.quick)
        options.only = choose_workloads(options.only)
    except ValueError as error:
        parser.error(str(error))
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    if options.check and "hotloop" not in options.loops:
        parser.error("--check: hotloop is not installed or not among --loops")
    return options


def choose_loops(names: str | None, quick: bool) -> list[str]:
    found = loops.installed()
    if names is None:
        return [name for name in found if not quick or name in QUICK_LOOPS]
    chosen = list(dict.fromkeys(names.split(",")))
    if missing := set(chosen) - set(found):
        raise ValueError(f"--loops: not installed: {', '.join(sorted(missing))}")
    return chosen


def choose_workloads(texts: str | None) -> list[Workload]:
    every = [workload for family in FAMILIES for workload in family.workloads]
    if texts is None:
        return every
    wanted = texts.lower().split(",")
    chosen = [w for w in every if any(text in w.path.lower() for text in wanted)]
    if not chosen:
        raise ValueError(f"--only: no workload's name contains {texts!r} (see --list)")
    return chosen


def list_all() -> int:
    for family in FAMILIES:
        rows = [[workload.path, family.goal(workload)] for workload in family.workloads]
        report.print_table(family.title, ["", "goal"], rows)
    missing = [name for name in loops.NAMES if name not in loops.installed()]
    print("\nLoops: " + ", ".join(loops.installed()))
    if missing:
        print("Not installed: " + ", ".join(missing))
    return 0


if __name__ == "__main__":
    sys.exit(main())
