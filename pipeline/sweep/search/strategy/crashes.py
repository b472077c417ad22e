"""The probability that a combination crashes, learned from those that did and those that did not. Pure."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.sweep.search.strategy.encoding import Rows

TREES = 20

Risk = Callable[[Rows], NDArray[np.float64]]


def learned(rows: Rows, crashed: Sequence[bool], *, seed: int = 0) -> Risk:
    """The risk of other rows; 0 while nothing has crashed."""
    if not any(crashed) or all(crashed):
        same = float(any(crashed))
        return lambda at: np.full(len(at), same)
    from sklearn.ensemble import ExtraTreesClassifier

    # All knobs at each split: a crash often hangs on one or two of them
    model = ExtraTreesClassifier(TREES, max_features=None, random_state=seed).fit(rows, np.asarray(crashed))

    def risk(at: Rows) -> NDArray[np.float64]:
        found: NDArray[np.float64] = model.predict_proba(at)[:, 1]
        return found

    return risk
