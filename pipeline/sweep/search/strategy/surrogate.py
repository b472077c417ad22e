"""A Gaussian process over encoded combinations: main effects, interactions, noise. Pure but for its memory.

A few lines of our own instead of scikit-learn's. Each column has a length, with a prior: few trials alone say little of
so many. And the slope over all lengths costs one product of matrices, not one for each. Formulas: Rasmussen, Williams,
Gaussian Processes for Machine Learning, 2006, chapters 2, 4 and 5.4.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from pipeline.sweep.search.strategy.encoding import Rows

STEPS = 12  # of L-BFGS when the kernel is fitted again
EVERY = 3  # trials until it is
MANY = 60  # trials: with more, the kernel hardly changes, and a fit costs more; then it is fitted less often
JITTER = 1e-6  # of the variance, so that the matrix can be factored
LEAST_VARIANCE = 1e-9
# Medians and log standard deviations of the priors. Columns are one wide: a knob matters little from 1.5 on.
MAIN, NEAR, LENGTH, NOISE = (0.3, 1.5), (0.7, 1.5), (1.5, 0.7), (0.02, 1.5)
ROOM = 4.0  # standard deviations of the prior in which is looked for each of them

Column = NDArray[np.float64]


class GaussianProcess:
    """Keeps the kernel that was fitted last, so that most suggestions fit none."""

    def __init__(self) -> None:
        self.kernel: Kernel | None = None
        self._fitted_at = 0

    def fit(self, rows: Rows, y: Column) -> "Posterior":
        """What is known after these trials."""
        scale, centre = float(np.std(y)) or 1.0, float(np.mean(y))
        scaled = (y - centre) / scale
        kernel = self._fitted(rows, scaled)
        factor = _factor(kernel, kernel.between(rows, rows))
        return Posterior(kernel, rows, factor, cho_solve((factor, True), scaled), scale, centre)

    def _fitted(self, rows: Rows, y: Column) -> "Kernel":
        known = self.kernel
        if known is None or len(known.lengths) != rows.shape[1]:
            known = Kernel.of(np.log(_priors(rows.shape[1])[:, 0]))
        elif 0 <= len(y) - self._fitted_at < max(EVERY, EVERY * len(y) // MANY):
            return known
        self.kernel, self._fitted_at = _fit(known, rows, y), len(y)
        return self.kernel


@dataclass(frozen=True, slots=True)
class Posterior:
    """A process after it has seen trials."""

    kernel: "Kernel"
    rows: Rows
    factor: Rows
    weights: Column
    scale: float
    centre: float

    def at(self, rows: Rows) -> tuple[Column, Column]:
        """Mean and standard deviation without noise at these rows."""
        across = self.kernel.between(self.rows, rows)
        known = np.square(solve_triangular(self.factor, across, lower=True)).sum(axis=0)
        sd = np.sqrt(np.maximum(self.kernel.own(rows) - known, LEAST_VARIANCE))
        return across.T @ self.weights * self.scale + self.centre, sd * self.scale


@dataclass(frozen=True, slots=True)
class Kernel:
    """A linear part, and a Matern one (5/2) with a length for each column. `noise`: a variance as well."""

    main: float
    near: float
    lengths: Column
    noise: float

    @classmethod
    def of(cls, theta: Column) -> "Kernel":
        """From the logarithms, in the order of the priors."""
        main, near, *lengths, noise = np.exp(theta)
        return cls(main=float(main), near=float(near), lengths=np.asarray(lengths), noise=float(noise))

    @property
    def theta(self) -> Column:
        """The logarithms."""
        return np.log([self.main, self.near, *self.lengths, self.noise])

    def between(self, rows: Rows, others: Rows) -> Rows:
        """The covariance without noise."""
        far = np.sqrt(5 * _squares(rows / self.lengths, others / self.lengths))
        found: Rows = self.main * rows @ others.T + self.near * (1 + far + far**2 / 3) * np.exp(-far)
        return found

    def own(self, rows: Rows) -> Column:
        """The variance of each row."""
        found: Column = self.main * np.square(rows).sum(axis=1) + self.near
        return found


def _priors(width: int) -> NDArray[np.float64]:
    """Median and spread of each hyperparameter."""
    return np.asarray([MAIN, NEAR, *[LENGTH] * width, NOISE])


def _squares(rows: Rows, others: Rows) -> Rows:
    """Squared distances."""
    sums = np.square(rows).sum(axis=1)[:, None] + np.square(others).sum(axis=1)[None, :] - 2 * rows @ others.T
    found: Rows = np.maximum(sums, 0.0)
    return found


def _factor(kernel: Kernel, covariance: Rows) -> Rows:
    found: Rows = cholesky(covariance + (kernel.noise + JITTER) * np.eye(len(covariance)), lower=True)
    return found


def _fit(start: Kernel, rows: Rows, y: Column) -> Kernel:
    """The kernel with the highest posterior, some steps from this one."""
    priors = _priors(rows.shape[1])
    middle, spread = np.log(priors[:, 0]), priors[:, 1]

    def loss(theta: Column) -> tuple[float, Column]:
        lost, slope = _likelihood(Kernel.of(theta), rows, y)
        away = (theta - middle) / spread
        return lost + 0.5 * float(away @ away), slope + away / spread

    bounds = [*zip(middle - ROOM * spread, middle + ROOM * spread, strict=True)]
    found = minimize(loss, start.theta, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": STEPS})
    return Kernel.of(found.x)


def _likelihood(kernel: Kernel, rows: Rows, y: Column) -> tuple[float, Column]:
    """The negative logarithm of the marginal likelihood, and its slope over the logarithms of the hyperparameters."""
    scaled, linear = rows / kernel.lengths, kernel.main * rows @ rows.T
    far = np.sqrt(5 * _squares(scaled, scaled))
    decay = kernel.near * np.exp(-far)
    near = decay * (1 + far + far**2 / 3)
    factor = _factor(kernel, linear + near)
    weights = cho_solve((factor, True), y)
    rest = np.outer(weights, weights) - cho_solve((factor, True), np.eye(len(y)))
    bent = rest * decay * (1 + far) * (5 / 3)
    # The sum over all pairs of bent * (difference in a column)^2, for every column at once
    lengths = 2 * (np.square(scaled).T @ bent.sum(axis=1) - (scaled * (bent @ scaled)).sum(axis=0))
    slope = [(rest * linear).sum(), (rest * near).sum(), *lengths, kernel.noise * np.trace(rest)]
    return 0.5 * float(y @ weights) + float(np.log(np.diag(factor)).sum()), -0.5 * np.asarray(slope)
