"""What a search runs next, given what it has seen."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.limits import Limits
from pipeline.sweep.search import policy
from pipeline.sweep.search.policy import Next, Seen
from pipeline.sweep.search.space import Choice, Params, Space, Span, lines

SPACE = Space(dimensions=(Choice(name="page_size", values=("null", "32")), Choice(name="slots", values=("1", "2"))))
BASE: Params = {"page_size": "null", "slots": "null"}


def trial(number: int, score: float | None = None, **changes: Any) -> Seen:
    made = Seen(
        number=number,
        state="failed" if score is None else "complete",
        params={"page_size": "32", "slots": str(number)},
        values=() if score is None else (score,),
    )
    return replace(made, **changes)


def test_the_baseline_is_first_and_runs_once() -> None:
    assert policy.first([], BASE) == Next(params=BASE, is_baseline=True)
    assert policy.first([trial(0, 1.0, is_baseline=True)], BASE) is None
    assert policy.first([], None) is None


def test_a_grid_goes_through_what_was_not_run_in_hydras_order() -> None:
    had = [trial(0, params={"page_size": "null", "slots": "1"})]
    assert policy.unseen(had, SPACE) == {"page_size": "null", "slots": "2"}
    everything = [trial(number, params=params) for number, params in enumerate(SPACE.combinations())]
    assert policy.unseen(everything, SPACE) is None
    assert policy.unseen(everything[1:], SPACE, seed=7) == {"page_size": "null", "slots": "1"}


def test_each_configuration_is_measured_as_often_as_asked() -> None:
    seen = [trial(0, 5.0), trial(1), trial(2, 6.0)]
    limits = Limits(repeats=2)
    assert policy.repeat(seen, limits) == Next(params=seen[0].params, repeat_of=0)
    seen.append(trial(3, 5.1, repeat_of=0))
    assert policy.repeat(seen, limits) == Next(params=seen[2].params, repeat_of=2)
    seen.append(trial(4, state="running", repeat_of=2))
    assert policy.repeat(seen, limits) is None  # a failed trial is not repeated, a running repeat counts


def test_only_deployed_configurations_count_against_the_limit() -> None:
    seen = [trial(0, 1.0), trial(1, is_answered=True), trial(2, 1.0, repeat_of=0), trial(3)]
    assert not policy.is_full(seen, Limits(n_trials=3))
    assert policy.is_full(seen, Limits(n_trials=2))
    assert not policy.is_full(seen, Limits())


@pytest.mark.parametrize(
    ("limits", "is_over"),
    [(Limits(timeout_s=10), True), (Limits(gpu_hours=2), True), (Limits(timeout_s=11, gpu_hours=2.1), False)],
)
def test_time_and_gpu_time_run_out(limits: Limits, *, is_over: bool) -> None:
    assert policy.is_out_of_time(limits, elapsed_s=10, gpu_hours=2) == is_over


def test_winner_and_baseline_are_measured_in_alternating_rounds() -> None:
    seen = [trial(0, 1.0, is_baseline=True), trial(1, 3.0), trial(2, 2.0)]
    order = []
    while found := policy.confirmation(seen, Limits(confirm=3), is_maximised=True):
        assert found.phase == "confirm"
        order.append(found.repeat_of)
        seen.append(trial(len(seen), 1.0, repeat_of=found.repeat_of, phase="confirm"))
    assert order == [1, 0, 0, 1, 1, 0]


def test_held_out_traffic_comes_last_and_once_for_each() -> None:
    seen = [trial(0, 1.0, is_baseline=True), trial(1, 3.0)]
    order = []
    while found := policy.confirmation(seen, Limits(held_out="chat"), is_maximised=True):
        order.append((found.phase, found.repeat_of))
        seen.append(trial(len(seen), 1.0, repeat_of=found.repeat_of, phase="held_out"))
    assert order == [("held_out", 1), ("held_out", 0)]


@pytest.mark.parametrize(
    "seen",
    [
        [trial(0, 9.0, is_baseline=True), trial(1, 3.0)],
        [trial(0, is_baseline=True), trial(1, 3.0)],
        [trial(0, 1.0, is_baseline=True), trial(1, 3.0, is_feasible=False)],
        [],
    ],
    ids=["the baseline won", "no baseline", "nothing better inside the SLO", "nothing"],
)
def test_nothing_to_confirm(seen: list[Seen]) -> None:
    assert policy.confirmation(seen, Limits(confirm=3), is_maximised=True) is None


def test_the_winner_is_the_best_mean_inside_the_slo() -> None:
    lucky, steady, outside = trial(0, 9.0), trial(1, 8.0), trial(2, 99.0, is_feasible=False)
    repeats = [trial(3, 2.0, repeat_of=0), trial(4, 8.0, repeat_of=1)]
    seen = [lucky, steady, outside, *repeats]
    assert policy.winner(seen, is_maximised=True) == steady
    assert policy.winner(seen, is_maximised=False) == lucky
    assert policy.means(seen) == {0: 5.5, 1: 8.0, 2: 99.0}


def test_a_space_knows_its_size_and_its_combinations() -> None:
    steps = Space(dimensions=(Span(name="n", low=2, high=8, step=3), Choice(name="mode", values=("a",))))
    assert steps.size == 3
    assert [dict(one) for one in steps.combinations()][-1] == {"n": 8, "mode": "a"}
    assert lines({"n": 8, "x": 0.1, "mode": "a"}) == ("n=8", "x=0.1", "mode=a")
    endless = Space(dimensions=(Span(name="x", low=0.0, high=1.0),))
    assert endless.size is None
    assert not endless.is_listable
    assert endless.holds({"x": 0.5})
    assert not endless.holds({"x": "null"})
