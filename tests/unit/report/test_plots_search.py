"""The figure of a search over time."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from statistics import fmean
from typing import Any

import pytest

from pipeline.core.errors import FailureKind
from pipeline.core.reasons import Reason
from pipeline.core.record import Level, Record
from pipeline.report import plots, plots_search
from support.answers import BROKEN, WELL
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


def test_random_search_is_shown_only_where_every_combination_was_run() -> None:
    grid = [replace(one, reason=Reason(by="order")) for one in trials(100.0, 80.0, 150.0)]
    minutes, scores = traces(grid)["random search, expected"]
    assert minutes == [1.0, 2.0, 3.0]
    assert scores == pytest.approx([110.0, 400 / 3, 150.0])
    chosen = [*grid[:2], replace(grid[2], reason=Reason(by="gain"))]
    assert "random search, expected" not in traces(chosen)


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


def test_one_that_cannot_win_for_what_it_answers_is_shown_and_is_never_the_best() -> None:
    first, *others, broken = trials(100.0, 90.0, 80.0, 999.0)
    records = [replace(first, is_baseline=True, asked=WELL), *others, replace(broken, asked=BROKEN)]
    drawn = traces(records)
    assert drawn["best so far"][1] == [100.0, 100.0, 100.0]
    assert drawn["cannot win, for what it answers"] == ([4.0], [999.0])


def test_too_few_results_are_no_curve() -> None:
    assert traces(trials(100.0, None, 80.0)) == {}


@pytest.mark.parametrize("is_maximised", [True, False])
def test_the_expectation_is_the_mean_over_all_orders(*, is_maximised: bool) -> None:
    scores = [3.0, 1.0, 7.0, 4.0]
    pick = max if is_maximised else min
    means = [fmean(pick(order[:drawn]) for order in permutations(scores)) for drawn in range(1, 5)]
    assert plots_search.expected(scores, is_maximised=is_maximised) == pytest.approx(means)


def test_a_long_sweep_has_its_time_in_hours() -> None:
    records = [replace(one, ended_at=one.ended_at + timedelta(hours=5)) for one in trials(100.0, 80.0, 150.0)]
    found = plots_search.best_so_far(records)
    assert found is not None
    assert found["layout"]["xaxis"]["title"]["text"] == "hours since the first trial began"
    assert 5 < found["data"][0]["x"][0] < 6
    whole = plots.timeline(records)
    assert whole is not None
    assert whole["layout"]["xaxis"]["title"]["text"] == "hours since the first trial began"
