"""Chooses what to run next from what was told. The models are fitted here; no study, no files."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from pydantic import Field
from threadpoolctl import ThreadpoolController

from pipeline.core.reasons import By, Reason
from pipeline.core.values import value
from pipeline.sweep.search.space import Params
from pipeline.sweep.search.strategy import acquisition, crashes, surrogate, targets
from pipeline.sweep.search.strategy.candidates import Candidates
from pipeline.sweep.search.strategy.crashes import Risk
from pipeline.sweep.search.strategy.earlier import Earlier, Prior
from pipeline.sweep.search.strategy.encoding import Encoding, Rows, agreed_of, resolved_of
from pipeline.sweep.search.strategy.fits import Fits
from pipeline.sweep.search.strategy.leaning import Leaning
from pipeline.sweep.search.strategy.outlook import Outlook, Prospect
from pipeline.sweep.search.strategy.surrogate import Column, Kernel
from pipeline.sweep.search.strategy.targets import Target
from pipeline.sweep.search.strategy.told import Told

DRAWN = 50  # combinations of which a random one is taken
FIRST = 3  # trials after the baseline that earlier sweeps propose, before there are random ones
LEAST = 1e-3  # weight of one that is sure to crash
AHEAD = 20  # of the most promising candidates: whose neighbours are candidates too must be able to start


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
    crash_power: float = Field(default=acquisition.CRASH_POWER, ge=0, allow_inf_nan=False)


@value
class Proposal:
    """A combination, and why it."""

    params: Params
    reason: Reason


class Proposer:
    """Proposes one combination after the other. Remembers what is costly to find out again, nothing else."""

    def __init__(
        self,
        candidates: Candidates,
        switches: Switches,
        is_maximised: Sequence[bool],
        earlier: Sequence[Earlier] = (),
    ) -> None:
        self.candidates, self.switches, self.is_maximised = candidates, switches, tuple(is_maximised)
        self._fits = Fits[Kernel]()
        self.leaning = Leaning(Prior(earlier, candidates.space)) if earlier else None
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
        if not measured or self._is_start(len(trials)):
            return self._random(trials, dice, "start")
        is_random = dice.random() < self.switches.random_share and len(trials) > self.switches.start
        if is_random or not self.switches.surrogate:
            return self._random(trials, dice, "random")
        aim = targets.target(measured, self.is_maximised, targets.weights(len(self.is_maximised), dice))
        return self._best(trials, measured, aim, dice) or self._random(trials, dice, "random")

    def _is_start(self, count: int) -> bool:
        """Whether a trial is random because so few came before it; what earlier sweeps propose takes turns with it."""
        by_earlier = 0 if self.leaning is None else FIRST
        return by_earlier < count <= self.switches.start

    def _random(self, trials: Sequence[Told], dice: np.random.Generator, by: By) -> Proposal | None:
        """Any free combination; the less likely, the more likely it crashes."""
        some = self.candidates.random(DRAWN, dice)
        order = self._careful(some, trials, dice) if some else ()
        found = next(filter(self.candidates.is_free, order), None) or self.candidates.any(dice)
        return None if found is None else Proposal(params=found, reason=Reason(by=by))

    def _careful(self, some: Sequence[Params], trials: Sequence[Told], dice: np.random.Generator) -> Iterator[Params]:
        """The same in random order, weighted by the probability that they start (Efraimidis, Spirakis 2006)."""
        encoding = Encoding(self.candidates.space, resolved_of(trials, self.candidates.space))
        risk = self._risk(trials, encoding, dice)(encoding.rows(some))
        weight = acquisition.value_of(np.ones(len(some)), risk, self.switches.crash_power)
        keys = np.log(dice.random(len(some))) / np.maximum(weight, LEAST)
        return (some[at] for at in np.argsort(keys)[::-1])

    def _best(
        self, trials: Sequence[Told], measured: Sequence[Told], aim: Target, dice: np.random.Generator
    ) -> Proposal | None:
        """The most promising of random combinations, neighbours of the best, and of the most promising so far."""
        outlook = self._outlook(trials, measured, aim, dice)
        order = [measured[int(at)].params for at in np.argsort(aim.y)[::-1]]
        known = [] if self.leaning is None else self._known(self.leaning.prior, order[0], dice)
        some = [
            *known,
            *self.candidates.random(self.switches.candidates, dice),
            *self.candidates.neighbours([*order[: self.switches.best], *known], self.switches.pairs, dice),
        ]
        for _ in range(self.switches.climbs):
            ahead = (one.params for one in islice(outlook.ranked(some), AHEAD))
            top = [*islice(filter(self.candidates.is_free, ahead), self.switches.best)]
            some += self.candidates.neighbours(top, 0, dice)
        found = next((one for one in outlook.ranked(some) if self.candidates.is_free(one.params)), None)
        if found is None:
            return None
        return Proposal(params=found.params, reason=_reason(found, aim.best, is_alone=len(self.is_maximised) == 1))

    def _outlook(
        self, trials: Sequence[Told], measured: Sequence[Told], aim: Target, dice: np.random.Generator
    ) -> Outlook:
        """Trials that still run count as mean ones, so that the next proposal lies elsewhere."""
        resolved = resolved_of(trials, self.candidates.space)
        encoding = Encoding(self.candidates.space, resolved)
        running = [one for one in trials if one.is_running]
        rows, prior = encoding.rows([one.params for one in (*measured, *running)]), None
        if self.leaning is None:
            y = np.asarray([*aim.y, *[float(np.mean(aim.y))] * len(running)])
            posterior = surrogate.posterior(self._kernel(rows[: len(measured)], measured, aim), rows, y)
        else:
            self.leaning.prior.know(resolved)
            posterior, prior = self.leaning.fit(rows, [*measured, *running], self._scores)
        return Outlook(
            encoding=encoding,
            posterior=posterior,
            risk=self._risk(trials, encoding, dice),
            best=aim.best,
            crash_power=self.switches.crash_power,
            prior=prior,
        )

    def _kernel(self, rows: Rows, measured: Sequence[Told], aim: Target) -> Kernel:
        """Fitted after the trials so far; with several objectives, then once more to the weights of this proposal."""

        def fit(before: Kernel, count: int) -> Kernel:
            return surrogate.fitted(before, rows[:count], self._scores(measured[:count]))

        found = self._fits.last(rows, measured, Kernel.usual(rows.shape[1]), fit)
        return found if len(self.is_maximised) == 1 else surrogate.fitted(found, rows, np.asarray(aim.y))

    def _scores(self, measured: Sequence[Told]) -> Column:
        """What a kernel is fitted to. Several objectives have other weights for each number of trials."""
        weights = targets.weights(len(self.is_maximised), np.random.default_rng(len(measured)))
        return np.asarray(targets.target(measured, self.is_maximised, weights).y)

    def _known(self, prior: Prior, best: Params, dice: np.random.Generator) -> list[Params]:
        """The best of earlier sweeps, with the values of our best one where they have none."""
        return [self.candidates.inside({**best, **one}, dice) for one in prior.best(self.switches.best)]

    def _risk(self, trials: Sequence[Told], encoding: Encoding, dice: np.random.Generator) -> Risk:
        ended = [one for one in trials if one.values or one.is_crash] if self.switches.crash_model else []
        rows, crashed = encoding.rows([one.params for one in ended]), [one.is_crash for one in ended]
        return crashes.learned(rows, crashed, seed=int(dice.integers(2**31)))


def _reason(found: Prospect, best: float, *, is_alone: bool) -> Reason:
    """`is_alone`: there is one objective; what is expected of several, by weights, is no share of any of them."""
    risk, earlier = round(found.risk, 3), None if found.earlier is None else round(found.earlier, 3)
    if not is_alone:
        return Reason(by="gain", crash_risk=risk, earlier=earlier)
    return Reason(
        by="gain",
        expected=_share(found.mean - best),
        uncertainty=_share(found.sd),
        gain=_share(found.gain),
        crash_risk=risk,
        earlier=earlier,
    )


def _share(log: float) -> float:
    """A difference of logarithms as a share."""
    return round(math.expm1(min(float(log), 10.0)), 4)
