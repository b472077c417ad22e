"""Chooses what to run next from what was told. The models are fitted here; no study, no files."""

import math
from collections.abc import Sequence
from itertools import islice

import numpy as np
from pydantic import Field
from threadpoolctl import ThreadpoolController

from pipeline.core.reasons import By, Reason
from pipeline.core.values import value
from pipeline.sweep.search.space import Params
from pipeline.sweep.search.strategy import acquisition, crashes, targets
from pipeline.sweep.search.strategy.candidates import Candidates
from pipeline.sweep.search.strategy.encoding import Encoding, agreed_of, resolved_of
from pipeline.sweep.search.strategy.outlook import Outlook, Prospect
from pipeline.sweep.search.strategy.surrogate import GaussianProcess
from pipeline.sweep.search.strategy.targets import Target
from pipeline.sweep.search.strategy.told import Told


@value
class Switches:
    """Each ingredient of the strategy."""

    surrogate: bool = True  # a Gaussian process; without it every trial is random
    crash_model: bool = True
    random_share: float = Field(default=0.1, ge=0, le=1)
    start: int = Field(default=5, ge=0)  # random combinations after the baseline, before the model is asked
    candidates: int = Field(default=250, ge=1)  # random ones for each proposal
    best: int = Field(default=5, ge=0)  # whose neighbours are candidates too
    pairs: int = Field(default=50, ge=0)  # neighbours that differ in two knobs
    climbs: int = Field(default=2, ge=0)  # times that neighbours of the most promising candidates are added
    crash_power: float = Field(default=acquisition.CRASH_POWER, ge=0)


@value
class Proposal:
    """A combination, and why it."""

    params: Params
    reason: Reason


class Proposer:
    """Proposes one combination after the other. Remembers what is costly to find out again, nothing else."""

    def __init__(self, candidates: Candidates, switches: Switches, is_maximised: Sequence[bool]) -> None:
        self.candidates, self.switches, self.is_maximised = candidates, switches, tuple(is_maximised)
        self.model = GaussianProcess()
        self._threads = ThreadpoolController()

    def next(self, trials: Sequence[Told], dice: np.random.Generator) -> Proposal | None:
        """The next combination; None when no free one turns up.

        On one thread: the matrices are small, and threads that wait for each other cost a trial beside them its cores.
        """
        with self._threads.limit(limits=1):
            return self._next(trials, dice)

    def _next(self, trials: Sequence[Told], dice: np.random.Generator) -> Proposal | None:
        space = self.candidates.space
        self.candidates.note((one.params for one in trials), agreed_of(trials, space))
        measured = [one for one in trials if one.values]
        if len(trials) <= self.switches.start or not measured:
            return self._random(dice, "start")
        is_random = dice.random() < self.switches.random_share
        if is_random or not self.switches.surrogate:
            return self._random(dice, "random")
        aim = targets.target(measured, self.is_maximised, targets.weights(len(self.is_maximised), dice))
        return self._best(trials, measured, aim, dice) or self._random(dice, "random")

    def _random(self, dice: np.random.Generator, by: By) -> Proposal | None:
        found = self.candidates.any(dice)
        return None if found is None else Proposal(params=found, reason=Reason(by=by))

    def _best(
        self, trials: Sequence[Told], measured: Sequence[Told], aim: Target, dice: np.random.Generator
    ) -> Proposal | None:
        """The most promising of random combinations, neighbours of the best, and of the most promising so far."""
        outlook = self._outlook(trials, measured, aim, int(dice.integers(2**31)))
        order = np.argsort(aim.y)[::-1]
        best = [measured[int(at)].params for at in order[: self.switches.best]]
        some = [
            *self.candidates.random(self.switches.candidates, dice),
            *self.candidates.neighbours(best, self.switches.pairs, dice),
        ]
        for _ in range(self.switches.climbs):
            top = [one.params for one in islice(outlook.ranked(some), self.switches.best)]
            some += self.candidates.neighbours(top, 0, dice)
        found = next((one for one in outlook.ranked(some) if self.candidates.is_free(one.params)), None)
        return None if found is None else Proposal(params=found.params, reason=_reason(found, aim.best))

    def _outlook(self, trials: Sequence[Told], measured: Sequence[Told], aim: Target, seed: int) -> Outlook:
        """Trials that still run count as mean ones, so that the next proposal lies elsewhere."""
        encoding = Encoding(self.candidates.space, resolved_of(trials, self.candidates.space))
        running = [one.params for one in trials if one.is_running]
        y = np.asarray([*aim.y, *[float(np.mean(aim.y))] * len(running)])
        rows = encoding.rows([*(one.params for one in measured), *running])
        ended = [one for one in trials if one.values or one.is_crash] if self.switches.crash_model else []
        return Outlook(
            encoding=encoding,
            posterior=self.model.fit(rows, y),
            risk=crashes.learned(
                encoding.rows([one.params for one in ended]), [one.is_crash for one in ended], seed=seed
            ),
            best=aim.best,
            crash_power=self.switches.crash_power,
        )


def _reason(found: Prospect, best: float) -> Reason:
    return Reason(
        by="gain",
        expected=_share(found.mean - best),
        uncertainty=_share(found.sd),
        gain=_share(found.gain),
        crash_risk=round(found.risk, 3),
    )


def _share(log: float) -> float:
    """A difference of logarithms as a share."""
    return round(math.expm1(min(float(log), 10.0)), 4)
