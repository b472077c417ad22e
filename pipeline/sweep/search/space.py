"""The space of a search: dimensions with their values, and the combinations of a finite space. Pure."""

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Literal

from pydantic import Field

from pipeline.core.values import Scalar, value

Params = Mapping[str, Scalar]  # of every dimension: a choice as its text, a number as such
LINES = 1_000_000  # combinations: a space with more is not gone through one by one


@value
class Choice:
    """A dimension with listed values, each as an override spells it, e.g. `null`."""

    kind: Literal["choice"] = "choice"
    name: str
    values: tuple[str, ...] = Field(min_length=1)

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def each(self) -> Iterator[Scalar]:
        """Every value, in order."""
        yield from self.values


@value
class Span:
    """A dimension of numbers from `low` to `high`, both included; `step` and `is_log` exclude each other."""

    kind: Literal["span"] = "span"
    name: str
    low: int | float
    high: int | float
    step: int | float | None = None
    is_log: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether only integers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def size(self) -> int | None:
        """How many values there are; None: uncountable."""
        return int((self.high - self.low) // (self.step or 1)) + 1 if self.is_whole else None

    def each(self) -> Iterator[Scalar]:
        """Every integer, in order."""
        yield from range(int(self.low), int(self.high) + 1, int(self.step or 1))


@value
class Space:
    """The dimensions in the order in which they were given: the last one varies fastest, as in Hydra's own sweeps."""

    dimensions: tuple[Choice | Span, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the dimensions."""
        return tuple(dimension.name for dimension in self.dimensions)

    @property
    def size(self) -> int | None:
        """How many combinations there are; None: uncountable."""
        sizes = [dimension.size for dimension in self.dimensions]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    @property
    def is_listable(self) -> bool:
        """Whether its combinations can be gone through one by one."""
        return self.size is not None and self.size <= LINES

    def combinations(self) -> Iterator[dict[str, Scalar]]:
        """Every combination of a finite space, in order."""
        for picks in product(*(dimension.each() for dimension in self.dimensions)):
            yield dict(zip(self.names, picks, strict=True))

    def holds(self, params: Params) -> bool:
        """Whether a combination is one of this space's."""
        return params.keys() == {*self.names} and all(_holds(one, params[one.name]) for one in self.dimensions)


def _holds(dimension: Choice | Span, pick: Scalar) -> bool:
    if isinstance(dimension, Choice):
        return pick in dimension.values
    return isinstance(pick, int | float) and dimension.low <= pick <= dimension.high


def spelled(pick: Scalar) -> str:
    """A value as an override spells it."""
    return pick if isinstance(pick, str) else f"{pick:.15g}"


def lines(params: Params) -> tuple[str, ...]:
    """The overrides of a combination."""
    return tuple(f"{name}={spelled(pick)}" for name, pick in params.items())
