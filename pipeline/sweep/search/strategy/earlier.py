"""Earlier sweeps over some of the same knobs, and what they expect of combinations of this one.

Each is a Gaussian process of its own over what its trials scored against its own baseline. What this sweep has of
other knobs does not matter to it; of knobs that it had and this sweep has not, it takes its own baseline's values.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.core.values import Scalar, value
from pipeline.sweep.search.space import LEFT, Choice, Params, Space, Span, number_of, spelled
from pipeline.sweep.search.strategy import surrogate, targets
from pipeline.sweep.search.strategy.encoding import Encoding, Rows
from pipeline.sweep.search.strategy.surrogate import Kernel, Posterior
from pipeline.sweep.search.strategy.told import Told

Column = NDArray[np.float64]
MOST = 300  # trials of one sweep: the best ones, and others in between
STEPS = 40  # of L-BFGS: it is fitted once


@value
class Earlier:
    """A sweep that has ended. Its combinations have the names of this sweep's dimensions, and knobs of its own."""

    name: str
    trials: tuple[Told, ...]
    baseline: Told
    elsewhere: Params = Field(default_factory=dict)  # of knobs that this sweep sets and does not search
    is_maximised: bool = True

    @property
    def measured(self) -> list[Told]:
        """Those with a result."""
        return [one for one in self.trials if one.values]

    @property
    def varied(self) -> tuple[str, ...]:
        """What differs between its trials."""
        names = dict.fromkeys(name for one in self.trials for name in one.params)
        return tuple(name for name in names if len({_text(one.params.get(name)) for one in self.trials}) > 1)


class Prior:
    """What earlier sweeps say: a column for each of them."""

    def __init__(self, earlier: Sequence[Earlier], space: Space) -> None:
        self.earlier, self._space = tuple(earlier), space
        self._resolved: Mapping[str, Scalar] | None = None
        self._models: list[_Model] = []

    def know(self, resolved: Mapping[str, Scalar]) -> None:
        """What this sweep's engine makes of knobs that are left to it."""
        if self._resolved != resolved:
            self._resolved = dict(resolved)
            self._models = [_Model(one, self._space, self._resolved) for one in self.earlier]

    def of(self, many: Sequence[Params]) -> Rows:
        """Logarithms of scores against each sweep's own baseline: rows are combinations, columns are sweeps."""
        if not many:
            return np.empty((0, len(self._models)))
        return np.stack([each.at(many) for each in self._models], axis=1)

    @property
    def spread(self) -> float:
        """How far the scores of earlier sweeps lie apart: the standard deviation of logarithms."""
        return float(np.sqrt(np.mean([each.spread**2 for each in self._models])))

    def best(self, count: int) -> list[Params]:
        """The best combinations of each sweep, with the knobs that this one has."""
        return [
            {name: pick for name, pick in params.items() if name in self._space.names}
            for each in self._models
            for params in each.best(count)
        ]


class _Model:
    """One earlier sweep."""

    def __init__(self, earlier: Earlier, space: Space, resolved: Mapping[str, Scalar]) -> None:
        self._own = _resolved(earlier)
        self._told = {**self._own, **{name: told for name, told in resolved.items() if name in self._own}}
        self._measured = earlier.measured
        y = np.asarray(targets.target(self._measured, [earlier.is_maximised], (1.0,)).y)
        self._order = np.argsort(-y, kind="stable")
        kept = _spread_out(self._order)
        meant = [_meant(one.params, self._own) for one in self._measured]
        self._baseline = _meant(earlier.baseline.params, self._own)
        self._else = {**self._baseline, **earlier.elsewhere}
        seen = [*meant, self._baseline, self._else]
        self._columns = [_dimension(name, seen, space, self._told.get(name)) for name in earlier.varied]
        self._encoding = Encoding(Space(dimensions=tuple(self._columns)), {})
        self.spread = float(np.std(y))
        self._posterior = self._fitted([meant[at] for at in kept], y[kept])
        self._base = float(self._posterior.mean_at(self._rows([self._baseline]))[0])

    def _fitted(self, params: Sequence[Params], y: Column) -> Posterior:
        rows = self._rows(params)
        kernel = surrogate.fitted(Kernel.usual(rows.shape[1]), rows, y, STEPS)
        return surrogate.posterior(kernel, rows, y)

    def at(self, many: Sequence[Params]) -> Column:
        """Against its baseline."""
        found: Column = self._posterior.mean_at(self._rows([_meant(one, self._told) for one in many])) - self._base
        return found

    def best(self, count: int) -> list[Params]:
        """Its best combinations."""
        return [self._measured[at].params for at in self._order[:count]]

    def _rows(self, many: Sequence[Params]) -> Rows:
        return self._encoding.rows(
            [{one.name: _put(one, params.get(one.name, self._else.get(one.name))) for one in self._columns}
             for params in many]
        )  # fmt: skip


def _resolved(earlier: Earlier) -> dict[str, Scalar]:
    """What its engine made of knobs that were left to it: as the first trial that left it found out."""
    found: dict[str, Scalar] = {}
    for one in earlier.trials:
        for name, told in one.resolved.items():
            if one.params.get(name) == LEFT:
                found.setdefault(name, told)
    return found


def _meant(params: Params, resolved: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return {name: resolved.get(name, pick) if pick == LEFT else pick for name, pick in params.items()}


def _dimension(name: str, seen: Sequence[Params], space: Space, told: Scalar | None) -> Choice | Span:
    """All values of both sweeps: numbers by their order, where a range is among them by their position."""
    ours = next((one for one in space.dimensions if one.name == name), None)
    texts = [text for one in seen if (text := _text(one.get(name))) is not None]
    texts += [*ours.values] if isinstance(ours, Choice) else []
    texts += [text] if (text := _text(told)) is not None else []
    numbers = sorted({number for each in texts if (number := number_of(each)) is not None})
    if not isinstance(ours, Span):
        return Choice(name=name, values=tuple(dict.fromkeys(texts)))
    low, high = min([ours.low, *numbers]), max([ours.high, *numbers])
    return Span(name=name, low=float(low), high=float(high), is_log=ours.is_log and low > 0)


def _put(one: Choice | Span, pick: Scalar | None) -> Scalar:
    """A value as its dimension has it."""
    if isinstance(one, Choice):
        return _text(pick) or LEFT
    number = number_of(pick)
    return LEFT if number is None else number


def _text(pick: Scalar | None) -> str | None:
    return None if pick is None else spelled(pick)


def _spread_out(order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Of many trials the best ones, and of the others each so many-th."""
    if len(order) <= MOST:
        return order
    top, rest = order[: MOST // 3], order[MOST // 3 :]
    found: NDArray[np.intp] = np.concatenate([top, rest[:: math.ceil(len(rest) / (MOST - len(top)))]])
    return found
