"""The probability that a combination crashes, learned from those that did and those that did not. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.sweep.search.strategy.encoding import Rows

TREES = 20


def risk(rows: Rows, crashed: Sequence[bool], at: Rows, *, seed: int = 0) -> NDArray[np.float64]:
    """For each row of `at`; 0 while nothing has crashed."""
    if not any(crashed):
        return np.zeros(len(at))
    if all(crashed):
        return np.ones(len(at))
    from sklearn.ensemble import ExtraTreesClassifier

    # All knobs at each split: a crash often hangs on one or two of them
    model = ExtraTreesClassifier(TREES, max_features=None, random_state=seed).fit(rows, np.asarray(crashed))
    found: NDArray[np.float64] = model.predict_proba(at)[:, 1]
    return found
