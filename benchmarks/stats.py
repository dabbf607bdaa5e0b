"""The statistics: medians, bootstrap intervals, and the test by which --compare judges.

Rounds are few and their noise is not normal, so nothing here assumes a distribution: values are
drawn from those measured, with replacement, again and again, and the interval is where the medians
of those draws lie. The generator is seeded, so that the same runs always read the same.
"""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 1000
LEVEL = 0.95  # of the intervals in tables and charts
COMPARE_LEVEL = 0.99  # of the interval that decides whether something got slower


@dataclass(frozen=True)
class Estimate:
    """A median with the ends of its interval."""

    median: float
    low: float
    high: float


def resampled_medians(values: Sequence[float], generator: random.Random) -> list[float]:
    size = len(values)
    return [statistics.median(generator.choices(values, k=size)) for _ in range(RESAMPLES)]


def between(values: Sequence[float], level: float) -> tuple[float, float]:
    """The ends of the range that holds this share of the values, as much left out on each side."""
    ordered = sorted(values)
    skipped = int(len(ordered) * (1 - level) / 2)
    return ordered[skipped], ordered[-1 - skipped]


def estimate(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """The median and its bootstrap interval."""
    low, high = between(resampled_medians(values, random.Random(0)), level)
    return Estimate(statistics.median(values), low, high)


def ratios(base: Sequence[dict], runs: Sequence[dict], metric: str) -> list[float]:
    """How many times the run's cost the base's was, round by round: a round's runs are close in
    time, so what slows the machine down slows both. Timers that fire early have negative costs:
    no ratio says anything of those."""
    pairs = [(b[metric], r[metric]) for b, r in zip(base, runs, strict=False)]
    return [b / r for b, r in pairs if b > 0 and r > 0]


def quotient(new: Sequence[float], old: Sequence[float], level: float = COMPARE_LEVEL) -> Estimate:
    """The new median divided by the old one, with an interval that has both sides' noise in it."""
    generator = random.Random(0)
    pairs = zip(resampled_medians(new, generator), resampled_medians(old, generator), strict=True)
    low, high = between([n / o for n, o in pairs], level)
    return Estimate(statistics.median(new) / statistics.median(old), low, high)


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that this share of them does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
