"""A simulated trial: what its levels would measure, how long that takes, and what the search is told in the end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.core.errors import FailureKind
from pipeline.core.racing import Incumbent, Race, Rung, Seen
from pipeline.replay import costs
from pipeline.replay.landscape import Landscape, Numbers
from pipeline.sweep.search.outcome import TILT, Attributes, Outcome
from pipeline.sweep.search.study import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A level, with noise."""

    at: int
    score: float
    latency: float | None  # a share of the SLO's limit

    @property
    def is_inside(self) -> bool:
        """Whether it meets the SLO, if there is one."""
        return self.latency is None or self.latency <= 1


# The level to measure next, None: enough. Asked before each level, of the landscape, by what was measured of this trial
# and of the best one that was measured whole, which is empty while there is none.
Choose = Callable[[Landscape, Sequence[Measured], Sequence[Measured]], int | None]


def every_level(found: Landscape, measured: Sequence[Measured], _incumbent: Sequence[Measured]) -> int | None:
    """All of them, in rising load."""
    return len(measured) if len(measured) < len(found.levels) else None


def raced(found: Landscape, measured: Sequence[Measured], incumbent: Sequence[Measured]) -> int | None:
    """As a trial of a sweep chooses: the incumbent's level first, and no other where it is clearly behind there."""
    ladder = [Rung(scenario="", demand=at, name=str(at)) for at in range(len(found.levels))]
    top = max((one for one in incumbent if one.is_inside), key=lambda one: one.score, default=None)
    best = None if top is None else Incumbent(number=0, level=str(top.at), score=top.score)
    race = Race(ladder, best, is_maximised=True, has_slo=found.latency is not None, grows=True)
    return race.step([_seen(one) for one in measured]).level


def _seen(one: Measured) -> Seen:
    return Seen(name=str(one.at), score=one.score if one.is_inside else None, potential=one.score)


@dataclass
class Running:
    """A trial on its way."""

    job: Job
    row: int
    noise: Numbers  # factors: of the score and the latency of each level
    measured: list[Measured] = field(default_factory=list)
    at: int | None = None  # the level that is being measured; None: it starts up
    ran: int = 0  # levels

    def ready_s(self, found: Landscape) -> float:
        """How long until its first level can begin, or until it crashes."""
        return float(found.crash_s[self.row] if found.failure[self.row] else found.startup_s[self.row])

    def level_s(self, found: Landscape, at: int) -> float:
        """How long a level takes."""
        self.at = at
        return float(found.level_s[self.row, at])

    def measure(self, found: Landscape) -> None:
        """The level has come to its end."""
        self.ran += self.at is not None
        if self.at is None or not np.isfinite(found.speed[self.row, self.at]):
            return
        speed, latency = self.noise[:, self.at]
        limit = None if found.latency is None else float(found.latency[self.row, self.at] * latency)
        score = float(found.speed[self.row, self.at] * speed)
        self.measured.append(Measured(at=self.at, score=score, latency=limit))

    def is_whole(self, found: Landscape) -> bool:
        """Whether every level was measured."""
        return self.ran == len(found.levels)

    def measure_all(self, found: Landscape) -> None:
        """Every level, without a look at the clock; nothing where it crashes."""
        for at in () if found.failure[self.row] else range(len(found.levels)):
            self.at = at
            self.measure(found)


def begun(found: Landscape, job: Job, row: int, seed: int, had: int) -> Running:
    """A trial that starts. Its noise is that of the configuration in this replay, whatever strategy proposes it.

    `had`: how often the configuration was measured before.
    """
    dice = costs.dice_of(found.name, 5, seed, row, had)
    return Running(job=job, row=row, noise=np.exp(found.noise * dice.normal(size=(2, len(found.levels)))))


def inside(measured: Sequence[Measured]) -> float:
    """The best level inside the SLO; 0: there is none."""
    return max((one.score for one in measured if one.is_inside), default=0.0)


def score(measured: Sequence[Measured]) -> float | None:
    """What a search is told: the best level inside the SLO, else the best as measured; None: nothing was measured."""
    inside = [one.score for one in measured if one.is_inside] or [one.score for one in measured]
    return max(inside, default=None)


def outcome(found: Landscape, trial: Running) -> Outcome:
    """The end of a trial, in the words of a sweep's."""
    failure, seen = found.failure[trial.row], score(trial.measured)
    levels = {found.levels[one.at]: _metrics(one) for one in trial.measured}
    if failure or seen is None:
        step = "health" if found.crash_s[trial.row] <= found.startup_s[trial.row] else "bench"
        kind = failure or str(FailureKind.BENCH_ERROR)
        told: Attributes = {"status": "failed", "failure": kind, "failure_step": step, "levels": levels}
        return Outcome(values=(), attributes=told)
    best = next(one for one in trial.measured if one.score == seen)
    constraints = {} if best.latency is None else {"latency": best.latency - 1}
    return Outcome(
        values=(seen,),
        constraints=constraints,
        attributes={
            "status": "ok",
            "level": found.levels[best.at],
            "levels": levels,
            "outside": None if best.is_inside else seen / (best.latency or 1.0) ** TILT,
            "raced": None if trial.is_whole(found) else True,
        },
    )


def _metrics(one: Measured) -> dict[str, float]:
    return {"score": one.score} | ({} if one.latency is None else {"latency": one.latency})


REFUSED = Outcome(values=(), attributes={"status": "refused"}, is_answered=True)
