"""Means with intervals, and verdicts, against numbers from textbooks and scipy's own tests."""

import math

import pytest
from scipy import stats

from pipeline.core.statistics import compare, interval, paired


def test_the_interval_of_a_mean_is_students() -> None:
    found = interval([9.0, 10.0, 11.0])
    assert found is not None
    assert (found.mean, found.count) == (10.0, 3)
    half = 4.302653 / math.sqrt(3)  # t(0.975, 2) times the standard error
    assert found.low == pytest.approx(10 - half)
    assert found.high == pytest.approx(10 + half)
    assert found.half_width == pytest.approx(half / 10)


def test_one_measurement_has_no_interval_and_none_has_no_mean() -> None:
    alone = interval([3.0])
    assert alone is not None
    assert (alone.mean, alone.low, alone.high, alone.half_width) == (3.0, None, None, None)
    assert interval([]) is None


def test_more_throughput_is_better() -> None:
    found = compare([112, 110, 111, 113], [100, 101, 99, 100], is_maximised=True)
    assert found is not None
    assert found.verdict == "better"
    assert found.change == pytest.approx(0.115, abs=0.005)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.change < found.high
    assert str(found).startswith("better by 11.")


def test_less_latency_is_better_by_the_share_that_is_saved() -> None:
    found = compare([0.9, 0.9, 0.91], [1.8, 1.8, 1.82], is_maximised=False)
    assert found is not None
    assert found.verdict == "better"
    assert found.change == pytest.approx(0.5, abs=0.005)


def test_more_latency_is_worse() -> None:
    found = compare([2.0, 2.01], [1.0, 1.0], is_maximised=False)
    assert found is not None
    assert found.verdict == "worse"
    assert str(found).startswith("worse by 100")


def test_what_lies_within_the_noise_is_no_difference() -> None:
    found = compare([100, 110, 90], [101, 95, 105], is_maximised=True)
    assert found is not None
    assert found.verdict == "no difference shown"
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.high
    assert found.margin is not None
    assert abs(found.change) < found.margin
    assert str(found).startswith("no difference shown (")


def test_pairs_take_out_what_drifts() -> None:
    ours, theirs = [103.0, 124.0, 144.2], [100.0, 120.0, 140.0]
    apart = compare(ours, theirs, is_maximised=True)
    assert apart is not None
    together = paired([math.log(a / b) for a, b in zip(ours, theirs, strict=True)], 4.3, is_maximised=True)
    assert (apart.verdict, together.verdict, together.pairs) == ("no difference shown", "better", 3)


@pytest.mark.parametrize("is_maximised", [True, False])
@pytest.mark.parametrize("advantages", [[0.3, 0.25, 0.4], [-0.3, -0.25, -0.4], [0.2, 0.1, -0.25], [1.0, 0.1, 0.5]])
def test_what_is_printed_behind_plus_minus_agrees_with_the_verdict(
    advantages: list[float], *, is_maximised: bool
) -> None:
    for bound in (1.0, 4.0, 16.0):
        found = paired(advantages, bound, is_maximised=is_maximised)
        assert found.margin is not None
        assert (abs(found.change) > found.margin) == (found.verdict != "no difference shown")


def test_one_round_shows_nothing() -> None:
    found = paired([0.5], None, is_maximised=True)
    assert (found.verdict, found.low, found.margin) == ("no difference shown", None, None)
    assert str(found) == "+64.9% (once)"


def test_two_groups_are_compared_as_welch_does() -> None:
    ours, theirs = [10.0, 12.0, 11.0, 13.0], [9.0, 9.5, 10.5]
    found = compare(ours, theirs, is_maximised=True)
    test = stats.ttest_ind([math.log(x) for x in ours], [math.log(x) for x in theirs], equal_var=False)
    assert found is not None
    assert found.low == pytest.approx(math.expm1(test.confidence_interval(0.95).low))


def test_without_noise_the_difference_is_exact() -> None:
    found = compare([11.0, 11.0], [10.0, 10.0], is_maximised=True)
    assert found is not None
    assert (found.verdict, found.margin) == ("better", 0.0)
    assert found.change == pytest.approx(0.1)


@pytest.mark.parametrize(("ours", "theirs"), [([1.0], [1.0, 2.0]), ([0.0, 1.0], [1.0, 1.0]), ([], [1.0, 1.0])])
def test_too_little_to_compare(ours: list[float], theirs: list[float]) -> None:
    assert compare(ours, theirs, is_maximised=True) is None
