"""A Gaussian process over encoded combinations: main effects, interactions, noise. Pure but for its memory.

With few trials the likelihood alone says little of many length scales, so that each has a prior: maximum a posteriori.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.sweep.search.strategy.encoding import Rows

STEPS = 12  # of L-BFGS when the kernel is fitted again
EVERY = 3  # trials until it is
MANY = 60  # trials: with more, the kernel hardly changes, and a fit costs more; then it is fitted less often
LEAST_VARIANCE = 1e-9
# Medians and log standard deviations of the priors. Columns are one wide: a knob matters little from 1.5 on.
MAIN, NEAR, LENGTH, NOISE = (0.3, 1.5), (0.7, 1.5), (1.5, 0.7), (0.02, 1.5)

Column = NDArray[np.float64]
Loss = Callable[[Column], tuple[float, Column]]


class GaussianProcess:
    """Keeps the kernel that was fitted last, so that most suggestions fit none."""

    def __init__(self) -> None:
        self._theta: Column | None = None
        self._fitted_at = 0

    def predict(self, rows: Rows, y: Column, at: Rows) -> tuple[Column, Column]:
        """Mean and standard deviation without noise of `y` at other rows."""
        scale = float(np.std(y)) or 1.0
        centre = float(np.mean(y))
        model = self._fitted(rows, (y - centre) / scale)
        mean, sd = model.predict(at, return_std=True)
        noise = float(np.exp(model.kernel_.theta[-1]))
        free = np.sqrt(np.maximum(np.square(sd) - noise, LEAST_VARIANCE))
        return mean * scale + centre, free * scale

    def _fitted(self, rows: Rows, y: Column) -> Any:
        from sklearn.gaussian_process import GaussianProcessRegressor

        kernel, width = _kernel(rows.shape[1]), rows.shape[1]
        is_known = self._theta is not None and len(self._theta) == len(kernel.theta)
        is_due = not is_known or not 0 <= len(y) - self._fitted_at < max(EVERY, EVERY * len(y) // MANY)
        model = GaussianProcessRegressor(
            kernel.clone_with_theta(self._theta) if is_known else kernel,
            alpha=1e-6,
            optimizer=_fit(width) if is_due else None,
        ).fit(rows, y)
        if is_due:
            self._theta, self._fitted_at = model.kernel_.theta, len(y)
        return model


def _kernel(width: int) -> Any:
    """Its hyperparameters, in this order: those of the priors, the length of each column before the noise."""
    from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

    main = ConstantKernel(MAIN[0], (1e-4, 1e2)) * DotProduct(0.0, sigma_0_bounds="fixed")
    near = ConstantKernel(NEAR[0], (1e-3, 1e2)) * Matern([LENGTH[0]] * width, (0.02, 50.0), nu=2.5)
    return main + near + WhiteKernel(NOISE[0], (1e-5, 1.0))


def _fit(width: int) -> Callable[[Loss, Column, Any], tuple[Column, float]]:
    """What scikit-learn calls to find the hyperparameters."""
    priors = np.asarray([MAIN, NEAR, *[LENGTH] * width, NOISE])
    middle, spread = np.log(priors[:, 0]), priors[:, 1]

    def fit(loss: Loss, start: Column, bounds: Any) -> tuple[Column, float]:
        from scipy.optimize import minimize

        def weighed(theta: Column) -> tuple[float, Column]:
            lost, slope = loss(theta)
            away = (theta - middle) / spread
            return lost + 0.5 * float(away @ away), slope + away / spread

        found = minimize(weighed, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": STEPS})
        return found.x, float(found.fun)

    return fit
