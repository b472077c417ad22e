"""How two configurations' scores compare."""

import pytest

from pipeline.core.evaluation import Change, Evaluation, Score, compare


def evaluated(value: float, *, items: int = 100, error: float | None = 0.04, better: bool = True) -> Evaluation:
    score = Score(
        task="sums", metric="exact_match", filter="none", value=value, error=error, items=items, is_higher_better=better
    )
    return Evaluation(scores=(score,), seconds=1.0, version="0.4.13")


def scored(right: int, items: int = 100) -> dict[str, dict[str, float]]:
    """The first ones are right."""
    return {"sums exact_match": {str(at): float(at < right) for at in range(items)}}


def compared(ours: int, theirs: int, *, better: bool = True) -> Change:
    winner, baseline = (evaluated(right / 100, better=better) for right in (ours, theirs))
    (change,) = compare(winner, baseline, scored(ours), scored(theirs))
    return change


def test_the_same_items_are_compared_in_pairs() -> None:
    change = compared(70, 80)
    assert change.is_paired
    assert change.difference == pytest.approx(-0.1)
    assert change.half_width == pytest.approx(1.96 * (0.1 * 0.9 / 99) ** 0.5)
    assert change.verdict == "worse"
    assert str(change) == (
        "sums exact_match: 0.700, baseline 0.800, difference -0.100 [-0.159, -0.041]: worse (100 items)"
    )


def test_items_that_all_agree_leave_room_for_what_was_not_asked() -> None:
    change = compared(80, 80)
    assert (change.difference, change.verdict) == (0.0, "no difference shown")
    assert change.half_width == pytest.approx(0.03)


def test_of_an_error_less_is_better() -> None:
    assert compared(60, 80, better=False).verdict == "better"


def test_other_items_are_compared_by_standard_errors() -> None:
    (change,) = compare(evaluated(0.7), evaluated(0.75), scored(70), {})
    assert not change.is_paired
    assert change.half_width == pytest.approx(1.96 * 0.04 * 2**0.5)
    assert change.verdict == "no difference shown"


def test_without_any_error_nothing_is_shown() -> None:
    (change,) = compare(evaluated(0.1, error=None), evaluated(0.9), {}, {})
    assert (change.half_width, change.verdict) == (None, "no difference shown")


def test_a_score_that_only_one_has_is_left_out() -> None:
    assert compare(evaluated(0.7), Evaluation(scores=(), seconds=1.0, version=""), scored(70), {}) == ()
