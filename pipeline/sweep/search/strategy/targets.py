"""The column that the surrogate learns: logarithms of scores, where more is better. Pure."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.core.values import value
from pipeline.sweep.search.strategy.told import Told

Column = NDArray[np.float64]
WIDTH = 2.5  # standard deviations below the mean at which a bad score is as bad as any
TILT = 0.05  # of the sum, in the scalarisation of several objectives (Knowles 2006, ParEGO)


@value
class Target:
    """`y` of the trials that were measured, in their order; `best`: of those inside the SLO, if there are any."""

    y: tuple[float, ...]
    best: float


def target(measured: Sequence[Told], is_maximised: Sequence[bool], weights: Sequence[float]) -> Target:
    """The scores of measured trials; several objectives are weighted into one."""
    columns = [_logs(measured, at, more) for at, more in enumerate(is_maximised)]
    y = _clipped(columns[0]) if len(columns) == 1 else _scalarised([_clipped(each) for each in columns], weights)
    inside = [score for score, one in zip(y, measured, strict=True) if one.is_feasible]
    return Target(y=tuple(float(score) for score in y), best=float(max(inside or y)))


def weights(count: int, dice: np.random.Generator) -> tuple[float, ...]:
    """Shares of the objectives, other ones for each proposal."""
    return tuple(float(each) for each in dice.dirichlet(np.ones(count)))


def _logs(measured: Sequence[Told], at: int, is_maximised: bool) -> list[float]:
    seen = [_told(one, at) for one in measured]
    sign = 1 if is_maximised else -1
    return [sign * math.log(score) if 0 < score < math.inf else -math.inf for score in seen]


def _told(one: Told, at: int) -> float:
    """Outside the SLO a throughput counts as 0, of which nothing can be learned."""
    return one.outside if at == 0 and not one.is_feasible and one.outside is not None else one.values[at]


def _clipped(scores: Sequence[float]) -> Column:
    """Far below the mean, or no number that has a logarithm: both tell no more than that it is bad."""
    found = np.asarray(scores, dtype=float)
    finite = found[np.isfinite(found)]
    if not len(finite):
        return np.zeros(len(found))
    low = float(np.mean(finite) - WIDTH * max(float(np.std(finite)), 0.01))
    clipped: Column = np.maximum(found, low)
    return clipped


def _scalarised(columns: Sequence[Column], weights: Sequence[float]) -> Column:
    """The augmented Chebyshev scalarisation, with the best of each objective at 0 and the worst at -1."""
    scaled = []
    for each, weight in zip(columns, weights, strict=True):
        width = float(np.ptp(each)) or 1.0
        scaled.append(weight * (each - each.max()) / width)
    stacked = np.stack(scaled)
    found: Column = stacked.min(axis=0) + TILT * stacked.sum(axis=0)
    return found
