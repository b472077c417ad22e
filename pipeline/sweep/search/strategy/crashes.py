"""The probability that a combination crashes, learned from those that did and those that did not. Pure.

The mean of a forest and a logistic regression, over the columns and the sums and differences of two: what crashes lies
beyond a product of knobs (sequences x length, threads in x and y): a sum of ranks where values grow by factors.
On recorded tables with 4% to 23% crashes, 40 random trials: area under the ROC curve .86 to .95, of the forest over the
columns alone .76 to .89.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.sweep.search.strategy.encoding import Rows

TREES = 20
INVERSE_PENALTY = 10.0  # of the regression
WIDE = 32  # columns: of more, no pairs are made

Risk = Callable[[Rows], NDArray[np.float64]]


def learned(rows: Rows, crashed: Sequence[bool], *, seed: int = 0) -> Risk:
    """The risk of other rows; 0 while nothing has crashed."""
    if not any(crashed) or all(crashed):
        same = float(any(crashed))
        return lambda at: np.full(len(at), same)
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression

    # All knobs at each split: a crash often hangs on one or two of them
    forest = ExtraTreesClassifier(TREES, max_features=None, random_state=seed)
    models = [forest, LogisticRegression(C=INVERSE_PENALTY, max_iter=300)]
    for model in models:
        model.fit(paired(rows), np.asarray(crashed))

    def risk(at: Rows) -> NDArray[np.float64]:
        pairs = paired(at)
        found: NDArray[np.float64] = np.mean([model.predict_proba(pairs)[:, 1] for model in models], axis=0)
        return found

    return risk


def paired(rows: Rows) -> Rows:
    """The columns, and the sums and differences of any two."""
    if rows.shape[1] > WIDE:
        return rows
    one, other = np.triu_indices(rows.shape[1], 1)
    return np.hstack([rows, rows[:, one] + rows[:, other], rows[:, one] - rows[:, other]])
