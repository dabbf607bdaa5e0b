"""The benchmark's statistics, and what its reports make of them."""

import pytest

from benchmarks import compare, machine, markdown, report, stats
from benchmarks.family import Family, Workload, number
from benchmarks.record import Record
from benchmarks.rounds import LEAST_ROUNDS, OVERHEAD_S, Plan, Result, summarise


class Seconds(Family):
    name = "test"
    title = "Test: s"
    unit = "s"
    cost = "s"


FAMILY = Seconds()
WORKLOAD = Workload(FAMILY, "work", measure=None, goal=2, headline=True)


def row_of(**costs):
    """A row of the results: the costs of each loop, round by round."""
    row = {loop: Result(WORKLOAD, loop, [{"s": s} for s in each]) for loop, each in costs.items()}
    summarise(row)
    return row


def record_of(**costs):
    machine = {"cpu": "c", "cores": 2, "system": "s", "python": "3.11.7", "compiler": "cc"}
    settings = {"rounds": 5, "seconds": 0.1}
    return Record({**machine, "loops": {}}, settings, list(costs), {WORKLOAD: row_of(**costs)})


def test_an_estimate_is_the_median_with_an_interval_around_it():
    found = stats.estimate([1.0, 2.0, 3.0, 4.0, 100.0])
    assert found.median == 3
    assert 1 <= found.low < 3 < found.high <= 100
    assert found == stats.estimate([1.0, 2.0, 3.0, 4.0, 100.0])  # the same runs, the same text


def test_the_interval_narrows_with_more_values_and_less_noise():
    few, many = stats.estimate([1, 2, 3, 4, 5]), stats.estimate([1, 2, 3, 4, 5] * 20)
    assert many.high - many.low < few.high - few.low
    assert stats.estimate([7.0] * 5) == stats.Estimate(7, 7, 7)


def test_the_interval_covers_the_true_median_about_as_often_as_it_says():
    import random

    generator = random.Random(1)
    covered = 0
    for _ in range(200):
        found = stats.estimate([generator.gauss(10, 1) for _ in range(9)])
        covered += found.low <= 10 <= found.high
    assert 170 <= covered <= 200


def test_ratios_are_taken_round_by_round():
    stock = [{"s": 2.0}, {"s": 20.0}, {"s": 2.0}]  # the machine was slow in round two
    runs = [{"s": 1.0}, {"s": 10.0}, {"s": 1.0}]
    assert stats.ratios(stock, runs, "s") == [2, 2, 2]
    assert stats.ratios([{"s": -1.0}], [{"s": 1.0}], "s") == []  # a timer that fired early


def test_percentile():
    values = list(range(100, 0, -1))
    assert stats.percentile(values, 0.5) == 51
    assert stats.percentile(values, 0.99) == 100
    assert stats.percentile([5.0], 0.99) == 5


@pytest.mark.parametrize(
    ("costs", "told"),
    [
        ({"asyncio": [2, 2.1, 1.9, 2, 2], "hotloop": [1] * 5}, "faster"),
        ({"asyncio": [1] * 5, "hotloop": [2] * 5}, "slower than asyncio"),
        ({"asyncio": [1, 1.2, 0.9, 1, 1.1], "hotloop": [1, 1, 1.1, 0.9, 1]}, "like asyncio"),
        ({"asyncio": [3] * 5, "hotloop": [2] * 5, "uvloop": [1] * 5}, "slower than uvloop"),
        ({"asyncio": [3] * 5, "hotloop": [1] * 5, "uvloop": [2] * 5}, "fastest"),
        ({"asyncio": [3, 3], "hotloop": [1, 1]}, "too few rounds to say"),
        ({"asyncio": [3] * 5}, ""),
    ],
)
def test_the_verdict_leaves_no_loss_out(costs, told):
    assert report.verdict(row_of(**costs)) == told


