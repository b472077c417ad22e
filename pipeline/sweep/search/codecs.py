"""How Optuna is told of a dimension: lists of numbers as ranges, so that every sampler knows their order. Pure."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from pipeline.core.values import Scalar
from pipeline.sweep.search.space import Choice, Params, Space, Span, number_of

GEOMETRIC = 4.0  # the widest step of a list is so many times its smallest: then its logarithms are told


class Codec:
    """One dimension in Optuna's words. A list of numbers is a range; what falls between its values is put on the next.

    A list with words in it (`null,16,32`) stays a set of categories: Optuna has nothing in between.
    """

    def __init__(self, dimension: Choice | Span, *, is_named: bool = False) -> None:
        """`is_named`: tell a list of numbers as categories too."""
        self.dimension = dimension
        self.numbers = {} if is_named or isinstance(dimension, Span) else _numbers(dimension)
        self.distribution = _distribution(dimension, sorted(self.numbers))

    def to_optuna(self, pick: Scalar) -> Scalar:
        """A value of the space as Optuna stores it."""
        return self._typed(number) if self.numbers and (number := number_of(pick)) is not None else pick

    def from_optuna(self, seen: Any) -> Scalar:
        """A value of Optuna's as one of the space."""
        if not self.numbers:
            return seen  # type: ignore[no-any-return]
        return self.numbers[self._nearest(seen)]

    def on_list(self, seen: Any) -> Any:
        """What a sampler proposed, as Optuna stores it: the nearest value there is."""
        return self._typed(self._nearest(seen)) if self.numbers else seen

    def _nearest(self, seen: float) -> float:
        return min(self.numbers, key=lambda number: abs(number - seen))

    def _typed(self, number: float) -> int | float:
        return int(number) if isinstance(self.distribution, IntDistribution) else number


def of(space: Space, named: Mapping[str, BaseDistribution], *, is_named: bool = False) -> dict[str, Codec]:
    """The codecs of a space. `named`: what a study was begun with. `is_named`: every list is a set of categories."""
    kinds = {name for name, seen in named.items() if isinstance(seen, CategoricalDistribution)}
    return {one.name: Codec(one, is_named=is_named or one.name in kinds) for one in space.dimensions}


def to_optuna(codecs: Mapping[str, Codec], params: Params) -> dict[str, Scalar]:
    """A combination of the space as Optuna stores it."""
    return {name: codecs[name].to_optuna(pick) for name, pick in params.items()}


def _numbers(choice: Choice) -> dict[float, str]:
    found = {number: each for each in choice.values if (number := number_of(each)) is not None}
    return found if len(found) == len(choice.values) > 1 else {}


def _distribution(dimension: Choice | Span, numbers: list[float]) -> BaseDistribution:
    if numbers:
        return _range(numbers)
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    if dimension.is_whole:
        low, high = int(dimension.low), int(dimension.high)
        return IntDistribution(low, high, log=dimension.is_log, step=int(dimension.step or 1))
    return FloatDistribution(dimension.low, dimension.high, log=dimension.is_log, step=dimension.step)


def _range(numbers: list[float]) -> BaseDistribution:
    steps = [high - low for low, high in pairwise(numbers)]
    is_log = numbers[0] > 0 and max(steps) >= GEOMETRIC * min(steps)
    if all(number.is_integer() for number in numbers):
        even = int(steps[0]) if len({*steps}) == 1 else 1
        return IntDistribution(int(numbers[0]), int(numbers[-1]), log=is_log, step=1 if is_log else even)
    return FloatDistribution(numbers[0], numbers[-1], log=is_log)
