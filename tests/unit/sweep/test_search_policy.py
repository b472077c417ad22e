"""What a search runs next, given what it has seen."""

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.limits import SEARCH_SHARE, Limits
from pipeline.core.reasons import Reason
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
    assert policy.first([], [BASE]) == Next(params=BASE, is_baseline=True, reason=Reason(by="baseline"))
    assert policy.first([trial(0, 1.0, is_baseline=True)], [BASE]) is None
    assert policy.first([], []) is None


def test_a_grid_goes_through_what_was_not_run_in_hydras_order() -> None:
    had = [trial(0, params={"page_size": "null", "slots": "1"})]
    assert policy.unseen(had, SPACE) == {"page_size": "null", "slots": "2"}
    everything = [trial(number, params=params) for number, params in enumerate(SPACE.combinations())]
    assert policy.unseen(everything, SPACE) is None
    assert policy.unseen(everything[1:], SPACE) == {"page_size": "null", "slots": "1"}


def test_each_configuration_is_measured_as_often_as_asked() -> None:
    seen = [trial(0, 5.0), trial(1), trial(2, 6.0)]
    limits = Limits(repeats=2)
    assert policy.repeat(seen, limits) == Next(params=seen[0].params, repeat_of=0)
    seen.append(trial(3, 5.1, repeat_of=0))
    assert policy.repeat(seen, limits) == Next(params=seen[2].params, repeat_of=2)
    seen.append(trial(4, state="running", repeat_of=2))
    assert policy.repeat(seen, limits) is None  # a failed trial is not repeated, a running repeat counts


def test_a_raced_configuration_is_not_repeated_and_is_the_last_contender() -> None:
    seen = [trial(0, 5.0, is_baseline=True), trial(1, 9.0, is_raced=True), trial(2, 6.0)]
    assert policy.repeat([*seen[1:], trial(3, 6.0, repeat_of=2)], Limits(repeats=2)) is None
    assert policy.contenders(seen, seen[0], is_maximised=True) == [2, 1]


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


def rounds(seen: list[Seen], limits: Limits, measure: Callable[[Next], Seen | float]) -> list[tuple[str, int | None]]:
    """Measure what the policy asks for until it asks no more; what that was."""
    asked: list[tuple[str, int | None]] = []
    while found := policy.confirmation(seen, limits, is_maximised=[True]):
        asked.append((found.phase, found.repeat_of))
        made = measure(found)
        score = made if isinstance(made, float) else None
        again = made if isinstance(made, Seen) else trial(0, score)
        seen.append(replace(again, number=len(seen), repeat_of=found.repeat_of, phase=found.phase))
        assert len(asked) < 100
    return asked


def of(asked: list[tuple[str, int | None]]) -> list[int | None]:
    return [number for _, number in asked]


def tried() -> list[Seen]:
    """The baseline, and three configurations that seem better: 2 most, then 3 and 1."""
    return [trial(0, 1.0, is_baseline=True), trial(1, 1.1), trial(2, 3.0), trial(3, 2.0)]


def test_contender_and_baseline_are_measured_in_alternating_rounds() -> None:
    assert of(rounds(tried(), Limits(confirm=3), lambda asked: 1.5 if asked.repeat_of == 2 else 1.0)) == [
        2, 0, 0, 2, 2, 0
    ]  # fmt: skip


def test_a_clear_winner_takes_few_rounds_and_a_faint_one_more() -> None:
    dice = random.Random(1)  # noqa: S311 - no secret

    def noisy(gain: float) -> Callable[[Next], float]:
        return lambda asked: (1 + gain * (asked.repeat_of == 2)) * (1 + 0.03 * dice.gauss(0, 1))

    assert len(rounds(tried(), Limits(), noisy(2.0))) == 6
    assert 8 <= len(rounds(tried(), Limits(), noisy(0.12))) <= 12


def test_the_next_contender_is_tried_when_one_falls_and_no_more_than_three() -> None:
    seen = [*tried(), trial(4, 1.5)]
    values = {0: 1.0, 1: 9.0, 2: 0.8, 3: 0.9, 4: 0.9}
    asked = of(rounds(seen, Limits(), lambda asked: values[asked.repeat_of or 0]))
    assert [number for number in dict.fromkeys(asked) if number] == [2, 3, 4]
    assert len(asked) == 18  # each was worse after three rounds
    assert policy.decision(seen, seen[0], Limits(), is_maximised=True).winner is None


def test_only_what_was_better_in_the_search_is_confirmed() -> None:
    seen = [trial(0, 2.5, is_baseline=True), trial(1, 1.1), trial(2, 3.0), trial(3, 2.0)]
    assert {*of(rounds(seen, Limits(), lambda _: 1.0))} == {0, 2}


def test_a_twin_is_no_contender() -> None:
    seen = [*tried(), trial(4, 3.0, same_as=2)]
    assert policy.contenders(seen, seen[0], is_maximised=True) == [2, 3, 1]


def test_a_round_that_somebody_stopped_says_nothing_and_is_measured_again() -> None:
    stops = iter([True, True])

    def measure(asked: Next) -> Seen | float:
        is_stopped = asked.repeat_of == 2 and next(stops, False)
        return trial(9, is_stopped=True) if is_stopped else 1.0 + 9 * bool(asked.repeat_of)

    assert of(rounds(tried(), Limits(), measure))[:5] == [2, 2, 2, 0, 0]


def test_a_contender_that_fails_twice_in_a_row_falls() -> None:
    asked = of(
        rounds(tried(), Limits(), lambda asked: trial(9) if asked.repeat_of == 2 else 1.0 + 9 * bool(asked.repeat_of))
    )
    assert asked == [2, 0, 0, 2, 3, 0, 0, 3, 3, 0]


