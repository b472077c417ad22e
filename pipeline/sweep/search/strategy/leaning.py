"""A Gaussian process whose mean leans on earlier sweeps, each as far as it holds. Pure but for its memory.

The process learns what is left when a share of what each earlier sweep expects is taken away. The shares are fitted
together with the kernel, by the same likelihood. Their prior is exponential: what does not help falls to zero.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.optimize import minimize

from pipeline.sweep.search.space import Params
from pipeline.sweep.search.strategy.earlier import Prior
from pipeline.sweep.search.strategy.encoding import Rows
from pipeline.sweep.search.strategy.fits import Fits
from pipeline.sweep.search.strategy.surrogate import (
    ROOM,
    STEPS,
    Kernel,
    Posterior,
    factored,
    likelihood,
    priors,
    scale_of,
)
from pipeline.sweep.search.strategy.told import Told

Column = NDArray[np.float64]
Scores = Callable[[Sequence[Told]], Column]  # of trials with a result
TRUST = 4  # trials with a result: before, all earlier sweeps count alike
RATE = 1.0  # of the exponential prior of a single share
WIDEST = 2.0  # share: this sweep reacts so many times as strongly at most
OFTEN = 20  # trials: until so many, the shares are fitted for each proposal
PSEUDO = 4.0  # trials that the spread of earlier sweeps counts as


class Leaning:
    """Remembers the fits of kernel and shares. `shares`: the last ones."""

    def __init__(self, prior: Prior) -> None:
        self.prior = prior
        self.shares: Column = _alike(len(prior.earlier))
        self._fits = Fits[tuple[Kernel, Column]](first=TRUST, often=OFTEN)

    def fit(
        self, rows: Rows, trials: Sequence[Told], scores: Scores
    ) -> tuple[Posterior, Callable[[Sequence[Params]], Column]]:
        """What is known after these trials: of what is left, and what to add to that, as earlier sweeps expect it.

        Those without a result still run, and come last: they count as nothing new.
        """
        measured = [one for one in trials if one.values]
        count, y = len(measured), scores(measured)
        told = self.prior.of([one.params for one in measured])
        kernel, self.shares = self._fitted(rows[:count], measured, told, scores)
        left = y - told @ self.shares
        scale, centre = self._scale(y), float(np.mean(left))
        scaled = np.concatenate([(left - centre) / scale, np.zeros(len(rows) - count)])
        factor = factored(kernel, kernel.between(rows, rows))
        posterior = Posterior(kernel, rows, factor, cho_solve((factor, True), scaled), scale, centre)
        shares = self.shares
        return posterior, lambda some: self.prior.of(some) @ shares

    def _fitted(self, rows: Rows, measured: Sequence[Told], told: Rows, scores: Scores) -> tuple[Kernel, Column]:
        def fit(before: tuple[Kernel, Column], count: int) -> tuple[Kernel, Column]:
            y = scores(measured[:count])
            scale = self._scale(y)
            return _fit(*before, rows[:count], y / scale, told[:count] / scale)

        start = Kernel.usual(rows.shape[1]), _alike(told.shape[1])
        return self._fits.last(np.hstack([rows, told]), measured, start, fit)

    def _scale(self, y: Column) -> float:
        """How far scores lie apart: those of this sweep, while they are few rather those of earlier ones."""
        return scale_of(float(np.sqrt((len(y) * np.var(y) + PSEUDO * self.prior.spread**2) / (len(y) + PSEUDO))))


def _alike(count: int) -> Column:
    return np.full(count, 1 / count)


def _fit(start: Kernel, shares: Column, rows: Rows, y: Column, told: Rows) -> tuple[Kernel, Column]:
    """Kernel and shares with the highest posterior, some steps from these."""
    prior = priors(rows.shape[1])
    middle, spread = np.log(prior[:, 0]), prior[:, 1]
    size, many = len(middle), told.shape[1]
    around, apart = y - y.mean(), told - told.mean(axis=0)
    rate = RATE * many

    def loss(theta: Column) -> tuple[float, Column]:
        lost, slope, over_y = likelihood(Kernel.of(theta[:size]), rows, around - apart @ theta[size:])
        away = (theta[:size] - middle) / spread
        total = lost + 0.5 * float(away @ away) + rate * float(theta[size:].sum())
        return total, np.concatenate([slope + away / spread, rate - apart.T @ over_y])

    bounds = [*zip(middle - ROOM * spread, middle + ROOM * spread, strict=True), *[(0.0, WIDEST)] * many]
    begin = np.concatenate([start.theta, np.maximum(shares, 0.1 / many)])  # one at zero would hardly come back
    found = minimize(loss, begin, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": STEPS})
    return Kernel.of(found.x[:size]), found.x[size:]
