"""A Gaussian process over encoded combinations: main effects, interactions, noise. Pure.

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
JITTER = 1e-6  # of the variance, so that the matrix can be factored
LEAST_VARIANCE = 1e-9
LEAST_SCALE = 1e-9  # of scores: less is rounding, and they are all the same
# Medians and log standard deviations of the priors. Columns are one wide: a knob matters little from 1.5 on.
MAIN, NEAR, LENGTH, NOISE = (0.3, 1.5), (0.7, 1.5), (1.5, 0.7), (0.02, 1.5)
ROOM = 4.0  # standard deviations of the prior in which is looked for each of them

Column = NDArray[np.float64]


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

    def mean_at(self, rows: Rows) -> Column:
        """The mean alone."""
        found: Column = self.kernel.between(self.rows, rows).T @ self.weights * self.scale + self.centre
        return found


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

    @classmethod
    def usual(cls, width: int) -> "Kernel":
        """Of so many columns, before anything is known: the medians of the priors."""
        return cls.of(np.log(priors(width)[:, 0]))

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


def priors(width: int) -> NDArray[np.float64]:
    """Median and spread of each hyperparameter."""
    return np.asarray([MAIN, NEAR, *[LENGTH] * width, NOISE])


def _squares(rows: Rows, others: Rows) -> Rows:
    """Squared distances."""
    sums = np.square(rows).sum(axis=1)[:, None] + np.square(others).sum(axis=1)[None, :] - 2 * rows @ others.T
    found: Rows = np.maximum(sums, 0.0)
    return found


def factored(kernel: Kernel, covariance: Rows) -> Rows:
    """The lower Cholesky factor of a covariance with the kernel's noise."""
    found: Rows = cholesky(covariance + (kernel.noise + JITTER) * np.eye(len(covariance)), lower=True)
    return found


def fitted(start: Kernel, rows: Rows, y: Column, steps: int = STEPS) -> Kernel:
    """The kernel with the highest posterior after these trials, some steps from this one."""
    prior = priors(rows.shape[1])
    middle, spread = np.log(prior[:, 0]), prior[:, 1]
    scaled = (y - float(np.mean(y))) / scale_of(float(np.std(y)))

    def loss(theta: Column) -> tuple[float, Column]:
        lost, slope, _ = likelihood(Kernel.of(theta), rows, scaled)
        away = (theta - middle) / spread
        return lost + 0.5 * float(away @ away), slope + away / spread

    bounds = [*zip(middle - ROOM * spread, middle + ROOM * spread, strict=True)]
    found = minimize(loss, start.theta, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": steps})
    return Kernel.of(found.x)


def posterior(kernel: Kernel, rows: Rows, y: Column) -> Posterior:
    """What is known after these trials."""
    scale, centre = scale_of(float(np.std(y))), float(np.mean(y))
    factor = factored(kernel, kernel.between(rows, rows))
    return Posterior(kernel, rows, factor, cho_solve((factor, True), (y - centre) / scale), scale, centre)


def scale_of(spread: float) -> float:
    """What scores are divided by, given their spread: where all are the same, by nothing."""
    return spread if spread > LEAST_SCALE else 1.0


def likelihood(kernel: Kernel, rows: Rows, y: Column) -> tuple[float, Column, Column]:
    """The negative logarithm of the marginal likelihood, and its slope over the logarithms of the hyperparameters.

    Third: its slope over `y`.
    """
    scaled, linear = rows / kernel.lengths, kernel.main * rows @ rows.T
    far = np.sqrt(5 * _squares(scaled, scaled))
    decay = kernel.near * np.exp(-far)
    near = decay * (1 + far + far**2 / 3)
    factor = factored(kernel, linear + near)
    weights = cho_solve((factor, True), y)
    rest = np.outer(weights, weights) - cho_solve((factor, True), np.eye(len(y)))
    bent = rest * decay * (1 + far) * (5 / 3)
    # The sum over all pairs of bent * (difference in a column)^2, for every column at once
    lengths = 2 * (np.square(scaled).T @ bent.sum(axis=1) - (scaled * (bent @ scaled)).sum(axis=0))
    slope = [(rest * linear).sum(), (rest * near).sum(), *lengths, kernel.noise * np.trace(rest)]
    return 0.5 * float(y @ weights) + float(np.log(np.diag(factor)).sum()), -0.5 * np.asarray(slope), weights
