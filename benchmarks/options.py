"""The command line's options: what they are called, mean, and refuse."""

import argparse
import re
from dataclasses import dataclass, field

from . import compare, families, loops
from .family import Workload

# Where --loops names none, the loops that run everything; others run the headlines, and not if quick.
MAIN_LOOPS = ("asyncio", "hotloop", "uvloop")

EPILOG = """\
A workload's result is the median over the rounds; a ratio is the median of the rounds' ratios to
asyncio, with a 95 % bootstrap interval. --compare: a workload got slower if the 99 % bootstrap
interval of (hotloop's cost / asyncio's now) / (the same then) lies wholly above 1 + THRESHOLD, and
does so again when it is measured once more; the exit code is then 1."""


@dataclass
class Options:
    """As parsed and checked."""

    quick: bool
    all: bool
    only: list[Workload]
    loops: list[str]
    headlines_only: frozenset[str]  # of the loops
    rounds: int
    minutes: float
    json: str | None
    markdown: list[str]
    charts: str | None
    compare: str | None
    threshold: float
    stored: list[str] = field(default_factory=list)
    details: bool = False
    check: bool = False
    list: bool = False
    instructions: bool = False


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compares hotloop with stock asyncio and other event loops that are installed.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="the headline workloads, in under two minutes")
    add("--all", action="store_true", help="also what --list calls extra: half as many again")
    add("--only", metavar="TEXT,...", help="workloads whose FAMILY/NAME contains one of the texts")
    add(
        "--loops",
        metavar="NAME,...",
        help="instead of all that are installed, of which others than asyncio, hotloop and uvloop run "
        "only the headlines unless --only; NAME=MODULE:FACTORY measures a loop of your own",
    )
    add("--rounds", type=int, help="5, or 3 with --quick; fewer, but 3, if time runs out")
    add("--minutes", type=float, help="to take about so long: 12, or 1.6 with --quick")
    add("--json", metavar="OUT", help="write every run and the summaries there")
    add(
        "--markdown",
        metavar="FILE,...",
        default="",
        help="write tables there; a file with `<!-- benchmarks headlines -->` or `<!-- benchmarks "
        "all -->` and `<!-- /benchmarks -->` keeps what is around them",
    )
    add("--charts", metavar="DIR", help="draw charts there, as SVG and PNG (needs matplotlib)")
    add("--compare", metavar="OLD.json", help="say what got slower since, beyond noise")
    add(
        "--threshold",
        type=float,
        default=compare.THRESHOLD,
        help="what --compare forgives: 0.05 is 5 %%, the default",
    )
    add(
        "--from",
        dest="stored",
        metavar="FILE,...",
        default="",
        help="run nothing, tell of these --json files instead",
    )
    add("--details", action="store_true", help="CPU time, latencies and memory too")
    add("--check", action="store_true", help="exit 1 if hotloop misses a goal")
    add("--list", action="store_true", help="list the workloads and loops, run none")
    add(
        "--instructions",
        action="store_true",
        help="count instructions per operation instead of time (perf or valgrind)",
    )
    return parser


def parse(arguments: list[str] | None = None) -> Options:
    parser = make_parser()
    given = parser.parse_args(arguments)
    given.markdown = list(filter(None, given.markdown.split(",")))
    given.stored = list(filter(None, given.stored.split(",")))
    if given.rounds is None:
        given.rounds = 3 if given.quick else 5
    if given.minutes is None:
        given.minutes = 1.6 if given.quick else 12
    chosen = given.loops or given.only
    try:
        given.loops = choose_loops(given.loops, given.quick)
        given.only = choose_workloads(given.only, given.quick, given.all)
    except ValueError as error:
        parser.error(str(error))
    given.headlines_only = frozenset() if chosen else frozenset(given.loops).difference(MAIN_LOOPS)
    if given.rounds < 1:
        parser.error("--rounds: at least 1")
    if given.minutes <= 0 or given.threshold < 0:
        parser.error("--minutes and --threshold: not below 0")
    if (given.check or given.compare) and "hotloop" not in names(given.loops):
        parser.error("--check and --compare: hotloop is not installed or not among --loops")
    return Options(**vars(given))


def names(specs: list[str]) -> list[str]:
    return [loops.find(spec).name for spec in specs]


def choose_loops(texts: str | None, quick: bool) -> list[str]:
    found = loops.installed()
    if texts is None:
        return [name for name in found if not quick or name in MAIN_LOOPS]
    chosen = list(dict.fromkeys(texts.split(",")))
    if missing := [spec for spec in chosen if not loops.find(spec).is_installed()]:
        raise ValueError(f"--loops: not installed: {', '.join(missing)}")
    if len(set(names(chosen))) < len(chosen):
        raise ValueError("--loops: one name twice")
    return chosen


def choose_workloads(texts: str | None, quick: bool, extra: bool) -> list[Workload]:
    every = [w for family in families() for w in family.workloads if extra or not w.extra]
    if texts is None:
        return [workload for workload in every if workload.headline or not quick]
    wanted = re.split(r",(?! )", texts.lower())  # names have commas before spaces
    chosen = [w for w in every if any(text in w.path.lower() for text in wanted)]
    if not chosen:
        raise ValueError(
            f"--only: no workload's name contains {texts!r} (see --list; --all for what is extra)"
        )
    return chosen
