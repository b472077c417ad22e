"""Decides what a search runs next, from its study alone. Pure: a resumed search goes on as if it had never stopped."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Literal

from pydantic import Field

from pipeline.core.limits import Limits
from pipeline.core.record import Phase
from pipeline.core.statistics import interval
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


@value
class Next:
    """What to run. `params` None: whatever the sampler proposes."""

    params: Params | None = None
    repeat_of: int | None = None
    phase: Phase = "search"
    is_baseline: bool = False


def first(seen: Sequence[Seen], baseline: Params | None) -> Next | None:
    """The baseline, if it has not been run: it is trial 0, whatever the space."""
    if baseline is None or any(one.is_baseline for one in seen):
        return None
    return Next(params=baseline, is_baseline=True)


def repeat(seen: Sequence[Seen], limits: Limits) -> Next | None:
    """The next measurement of a configuration that has too few; configurations in their order."""
    had = Counter(one.repeat_of for one in seen if one.phase == "search" and one.repeat_of is not None)
    for one in seen:
        if _is_original(one) and one.state == "complete" and had[one.number] < limits.repeats - 1:
            return Next(params=one.params, repeat_of=one.number)
    return None


def is_full(seen: Sequence[Seen], limits: Limits) -> bool:
    """Whether there are as many configurations as were asked for."""
    count = sum(one.phase == "search" and one.repeat_of is None and not one.is_answered for one in seen)
    return limits.n_trials is not None and count >= limits.n_trials


def is_out_of_time(limits: Limits, *, elapsed_s: float, gpu_hours: float) -> bool:
    """Whether the time or the GPU time that was granted is used up."""
    return (limits.timeout_s is not None and elapsed_s >= limits.timeout_s) or (
        limits.gpu_hours is not None and gpu_hours >= limits.gpu_hours
    )


def unseen(seen: Iterable[Seen], space: Space, *, seed: int | None = None) -> Params | None:
    """A combination of a listable space that was not run: the first, or with a seed any; None when there is none."""
    had = {key(one.params) for one in seen}
    left = (params for params in space.combinations() if key(params) not in had)
    if seed is None:
        return next(left, None)
    some = list(islice(left, 10_000))
    return random.Random(seed).choice(some) if some else None  # noqa: S311 - no secret


def same(seen: Iterable[Seen], params: Params) -> Seen | None:
    """The trial that had this combination already."""
    return next((one for one in seen if one.repeat_of is None and key(one.params) == key(params)), None)


def key(params: Params) -> frozenset[tuple[str, object]]:
    """Equal for equal combinations."""
    return frozenset(params.items())


def confirmation(seen: Sequence[Seen], limits: Limits, *, is_maximised: bool) -> Next | None:
    """The next measurement of winner or baseline, in rounds that alternate who is first: what drifts cancels out."""
    best, base = winner(seen, is_maximised=is_maximised), baseline(seen)
    if best is None or base is None or best.number == base.number:
        return None
    done = [one.repeat_of for one in seen if one.phase == "confirm"]
    for turn in range(limits.confirm):
        pair = (best, base) if turn % 2 == 0 else (base, best)
        for one in pair:
            if done.count(one.number) <= turn:
                return Next(params=one.params, repeat_of=one.number, phase="confirm")
    held = {one.repeat_of for one in seen if one.phase == "held_out"}
    for one in (best, base):
        if limits.held_out and one.number not in held:
            return Next(params=one.params, repeat_of=one.number, phase="held_out")
    return None


def baseline(seen: Iterable[Seen]) -> Seen | None:
    """The baseline, if it has a result."""
    return next((one for one in seen if one.is_baseline and one.state == "complete"), None)


def winner(seen: Sequence[Seen], *, is_maximised: bool) -> Seen | None:
    """The configuration with the best mean of the first objective, inside the SLO."""
    scored = [(means(seen)[one.number], one) for one in seen if _is_original(one) and one.state == "complete"]
    pick = max if is_maximised else min
    return pick(
        ((score, one) for score, one in scored if one.is_feasible), key=lambda pair: pair[0], default=(0.0, None)
    )[1]


def means(seen: Iterable[Seen]) -> Mapping[int, float]:
    """The mean of the first objective by the number of the configuration."""
    samples: dict[int, list[float]] = {}
    for one in seen:
        if one.state == "complete" and one.phase == "search" and one.values:
            samples.setdefault(one.number if one.repeat_of is None else one.repeat_of, []).append(one.values[0])
    found = {number: interval(values) for number, values in samples.items()}
    return {number: mean.mean for number, mean in found.items() if mean}


def _is_original(one: Seen) -> bool:
    return one.repeat_of is None and one.phase == "search" and not one.is_answered