def test_a_loss_is_bold_in_markdown(tmp_path):
    lost = record_of(asyncio=[1] * 5, hotloop=[2] * 5)
    for kind in ("headlines", "all"):
        path = tmp_path / f"{kind}.md"
        path.write_text(f"before\n<!-- benchmarks {kind} -->\nold\n<!-- /benchmarks -->\nafter\n")
        markdown.write(str(path), [lost])
        text = path.read_text()
        assert text.startswith("before\n<!-- benchmarks")
        assert text.endswith("<!-- /benchmarks -->\nafter\n")
        assert "**slower than asyncio**" in text and "0.50x [0.50-0.50]" in text
        assert "old" not in text


def test_the_column_of_others_says_which_were_measured():
    one = record_of(asyncio=[4] * 5, hotloop=[1] * 5, uvloop=[2] * 5)
    two = record_of(asyncio=[4] * 5, hotloop=[1] * 5, uvloop=[2] * 5, rsloop=[1] * 5)
    text = markdown.headlines([one, two], ["", ""])
    names = [cell.strip() for cell in text.splitlines()[0].split("|")]
    assert names[2:-1] == [
        "hotloop, Python 3.11",
        "uvloop",
        "hotloop, Python 3.11",
        "fastest other loop",
    ]
    assert "uvloop 2.00x" in text and "rsloop 4.00x" in text


def test_a_load_generator_that_was_the_limit_is_told():
    record = record_of(asyncio=[2] * 5, hotloop=[1] * 5)
    record.results[WORKLOAD]["hotloop"].summary["client_busy"] = 0.97
    (remark,) = report.remarks(record)
    assert remark.startswith("test/work on hotloop may be faster than told") and "97%" in remark


def test_a_busy_machine_is_told():
    assert machine.why_not_quiet({"busy": 0.02}) == machine.why_not_quiet({}) == ""
    assert "30% busy" in machine.why_not_quiet({"busy": 0.3})
    assert 0 <= machine.share_busy() <= 1


def test_goals():
    assert row_of(asyncio=[2] * 3, hotloop=[1] * 3)["hotloop"].met
    assert not row_of(asyncio=[1.9] * 3, hotloop=[1] * 3)["hotloop"].met


STEADY = {"asyncio": [2, 2.02, 1.98, 2, 2.01], "hotloop": [1, 1.01, 0.99, 1, 1]}


@pytest.mark.parametrize(
    ("now", "slower", "faster"),
    [
        (STEADY, False, False),
        ({**STEADY, "hotloop": [1.2, 1.21, 1.19, 1.2, 1.2]}, True, False),
        ({**STEADY, "hotloop": [0.8, 0.81, 0.79, 0.8, 0.8]}, False, True),
        ({**STEADY, "hotloop": [1.2, 1, 0.9, 1.3, 1.1]}, False, False),  # noise
        ({k: [3 * s for s in each] for k, each in STEADY.items()}, False, False),  # the machine
        ({"hotloop": [1.5] * 5}, True, False),  # without asyncio: the costs themselves
    ],
)
def test_compare(now, slower, faster):
    before = {WORKLOAD: row_of(**STEADY)}
    (change,) = compare.changes(before, {WORKLOAD: row_of(**now)})
    assert change.slower(0.05) == slower
    assert change.faster(0.05) == faster


def test_what_only_one_record_has_is_not_compared():
    row = row_of(**STEADY)
    assert compare.changes({}, {WORKLOAD: row}) == []
    assert compare.changes({WORKLOAD: row_of(asyncio=[1] * 5)}, {WORKLOAD: row}) == []


def test_a_plan_takes_about_the_time_given():
    plan = Plan.make(runs=300, rounds=5, minutes=12)
    assert 300 * 5 * (plan.seconds + OVERHEAD_S) == pytest.approx(12 * 60, rel=0.01)
    assert Plan.make(runs=1, rounds=5, minutes=12).seconds == 0.5  # no longer than makes sense
    assert Plan.make(runs=10_000, rounds=5, minutes=1).seconds >= 0.05
    assert LEAST_ROUNDS <= 3


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1,234"), (99.96, "100.0"), (12.345, "12.3"), (0.5, "0.50")]
)
def test_number(value, text):
    assert number(value) == text
