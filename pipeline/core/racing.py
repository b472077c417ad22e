"""Which level of a trial comes next, and when the trial cannot beat the best one any more. Pure.

Racing as in irace and Hyperband, by load level instead of by repetition: the level that decides comes first, and what
is clearly behind there is not measured elsewhere (docs/searching.md). `servetune replay` measures what it saves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.core import objectives
from pipeline.core.record import Level, Record
from pipeline.core.schema import Config
from pipeline.core.statistics import SDS, SPREAD
from pipeline.core.values import value


@value
class Incumbent:
    """The best configuration so far that was measured at every level."""

    number: int  # of its trial
    level: str  # that gave the score
    score: float  # of the only objective
    spread: float = SPREAD  # standard deviation of one measurement, as a share of it


@value
class Rung:
    """A level that is planned."""

    scenario: str
    demand: float  # by which levels of a scenario are in order
    name: str


@value
class Seen:
    """A level that was measured, or could not be. None: it has no such value."""

    name: str
    score: float | None  # of the objective, where the level counts
    potential: float | None  # the score that it would have, were it inside the SLO
    is_unsure: bool = False  # cut, or measured on a crowded machine: it has not said yet


@value
class Step:
    """What to do next: measure the level with that index, or stop, and why."""

    level: int | None = None
    reason: Literal["whole", "raced"] | None = None


@dataclass(frozen=True)
class Race:
    """A trial against the incumbent."""

    ladder: Sequence[Rung]
    best: Incumbent | None
    is_maximised: bool
    has_slo: bool
    grows: bool  # more users can bring more

    def step(self, seen: Sequence[Seen]) -> Step:
        """The next level: without an incumbent one after the other; else first the incumbent's own.

        A trial that is behind there goes on: without an SLO at the busiest level, for the incumbent may be full where
        this one is not; under an SLO up while it is inside and improves, down while it is outside and would be better
        if it were not. All others only for a trial whose score may still be the better one.
        """
        had = {one.name for one in seen}
        left = {rung.name: index for index, rung in enumerate(self.ladder) if rung.name not in had}
        if not left:
            return Step(reason="whole")
        rising = Step(level=min(left.values()))
        if self.best is None or self.best.level not in {rung.name for rung in self.ladder}:
            return rising
        if self.best.level in left:
            return Step(level=left[self.best.level])
        if self._may_win(seen, self.best):
            return rising
        beside = self._beside(seen, self.best) if self.has_slo else self._busiest(self.best)
        return Step(level=left[beside]) if beside in left else Step(reason="raced")

    def _may_win(self, seen: Sequence[Seen], best: Incumbent) -> bool:
        """Whether the best level, with luck, reaches the incumbent, or one is unsure."""
        luck = 1 + SDS * best.spread
        scores = [one.score * luck if self.is_maximised else one.score / luck for one in seen if one.score is not None]
        return any(one.is_unsure for one in seen) or any(self.reaches(score, best) for score in scores)

    def _busiest(self, best: Incumbent) -> str | None:
        """The level with most users of the incumbent's scenario, where more of them can bring more."""
        scenario = next(rung.scenario for rung in self.ladder if rung.name == best.level)
        rungs = [rung for rung in self.ladder if rung.scenario == scenario]
        return max(rungs, key=lambda rung: rung.demand).name if self.grows else None

    def _beside(self, seen: Sequence[Seen], best: Incumbent) -> str | None:
        """The level of the same scenario to move to from the last one; None where no move can pay."""
        last = seen[-1]
        here = next(rung for rung in self.ladder if rung.name == last.name)
        rungs = sorted((one for one in self.ladder if one.scenario == here.scenario), key=lambda one: one.demand)
        if last.score is not None:
            higher = (one.name for one in rungs if one.demand > here.demand)
            return next(higher, None) if self._improves(seen, last.score) else None
        lower = (one.name for one in reversed(rungs) if one.demand < here.demand)
        may_fit = last.potential is None or self.reaches(last.potential, best)
        return next(lower, None) if may_fit else None

    def _improves(self, seen: Sequence[Seen], score: float) -> bool:
        scores = [one.score for one in seen if one.score is not None]
        return score == (max(scores) if self.is_maximised else min(scores))

    def reaches(self, score: float, best: Incumbent) -> bool:
        """Whether a score is as good as the incumbent's."""
        return score >= best.score if self.is_maximised else score <= best.score


def race(ladder: Sequence[Rung], config: Config, best: Incumbent | None) -> Race:
    """The race of a trial with that configuration."""
    name = objectives.names(config)[0]
    more = objectives.is_maximised(name)
    return Race(ladder, best, is_maximised=more, has_slo=config.slo.is_set, grows=objectives.grows(name))


def seen(level: Level, config: Config) -> Seen:
    """A level as the race needs it."""
    name = objectives.names(config)[0]
    counts = objectives.counted([level], config.slo)
    return Seen(
        name=level.name,
        score=objectives.score(name, level, config) if counts else None,
        potential=objectives.score(name.removeprefix("goodput_"), level, config),
        is_unsure=bool((level.metrics and level.metrics.is_cut) or (level.load and level.load.is_crowded)),
    )


def may_reach(level: Level, config: Config, best: Incumbent) -> bool:
    """Whether a level, with luck, could equal the incumbent, were it inside the SLO; True where it has not said yet."""
    race_, told = race([], config, best), seen(level, config)
    if told.is_unsure or told.potential is None:
        return True
    luck = 1 + SDS * best.spread
    return race_.reaches(told.potential * luck if race_.is_maximised else told.potential / luck, best)


def better(best: Incumbent | None, record: Record) -> Incumbent | None:
    """The trial as the new incumbent; None where it is not the best one, or was not measured by itself and in full."""
    is_own = record.phase == "search" and record.repeat_of is None and record.same_as is None
    if not is_own or record.status != "ok" or record.is_raced or record.best_level is None or not record.objective:
        return None
    ((name, score), *others) = record.objective.items()
    if others:  # a front has no best one
        return None
    is_first = best is None or (score > best.score if objectives.is_maximised(name) else score < best.score)
    return Incumbent(number=record.number, level=record.best_level, score=score) if is_first else None
