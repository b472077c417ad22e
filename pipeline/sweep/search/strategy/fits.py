"""Fits that start from the one before: of the first trials, after counts of them that are always the same.

So what is fitted follows from what was told, and not from who was asked when: a search that another process goes on
with has the model that it would have had. Pure but for its memory, which only saves doing it again.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import Generic, TypeVar

import numpy as np

from pipeline.sweep.search.strategy.encoding import Rows
from pipeline.sweep.search.strategy.told import Told

FIRST = 6  # trials until there is a fit: as many as are random before a model is asked, with the baseline
EVERY = 3  # trials until the next fit
MANY = 60  # trials: with more, a fit hardly changes, and costs more; then it is made less often

Fitted = TypeVar("Fitted")


class Fits(Generic[Fitted]):
    """Remembers each fit for as long as the trials that it was made of are the same."""

    def __init__(self, first: int = FIRST, often: int = 0) -> None:
        """`first`: trials until there is a fit; up to `often`, there is one for each trial."""
        self._first, self._often = first, often
        self._rows: Rows = np.empty((0, 0))
        self._trials: Sequence[Told] = ()
        self._known: dict[int, Fitted] = {}

    def last(self, rows: Rows, trials: Sequence[Told], start: Fitted, fit: Callable[[Fitted, int], Fitted]) -> Fitted:
        """The last of the fits to these trials, by number; `start` where they are too few.

        `rows`: all that a fit takes of a trial beside itself. `fit`: from the one before, to so many of them.
        """
        same = self._same(rows, trials)
        self._known = {count: known for count, known in self._known.items() if count <= same}
        self._rows, self._trials = rows, [*trials]
        found = start
        for count in takewhile(lambda count: count <= len(trials), counts(self._first, self._often)):
            if count not in self._known:
                self._known[count] = fit(found, count)
            found = self._known[count]
        return found

    def _same(self, rows: Rows, trials: Sequence[Told]) -> int:
        """How many of the first trials are as they were: one that runs beside others may end after later ones."""
        if rows.shape[1] != self._rows.shape[1]:
            return 0
        pairs = zip(rows, self._rows, trials, self._trials, strict=False)
        return sum(takewhile(bool, (one == had and np.array_equal(row, was) for row, was, one, had in pairs)))


def counts(first: int, often: int) -> Iterator[int]:
    """Of trials, after which there is a fit."""
    count = first
    while True:
        yield count
        count += 1 if count < often else max(EVERY, EVERY * count // MANY)