def test_a_round_that_is_lost_once_is_made_up_for() -> None:
    lost = iter([True])

    def measure(asked: Next) -> Seen | float:
        return trial(9) if asked.repeat_of == 2 and next(lost, False) else 1.0 + (asked.repeat_of or 0)

    assert len(rounds(tried(), Limits(), measure)) == 8


def test_a_round_on_two_machines_does_not_count() -> None:
    places = itertools.count()
    seen = tried()
    asked = rounds(seen, Limits(), lambda asked: trial(0, 1.0 + (asked.repeat_of or 0), place=f"host {next(places)}"))
    assert asked == [("confirm", 2), ("confirm", 0), ("confirm", 0), ("confirm", 2), ("confirm", 2), ("confirm", 0)]
    assert policy.decision(seen, seen[0], Limits(), is_maximised=True).winner is None


def test_a_baseline_that_fails_twice_in_a_row_ends_it() -> None:
    asked = of(rounds(tried(), Limits(), lambda asked: 2.0 if asked.repeat_of else trial(9)))
    assert asked == [2, 0, 0, 2]


def test_a_baseline_outside_the_slo_is_beaten_without_a_percentage() -> None:
    seen = tried()
    base = replace(trial(0, 0.0), is_feasible=False)
    assert len(rounds(seen, Limits(), lambda asked: 2.0 if asked.repeat_of else base)) == 6
    found = policy.decision(seen, seen[0], Limits(), is_maximised=True)
    assert (found.winner, found.contests[0].finding.comparison) == (2, None)


def test_a_contender_that_leaves_the_slo_falls() -> None:
    outside = replace(trial(0, 9.0), is_feasible=False)
    seen = tried()
    rounds(seen, Limits(), lambda asked: outside if asked.repeat_of == 2 else 1.0)
    assert policy.decision(seen, seen[0], Limits(), is_maximised=True).contests[0].finding.word == "lost"


@pytest.mark.parametrize("stop", range(1, 12))
def test_a_resumed_confirmation_goes_on_as_if_never_stopped(stop: int) -> None:
    values = itertools.cycle([1.0, 1.3, 1.1, 0.9, 1.2])
    whole = tried()
    asked = rounds(whole, Limits(), lambda _: next(values))
    again = whole[: 4 + stop]
    found = policy.confirmation(again, Limits(), is_maximised=[True])
    assert (found and (found.phase, found.repeat_of)) == (asked[stop] if stop < len(asked) else None)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(confirm=0, held_out="chat"), ["held_out"] * 2),
        (Limits(confirm=2, held_out="chat"), ["confirm"] * 4 + ["held_out"] * 4),
        (Limits(held_out="chat"), ["confirm"] * 6 + ["held_out"] * 6),
        (Limits(confirm=0), []),
    ],
    ids=["alone", "so many rounds", "as many as needed", "nothing"],
)
def test_held_out_traffic_comes_last_and_in_the_same_rounds(limits: Limits, expected: list[str]) -> None:
    asked = rounds(tried(), limits, lambda asked: 5.0 if asked.repeat_of else 1.0)
    assert [phase for phase, _ in asked] == expected
    assert {*of(asked)} <= {0, 2}


def test_with_several_objectives_the_front_and_the_baseline_are_measured_in_turn() -> None:
    def point(number: int, *points: tuple[float, float], **changes: Any) -> Seen:
        return replace(trial(number, points[0][0]), values=points[0], points=points, **changes)

    seen = [
        point(0, (1.0, 1.0), is_baseline=True),
        point(1, (3.0, 2.0), (1.0, 0.5)),
        point(2, (2.0, 1.0)),
        point(3, (0.5, 1.5)),
        point(4, (9.0, 0.1), is_feasible=False),
    ]
    order = []
    while found := policy.confirmation(seen, Limits(), is_maximised=[True, False]):
        order.append(found.repeat_of)
        seen.append(point(len(seen), (1.0, 1.0), repeat_of=found.repeat_of, phase=found.phase))
    assert order == [0, 1, 2, 2, 1, 0, 0, 1, 2]
    assert policy.confirmation(seen, Limits(confirm=0), is_maximised=[True, False]) is None


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
    assert policy.confirmation(seen, Limits(confirm=3), is_maximised=[True]) is None


def test_contenders_are_the_best_means_inside_the_slo() -> None:
    base, lucky, steady, outside = (
        trial(9, 1.0, is_baseline=True),
        trial(0, 9.0),
        trial(1, 8.0),
        trial(2, 99.0, is_feasible=False),
    )
    repeats = [trial(3, 2.0, repeat_of=0), trial(4, 8.0, repeat_of=1)]
    seen = [base, lucky, steady, outside, *repeats]
    assert policy.contenders(seen, base, is_maximised=True) == [1, 0]
    assert policy.contenders(seen, base, is_maximised=False) == []
    assert policy.means(seen) == {9: 1.0, 0: 5.5, 1: 8.0, 2: 99.0}


def test_a_part_of_the_time_is_kept_for_the_confirmation() -> None:
    limits = Limits(timeout_s=100, gpu_hours=10)
    used = {"elapsed_s": 71.0, "gpu_hours": 0.0}
    assert policy.is_out_of_time(limits, **used, share=SEARCH_SHARE)
    assert not policy.is_out_of_time(limits, **used)
    assert policy.is_out_of_time(limits, elapsed_s=0, gpu_hours=7.1, share=SEARCH_SHARE)


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
