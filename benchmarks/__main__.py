"""The command line: ``python -m benchmarks``."""

import sys

from . import charts, compare, families, instructions, loops, machine, markdown, report, rounds
from .family import Workload
from .options import Options, names, parse
from .record import Record
from .services import running

OURS = ("asyncio", "hotloop")


def main() -> int:
    options = parse()
    if options.list:
        return list_all()
    try:
        if options.stored:
            return tell_stored(options)
        return run(options)
    except ValueError as error:  # a file that is not what it should be
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def run(options: Options) -> int:
    if "hotloop" not in names(options.loops):
        print("hotloop is not installed: pip install . (or make run)", file=sys.stderr)
    old = options.compare and read_old(options)
    about = machine.about(options.loops)
    report.print_machine(about)
    runnable = [workload for workload in options.only if not workload.why_not()]
    if options.instructions:
        with running(runnable):
            return instructions.report(runnable, options.loops)
    record = measure(options, runnable, about)
    tell([record], options)
    slower = compare_with(old, record, options) if old else []
    return exit_code(record, options.check) or int(bool(slower))


def measure(options: Options, workloads: list[Workload], about: dict) -> Record:
    """One measurement of these workloads, with the reasons why others are left out."""
    results = rounds.empty(workloads, options.loops, options.headlines_only)
    plan = rounds.Plan.make(rounds.weight(results), options.rounds, options.minutes)
    print(plan.about(results), flush=True)
    with running(workloads):
        taken = rounds.measure(results, plan)
    settings = {"rounds": taken, "seconds": plan.seconds}
    skipped = {w.path: reason for w in options.only if (reason := w.why_not())}
    return Record(about, settings, names(options.loops), results, skipped)


def tell(records: list[Record], options: Options) -> None:
    """In all the forms that were asked for."""
    for record in records:
        report.print_record(record, options.details)
    if options.json and not options.stored:
        records[0].write(options.json)
    if options.charts:
        charts.draw(options.charts, records)
    for path in options.markdown:
        markdown.write(path, records, options.charts)


def tell_stored(options: Options) -> int:
    """--from: of records made earlier, or on other Pythons."""
    records = [Record.read(path, options.only) for path in options.stored]
    for record in records:
        report.print_machine(record.machine)
    tell(records, options)
    if not options.compare:
        return 0
    found = compare.changes(read_old(options).results, records[0].results)
    slower = [change for change in found if change.slower(options.threshold)]
    compare.print_changes(options.compare, found, slower, options.threshold)
    return int(bool(slower))


def read_old(options: Options) -> Record:
    return Record.read(options.compare, options.only)


def compare_with(old: Record, new: Record, options: Options) -> list[compare.Change]:
    """What got slower, and is again when it is measured once more."""
    for difference in compare.unlike(old, new):
        print(f"\nBeware, {options.compare} is of another machine: {difference}")
    found = compare.changes(old.results, new.results)
    slower = [change for change in found if change.slower(options.threshold)]
    if slower:
        again = measure(options, [change.workload for change in slower], new.machine)
        twice = compare.changes(old.results, again.results)
        slower = [change for change in twice if change.slower(options.threshold)]
    compare.print_changes(options.compare, found, slower, options.threshold)
    return slower


def exit_code(record: Record, check: bool) -> int:
    """1 if hotloop or asyncio failed; with --check also if hotloop missed a goal."""
    rows = record.results.values()
    failed = any(row[name].error for row in rows for name in OURS if name in row)
    missed = check and not all(row["hotloop"].met for row in rows)
    return int(failed or missed)


def list_all() -> int:
    for family in families():
        rows = [
            [w.path, family.goal(w), "quick" * w.headline + "extra" * w.extra, w.why_not()]
            for w in family.workloads
        ]
        report.print_table(family.title, ["", "goal", "", ""], rows)
    missing = [name for name in loops.NAMES if name not in loops.installed()]
    print("\nLoops: " + ", ".join(loops.installed()))
    if missing:
        print("Not installed: " + ", ".join(missing))
    return 0


if __name__ == "__main__":
    sys.exit(main())
