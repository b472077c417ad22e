"""What is measured of searches: how long they take to come close to the best, and what they have after a budget. Pure.

T5 is the time until what would be recommended is truly within 5% of the best; at the end of the budget, if that never
happens. Its restricted mean is the mean of that. Times are in whole trials.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.values import value
from pipeline.replay.landscape import Numbers
from pipeline.replay.play import Budget, Run

NEAR = 0.95  # of the best
POINTS = 81  # of a curve


@value
class Confirmed:
    """What is recommended after contenders and default were measured in turn, as a sweep does at its end."""

    score: float  # mean, as a share of the best
    below_1: float
    below_3: float
    trials: float  # that this takes, mean


@value
class Summary:
    """One strategy over some searches."""

    strategy: str
    searches: int
    hit: float  # share that came within 5%
    t5_median: float
    t5_mean: float  # restricted
    scores: tuple[float, ...]  # true score of what is recommended after each budget, as a share of the best
    crashed: float  # share of trials
    below_1: float  # share of searches that recommend what is worse than the default by more than 1%
    below_3: float
    confirmed: Confirmed | None  # the same after rounds against the default; None: it has no default
    trials: float  # mean
    refused: float  # proposals that could not start, mean
    proposal_ms: float  # real time for one


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One strategy: a cell for each landscape and seed."""

    t5: Numbers
    crashed: Numbers
    deployed: Numbers
    curves: Numbers  # landscapes x seeds x points


def t5(run: Run, budget: Budget) -> float:
    """The time, at most the budget."""
    times = (at for at, share in zip(run.times, run.recommended, strict=True) if share >= NEAR)
    return next(times, float(budget.trials))


def score_at(run: Run, time: float) -> float:
    """The true score of what would be recommended at a time; 0 while there is nothing."""
    place = bisect_right(run.times, time)
    return run.recommended[place - 1] if place else 0.0


def budgets(budget: Budget) -> tuple[float, ...]:
    """A quarter, half and all of it."""
    return tuple(budget.trials * share for share in (0.25, 0.5, 1.0))


def summary(strategy: str, runs: Sequence[Run], budget: Budget) -> Summary:
    """Over all of these, each as heavy as any other."""
    times = [t5(run, budget) for run in runs]
    deployed = sum(run.deployed for run in runs)
    return Summary(
        strategy=strategy,
        searches=len(runs),
        hit=_share(max(run.recommended, default=0.0) >= NEAR for run in runs),
        t5_median=float(np.median(times)),
        t5_mean=float(np.mean(times)),
        scores=tuple(float(np.mean([score_at(run, at) for run in runs])) for at in budgets(budget)),
        crashed=sum(run.crashed for run in runs) / max(1, deployed),
        below_1=_share(_end(run) < 0.99 * run.default for run in runs),
        below_3=_share(_end(run) < 0.97 * run.default for run in runs),
        confirmed=_confirmed(runs),
        trials=deployed / len(runs),
        refused=float(np.mean([run.refused for run in runs])),
        proposal_ms=1000 * sum(run.asked_s for run in runs) / max(1, sum(run.proposals for run in runs)),
    )


def _confirmed(runs: Sequence[Run]) -> Confirmed | None:
    ends = [(run.confirmed, run.default) for run in runs if run.confirmed is not None]
    if not ends:
        return None
    return Confirmed(
        score=float(np.mean([end for end, _ in ends])),
        below_1=_share(end < 0.99 * default for end, default in ends),
        below_3=_share(end < 0.97 * default for end, default in ends),
        trials=float(np.mean([run.rounds for run in runs if run.confirmed is not None])),
    )


def _share(of: object) -> float:
    return float(np.mean([*of]))  # type: ignore[misc]


def _end(run: Run) -> float:
    return run.recommended[-1] if run.recommended else 0.0


def tables(runs: Sequence[Run], landscapes: Sequence[str], seeds: int, budget: Budget) -> Mapping[str, Table]:
    """By strategy. Every landscape and seed must be there."""
    by_place = {(run.strategy, run.landscape, run.seed): run for run in runs}
    points = np.linspace(0, budget.trials, POINTS)
    found = {}
    for strategy in dict.fromkeys(run.strategy for run in runs):
        rows = [[by_place[strategy, name, seed] for seed in range(seeds)] for name in landscapes]
        found[strategy] = Table(
            t5=np.array([[t5(run, budget) for run in row] for row in rows]),
            crashed=np.array([[float(run.crashed) for run in row] for row in rows]),
            deployed=np.array([[float(run.deployed) for run in row] for row in rows]),
            curves=np.array([[[score_at(run, at) for at in points] for run in row] for row in rows]),
        )
    return found
