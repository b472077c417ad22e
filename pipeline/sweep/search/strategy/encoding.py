"""Turns combinations into rows of numbers: one column for an ordered dimension, one for each value of others. Pure."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.core.values import Scalar
from pipeline.sweep.search.space import LEFT, Choice, Params, Space, Span, is_alike, number_of
from pipeline.sweep.search.strategy.told import Resolved, Told

Rows = NDArray[np.float64]
MIDDLE = 0.0  # columns lie between -0.5 and 0.5
FURTHEST = 1.0  # a default far outside of what is searched is no further away than this


class Encoding:
    """The columns of a space. A default whose resolved value is known lies where that value lies."""

    def __init__(self, space: Space, resolved: Resolved) -> None:
        self._columns = [_column(one, resolved.get(one.name)) for one in space.dimensions]
        self._names = space.names

    def rows(self, many: Sequence[Params]) -> Rows:
        """One row for each combination; values that are no part of the space are allowed where they are numbers."""
        if not many:
            return np.empty((0, sum(column.width for column in self._columns)))
        parts = [
            column.of([params.get(name) for params in many])
            for name, column in zip(self._names, self._columns, strict=True)
        ]
        return np.hstack(parts)


class _Ordered:
    """Numbers by rank (a list) or by position (a range); what is no number has a column of its own beside them."""

    def __init__(self, place: Mapping[Scalar, float] | Span, words: Sequence[str], default: float | None) -> None:
        self._place, self._words, self._default = place, {word: at for at, word in enumerate(words)}, default
        self.width = 1 + len(words)

    def of(self, picks: Sequence[Scalar | None]) -> Rows:
        found = np.zeros((len(picks), self.width))
        for row, pick in enumerate(picks):
            if pick is None:  # a knob of another engine
                found[row, 0] = MIDDLE
            elif pick in self._words:
                found[row, 0], found[row, 1 + self._words[str(pick)]] = MIDDLE, 1.0
            elif pick == LEFT:
                found[row, 0] = MIDDLE if self._default is None else self._default
            else:
                found[row, 0] = _position(self._place, pick) if isinstance(self._place, Span) else self._place[pick]
        return found


class _Named:
    """A column for each value; a default that is one of them lies there."""

    def __init__(self, values: Sequence[str], default: Scalar | None) -> None:
        known = (value for value in values if value != LEFT and default is not None and is_alike(value, default))
        same = next(known, None)
        columns = [value for value in values if value != LEFT or same is None]
        self._at = {value: at for at, value in enumerate(columns)}
        self.width = len(columns)
        if same is not None:
            self._at[LEFT] = self._at[same]

    def of(self, picks: Sequence[Scalar | None]) -> Rows:
        found = np.zeros((len(picks), self.width))
        for row, pick in enumerate(picks):
            if pick in self._at:  # else a default beside the values that are searched: none of them
                found[row, self._at[str(pick)]] = 1.0
        return found


def _column(one: Choice | Span, default: Scalar | None) -> _Ordered | _Named:
    known = number_of(default)
    if isinstance(one, Span):
        return _Ordered(one, (), None if known is None else _position(one, known))
    if not one.is_ordered:
        return _Named(one.values, default)
    numbers = {value: number for value in one.values if (number := number_of(value)) is not None}
    ranked = sorted({*numbers.values()})
    ranks = [rank / (len(ranked) - 1) - 0.5 for rank in range(len(ranked))]
    place: dict[Scalar, float] = {value: ranks[ranked.index(number)] for value, number in numbers.items()}
    words = [value for value in one.values if value not in numbers and not (value == LEFT and known is not None)]
    return _Ordered(place, words, None if known is None else _rank(known, ranked, ranks))


def _rank(number: float, ranked: Sequence[float], ranks: Sequence[float]) -> float:
    """Between the ranks of its neighbours; a step outside of the list for what is outside."""
    step = ranks[1] - ranks[0]
    if number < ranked[0] or number > ranked[-1]:
        return ranks[0] - step if number < ranked[0] else ranks[-1] + step
    return float(np.interp(number, ranked, ranks))


def _position(span: Span, pick: Scalar) -> float:
    low, high, at = float(span.low), float(span.high), float(pick)
    if span.is_log:
        low, high, at = math.log(low), math.log(high), math.log(at) if at > 0 else math.log(low) - 1
    share = (at - low) / (high - low) if high > low else 0.5
    return max(-FURTHEST, min(FURTHEST, share - 0.5))


def resolved_of(trials: Sequence[Told], space: Space) -> dict[str, Scalar]:
    """What the engine makes of each knob that is left to it: as the first trial that left it found out."""
    found: dict[str, Scalar] = {}
    for one in trials:
        for name in space.names:
            if one.params.get(name) == LEFT and space.bare(name) in one.resolved:
                found.setdefault(name, one.resolved[space.bare(name)])
    return found


def agreed_of(trials: Sequence[Told], space: Space) -> dict[str, Scalar]:
    """The same, but only where every trial that left the knob found out the same."""
    first = resolved_of(trials, space)
    apart = {
        name
        for one in trials
        for name in first
        if one.params.get(name) == LEFT and one.resolved.get(space.bare(name), first[name]) != first[name]
    }
    return {name: item for name, item in first.items() if name not in apart}
