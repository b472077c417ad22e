"""The figure of a search over time."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import permutations
from statistics import fmean
from typing import Any

import pytest

from pipeline.core.errors import FailureKind
from pipeline.core.record import Level, Record
from pipeline.report import plots_search
from support.records import make_failed_record, make_failure, make_levels, make_record

NAME = "output_tokens_per_s"


def trials(*scores: float | None) -> list[Record]:
    """One after the other, a minute each; None: it failed."""
    first = make_record()
    made = []
    for number, score in enumerate(scores):
        times = {"started_at": first.started_at + timedelta(minutes=number)}
        times["ended_at"] = times["started_at"] + timedelta(minutes=1)
        told: dict[str, Any] = {"number": number, "trial_id": f"s/{number}", **times}
        made.append(
            make_failed_record(**told)
            if score is None
            else make_record(**told, objective={NAME: score}, best_level="D(64,16) x2")
        )
    return made


def traces(records: Sequence[Record]) -> dict[str, tuple[list[float], list[float]]]:
    figure = plots_search.best_so_far(records)
    return {trace["name"]: (trace["x"], trace["y"]) for trace in figure["data"]} if figure else {}


def test_the_best_so_far_never_falls() -> None:
    drawn = traces(trials(100.0, None, 80.0, 150.0, 120.0))
    assert drawn["best so far"] == ([1.0, 3.0, 4.0, 5.0], [100.0, 100.0, 150.0, 150.0])
    assert drawn["trials"][1] == [100.0, 80.0, 150.0, 120.0]


def test_a_raced_trial_is_shown_and_is_never_the_best() -> None:
    left_out = Level(
        scenario="D(64,16)",
        concurrency=4,
        status="skipped",
        failure=make_failure(step="bench", kind=FailureKind.RACED),
    )
    records = trials(100.0, 90.0, 80.0)
    again = trials(0.0, 0.0, 0.0, 999.0)[3]
    raced = make_record(
        number=3,
        trial_id="s/3",
        levels=(*make_levels(), left_out),
        objective=again.objective,
        best_level="D(64,16) x2",
        started_at=records[0].started_at + timedelta(minutes=3),
        ended_at=records[0].started_at + timedelta(minutes=4),
    )
    drawn = traces([*records, raced])
    assert drawn["best so far"][1] == [100.0, 100.0, 100.0]
    assert drawn["raced: not measured at every level"] == ([4.0], [999.0])


def test_too_few_results_are_no_curve() -> None:
    assert traces(trials(100.0, None, 80.0)) == {}


@pytest.mark.parametrize("is_maximised", [True, False])
def test_the_expectation_is_the_mean_over_all_orders(*, is_maximised: bool) -> None:
    scores = [3.0, 1.0, 7.0, 4.0]
    pick = max if is_maximised else min
    means = [fmean(pick(order[:drawn]) for order in permutations(scores)) for drawn in range(1, 5)]
    assert plots_search.expected(scores, is_maximised=is_maximised) == pytest.approx(means)
