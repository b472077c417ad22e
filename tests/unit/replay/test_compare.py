"""Measures of searches and comparisons of strategies, by numbers that are known."""

from typing import Any

import numpy as np
import pytest

from pipeline.replay import compare, measures
from pipeline.replay.measures import Table
from pipeline.replay.play import Budget, Run

BUDGET = Budget(trials=8)


def run(**changes: Any) -> Run:
    base: dict[str, Any] = {
        "landscape": "a", "strategy": "s", "seed": 0, "times": (1.0, 2.0, 3.5), "recommended": (0.5, 0.9, 0.96),
        "default": 0.5, "deployed": 3, "crashed": 1, "refused": 2, "asked_s": 0.01, "proposals": 5,
        "cpu_s": 0.02,
    }  # fmt: skip
    return Run(**{**base, **changes})


def table(t5: list[list[float]], crashed: float = 1.0) -> Table:
    cells = np.array(t5)
    return Table(
        t5=cells,
        crashed=np.full(cells.shape, crashed),
        deployed=np.full(cells.shape, 10.0),
        curves=np.linspace(0, 1, 5)[None, None, :] * np.ones((*cells.shape, 1)),
    )


def test_t5_is_when_what_is_recommended_comes_within_5_percent_else_the_budget() -> None:
    assert measures.t5(run(), BUDGET) == 3.5
    assert measures.t5(run(recommended=(0.5, 0.9, 0.94)), BUDGET) == 8.0
    assert measures.t5(run(times=(), recommended=()), BUDGET) == 8.0


def test_a_score_is_that_of_the_last_recommendation() -> None:
    assert [measures.score_at(run(), at) for at in (0.5, 1.0, 3.0, 8.0)] == [0.0, 0.5, 0.9, 0.96]


def test_a_summary_counts_every_search() -> None:
    worse = run(seed=1, recommended=(0.5, 0.49, 0.49), crashed=0)
    found = measures.summary("s", [run(), worse, run(seed=2, recommended=(0.5, 0.5, 0.45))], BUDGET)
    assert (found.searches, found.t5_median) == (3, 8.0)
    assert found.hit == pytest.approx(1 / 3)
    assert found.t5_mean == pytest.approx((3.5 + 8 + 8) / 3)
    assert found.crashed == pytest.approx(2 / 9)
    assert found.below_1 == pytest.approx(2 / 3)
    assert found.below_3 == pytest.approx(1 / 3)
    assert found.scores[0] == pytest.approx((0.9 + 0.49 + 0.5) / 3)


def test_half_the_time_everywhere_is_a_ratio_of_a_half() -> None:
    dice = np.random.default_rng(1)
    theirs = dice.uniform(4, 8, (6, 12))
    ours = theirs / 2 * dice.uniform(0.98, 1.02, theirs.shape)
    both = {"ours": table(ours.tolist(), 0.5), "theirs": table(theirs.tolist())}
    found = compare.against("ours", "theirs", both, "abcdef")
    assert found.t5_mean.ratio == pytest.approx(0.5, abs=0.01)
    assert found.t5_median.ratio == pytest.approx(0.5, abs=0.02)
    assert 0.45 < found.t5_mean.low < found.t5_mean.ratio < found.t5_mean.high < 0.55
    assert found.crashes is not None
    assert found.crashes.ratio == pytest.approx(0.5)
    assert (found.count("faster"), found.count("slower")) == (6, 0)
    assert all(one.difference < 0 for one in found.tests)


def test_equal_strategies_show_no_difference() -> None:
    dice = np.random.default_rng(1)
    ours, theirs = (table(dice.uniform(4, 8, (5, 12)).tolist(), 0.0) for _ in range(2))
    found = compare.against("ours", "theirs", {"ours": ours, "theirs": theirs}, "abcde")
    assert found.t5_mean.low < 1 < found.t5_mean.high
    assert found.crashes is None
    assert found.count("no difference shown") == 5
    same = compare.against("ours", "again", {"ours": ours, "again": ours}, "abcde")
    assert {one.p for one in same.tests} == {1.0}
    assert str(same.t5_mean) == "1.00 [1.00, 1.00]"


def test_holm_corrects_for_the_number_of_tests() -> None:
    assert compare.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_curve_has_an_interval_around_its_mean() -> None:
    found = compare.curve("s", table([[1.0, 2.0], [3.0, 4.0]]))
    assert found.mean == pytest.approx(np.linspace(0, 1, 5))
    assert all(low <= mean <= high for low, mean, high in zip(found.low, found.mean, found.high, strict=True))
