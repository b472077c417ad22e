"""Decides what a search runs next, from its study alone. Pure: a resumed search goes on as if it had never stopped."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from pipeline.core import between, pareto, rounds, sequential
from pipeline.core.limits import Limits
from pipeline.core.reasons import Reason
from pipeline.core.record import Phase
from pipeline.core.rounds import Decision, How, Rules, Sample, Step
from pipeline.core.sides import RUNTIME
from pipeline.core.values import value
from pipeline.sweep.search.space import Params, Space

PROPOSALS = 50  # in a row that an unbounded space had already: then the sampler has nothing new


@value
class Seen:
    """A trial of the study, as far as the policy needs it."""

    number: int
    state: Literal["running", "complete", "failed"]
    params: Params = Field(default_factory=dict)
    values: tuple[float, ...] = ()
    is_feasible: bool = True  # inside the SLO
    is_baseline: bool = False
    is_answered: bool = False  # without deploying
    repeat_of: int | None = None
    phase: Phase = "search"
    same_as: int | None = None  # the trial whose result this is
    is_raced: bool = False  # some of its levels were left out
    is_stopped: bool = False  # by somebody, alone: it says nothing of its configuration
    place: str = ""  # host and GPUs
    points: tuple[tuple[float, ...], ...] = ()  # with several objectives: those of each level, inside the SLO


@value
class Next:
    """What to run. `params` None: whatever the sampler proposes."""

    params: Params | None = None
    repeat_of: int | None = None
    phase: Phase = "search"
    is_baseline: bool = False
    reason: Reason | None = None  # why it was proposed


def first(seen: Sequence[Seen], baselines: Sequence[Params]) -> Next | None:
    """A baseline that has not been run: they are the first trials, whatever the space; one for each engine."""
    had = {one.params.get(RUNTIME) for one in seen if one.is_baseline}
    left = (params for params in baselines if params.get(RUNTIME) not in had)
    return next((Next(params=each, is_baseline=True, reason=Reason(by="baseline")) for each in left), None)


def repeat(seen: Sequence[Seen], limits: Limits) -> Next | None:
    """The next measurement of a configuration that has too few; in their order, and none of one that was raced."""
    had = Counter(one.repeat_of for one in seen if one.phase == "search" and one.repeat_of is not None)
    for one in seen:
        if _is_original(one) and not one.is_raced and one.state == "complete" and had[one.number] < limits.repeats - 1:
            return Next(params=one.params, repeat_of=one.number)
    return None


def is_full(seen: Sequence[Seen], limits: Limits) -> bool:
    """Whether there are as many configurations as were asked for."""
    count = sum(one.phase == "search" and one.repeat_of is None and not one.is_answered for one in seen)
    return limits.n_trials is not None and count >= limits.n_trials


def is_out_of_time(limits: Limits, *, elapsed_s: float, gpu_hours: float, share: float = 1.0) -> bool:
    """Whether the time or the GPU time that was granted, or this share of it, is used up."""
    return (limits.timeout_s is not None and elapsed_s >= share * limits.timeout_s) or (
        limits.gpu_hours is not None and gpu_hours >= share * limits.gpu_hours
    )


def unseen(seen: Iterable[Seen], space: Space) -> Params | None:
    """The first combination of a listable space that was not run; None when there is none."""
    had = {key(one.params) for one in seen}
    return next((params for params in space.combinations() if key(params) not in had), None)


def same(seen: Iterable[Seen], params: Params) -> Seen | None:
    """The trial that had this combination already."""
    return next((one for one in seen if one.repeat_of is None and key(one.params) == key(params)), None)


def key(params: Params) -> frozenset[tuple[str, object]]:
    """Equal for equal combinations."""
    return frozenset(params.items())


def without(seen: Iterable[Seen], barred: Collection[int]) -> list[Seen]:
    """With the configurations that cannot win, for what they answer, as if they were outside the SLO."""
    return [
        replace(one, is_feasible=False) if (one.number if one.repeat_of is None else one.repeat_of) in barred else one
        for one in seen
    ]


def confirmation(
    seen: Sequence[Seen], limits: Limits, *, is_maximised: Sequence[bool], engines: Sequence[str] = ()
) -> Next | None:
    """The next measurement of a contender or the baseline; None when the verdict is found. `core/rounds.py` decides.

    With several engines each has its own baseline, and then the best of each are held against each other.
    """
    if not limits.confirms:
        return None
    parts = [[one for one in seen if one.params.get(RUNTIME) == engine] for engine in engines] if engines else [seen]
    for part in parts:
        if (step := _step(part, limits, is_maximised)) is not None:
            return _next(seen, step)
    if len(is_maximised) > 1 or limits.confirm == 0 or not engines:
        return None
    found = [_champion(part, limits, is_maximised=is_maximised[0]) for part in parts]
    best = means(seen)
    rules = Rules(planned=limits.confirm, is_maximised=is_maximised[0])
    champions = {number: best[number] for number in found if number is not None}
    step = between.decide(samples(seen), champions, rules).next
    return None if step is None else _next(seen, step)


def _next(seen: Iterable[Seen], step: Step) -> Next:
    params = next(one.params for one in seen if one.number == step.of)
    return Next(params=params, repeat_of=step.of, phase=step.phase)


def _step(seen: Sequence[Seen], limits: Limits, is_maximised: Sequence[bool]) -> Step | None:
    """The next one of a contender or the baseline of one engine."""
    base = baseline(seen)
    if base is None:
        return None
    if len(is_maximised) > 1:
        return _of_front(seen, base, limits, is_maximised)
    return decision(seen, base, limits, is_maximised=is_maximised[0]).next


def _champion(seen: Sequence[Seen], limits: Limits, *, is_maximised: bool) -> int | None:
    """What is best of one engine, of those with a result inside the SLO."""
    base = baseline(seen)
    sign = 1 if is_maximised else -1
    best = means(seen)
    fine = [one.number for one in seen if _is_measured(one) and one.is_feasible and best.get(one.number, 0.0) > 0]
    fine.sort(key=lambda number: -sign * best[number])
    if base is None:
        return fine[0] if fine else None
    found = decision(seen, base, limits, is_maximised=is_maximised)
    stays = base.number if base.number in fine else None
    return between.champion(found, stays)


def decision(seen: Sequence[Seen], base: Seen, limits: Limits, *, is_maximised: bool) -> Decision:
    """How far the contenders of a single objective have come against the baseline."""
    rules = Rules(planned=limits.confirm, held_out=limits.held_out_rounds, is_maximised=is_maximised)
    named = contenders(seen, base, is_maximised=is_maximised) if limits.confirms else ()
    return rounds.decide(samples(seen), named, base.number, rules)


def _of_front(seen: Sequence[Seen], base: Seen, limits: Limits, is_maximised: Sequence[bool]) -> Step | None:
    """Every member of the front and the baseline in turn, forwards and backwards."""
    firsts = [one for one in seen if _is_measured(one) and one.state == "complete" and one.is_feasible]
    points = [(one.number, point) for one in firsts for point in one.points]
    members = pareto.members(points, is_maximised)[: pareto.MEMBERS]
    wanted = pareto.ROUNDS if limits.confirm is None else limits.confirm
    done = Counter(one.repeat_of for one in seen if one.phase == "confirm" and not one.is_stopped)
    numbers = [base.number, *(number for number in members if number != base.number)]
    for turn in range(wanted if len(numbers) > 1 else 0):
        for number in numbers if turn % 2 == 0 else numbers[::-1]:
            if done[number] <= turn:
                return Step(of=number, phase="confirm")
    return None


def samples(seen: Iterable[Seen]) -> list[Sample]:
    """The measurements as `core/rounds.py` takes them."""
    return [
        Sample(
            number=one.number,
            of=one.number if one.repeat_of is None else one.repeat_of,
            how=_how(one),
            score=one.values[0] if one.values else 0.0,
            place=one.place,
            phase=one.phase,
        )
        for one in seen
        if one.state != "running" and one.phase != "search" and not one.is_stopped
    ]


def _how(one: Seen) -> How:
    if one.state != "complete" or not one.values:
        return "failed"
    return "fine" if one.is_feasible and one.values[0] > 0 else "outside"


def baseline(seen: Iterable[Seen]) -> Seen | None:
    """The baseline, if it has a result."""
    return next((one for one in seen if one.is_baseline and one.repeat_of is None and one.state == "complete"), None)


def contenders(seen: Sequence[Seen], base: Seen, *, is_maximised: bool) -> list[int]:
    """The configurations to hold against the baseline: the best means inside the SLO that are better than its own."""
    found = means(seen)
    bar = found.get(base.number) if base.is_feasible else None
    sign = 1 if is_maximised else -1
    fine = [
        one.number
        for one in seen
        if _is_measured(one) and one.is_feasible and one.number in found and one.number != base.number
    ]
    better = [number for number in fine if bar is None or sign * found[number] > sign * bar]
    raced = {one.number for one in seen if one.is_raced}  # a whole one has shown more; a confirmation measures all
    return sorted(better, key=lambda number: (number in raced, -sign * found[number]))[: sequential.CONTENDERS]


def means(seen: Iterable[Seen]) -> Mapping[int, float]:
    """The mean of the first objective by the number of the configuration."""
    found: dict[int, list[float]] = {}
    for one in seen:
        if one.state == "complete" and one.phase == "search" and one.values:
            found.setdefault(one.number if one.repeat_of is None else one.repeat_of, []).append(one.values[0])
    return {number: math.fsum(scores) / len(scores) for number, scores in found.items()}


def _is_original(one: Seen) -> bool:
    return one.repeat_of is None and one.phase == "search" and not one.is_answered


def _is_measured(one: Seen) -> bool:
    """A configuration with a result of its own: a twin is no contender beside the trial that it equals."""
    return _is_original(one) and one.same_as is None
