"""The space of a search: dimensions with their values, and the combinations of a finite space. Pure."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import product
from typing import Literal

from pydantic import Field

from pipeline.core.sides import RUNTIME
from pipeline.core.values import Scalar, value

Params = Mapping[str, Scalar]  # of every dimension: a choice as its text, a number as such
Foresee = Callable[[Params], Params | None]  # the combination as the engine would run it; None: it cannot start
LEFT = "null"  # a knob that is left to the engine
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

    @property
    def numbers(self) -> tuple[float, ...]:
        """Those of its values that are numbers, each once, from low to high."""
        return tuple(sorted({number for each in self.values if (number := number_of(each)) is not None}))

    @property
    def is_ordered(self) -> bool:
        """Whether it is a list of numbers; words such as `null` may be among them."""
        return len(self.numbers) > 1

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
    """The dimensions in the order in which they were given: the last one varies fastest, as in Hydra's own sweeps.

    With several engines, a dimension under the name of one of them is part of its combinations only: those of others
    have no value for it. The dimension of the engines is the first.
    """

    dimensions: tuple[Choice | Span, ...]
    engines: tuple[str, ...] = ()  # side by side; empty: one alone

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the dimensions."""
        return tuple(dimension.name for dimension in self.dimensions)

    @property
    def size(self) -> int | None:
        """How many combinations there are; None: uncountable."""
        sizes = [_size(part) for part in self._parts()]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def is_listable(self) -> bool:
        """Whether its combinations can be gone through one by one."""
        return self.size is not None and self.size <= LINES

    def combinations(self) -> Iterator[dict[str, Scalar]]:
        """Every combination of a finite space, in order."""
        for part in self._parts():
            names = [dimension.name for dimension in part]
            for picks in product(*(dimension.each() for dimension in part)):
                yield dict(zip(names, picks, strict=True))

    def active(self, engine: Scalar | None) -> tuple[Choice | Span, ...]:
        """The dimensions of an engine's combinations."""
        return tuple(one for one in self.dimensions if self.owner(one.name) in {None, engine})

    def of(self, params: Params) -> tuple[Choice | Span, ...]:
        """The dimensions that a combination has values for."""
        return self.active(params.get(RUNTIME))

    def owner(self, name: str) -> str | None:
        """The engine whose dimension this is; None: every engine's."""
        engine = name.partition(".")[0]
        return engine if engine in self.engines else None

    def bare(self, name: str) -> str:
        """A dimension as its engine knows it: the name of the knob."""
        engine = self.owner(name)
        return name if engine is None else name.removeprefix(f"{engine}.")

    def without(self, engines: Collection[str]) -> "Space":
        """The same space without some of its engines."""
        if not engines:
            return self
        left = Choice(name=RUNTIME, values=tuple(one for one in self.engines if one not in engines))
        kept = (one for one in self.dimensions if self.owner(one.name) not in engines)
        return Space(dimensions=tuple(left if _is_engines(one) else one for one in kept), engines=left.values)

    def named(self, params: Params, told: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """What is told of knobs by their own names, by the names of a combination's dimensions; others as they are."""
        known = {self.bare(one.name): one.name for one in self.of(params)}
        return {known.get(name, name): item for name, item in told.items()}

    def placed(self, params: Params, resolved: Params) -> dict[str, Scalar] | None:
        """Where a combination lies, given what the engine made of the knobs left to it; None: beside this space."""
        found = {
            one.name: _placed(one, params[one.name], resolved.get(self.bare(one.name)))
            for one in self.of(params)
            if one.name in params
        }
        inside = {name: pick for name, pick in found.items() if pick is not None}
        return inside if inside.keys() == {one.name for one in self.of(params)} else None

    def holds(self, params: Params) -> bool:
        """Whether a combination is one of this space's."""
        mine = self.of(params)
        return params.keys() == {one.name for one in mine} and all(_holds(one, params[one.name]) for one in mine)

    def _parts(self) -> Iterator[tuple[Choice | Span, ...]]:
        """The dimensions of each engine's combinations."""
        if not self.engines:
            yield self.dimensions
            return
        engines = next(one for one in self.dimensions if _is_engines(one))
        for engine in engines.each():
            only = Choice(name=RUNTIME, values=(str(engine),))
            yield tuple(only if _is_engines(one) else one for one in self.active(engine))


def _is_engines(one: Choice | Span) -> bool:
    return one.name == RUNTIME


def _size(dimensions: Sequence[Choice | Span]) -> int | None:
    sizes = [dimension.size for dimension in dimensions]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def as_asked(params: Params) -> Params:
    """Where nothing is known of an engine, it runs what it is told."""
    return params


def only(is_allowed: Callable[[Params], bool]) -> Foresee:
    """Where all that is known is which combinations can start."""
    return lambda params: params if is_allowed(params) else None


class Slow:
    """Foresees by what takes milliseconds for each combination: not every candidate is looked at."""

    def __init__(self, look: Foresee) -> None:
        self.look = look

    def __call__(self, params: Params) -> Params | None:
        """The combination as the engine would run it; None: it cannot start."""
        return self.look(params)


def _placed(dimension: Choice | Span, pick: Scalar, resolved: Scalar | None) -> Scalar | None:
    """The value of a dimension that a pick is, or that the engine made of a knob left to it; None: there is none."""
    if _holds(dimension, pick) or pick != LEFT or resolved is None:
        return pick if _holds(dimension, pick) else None
    if isinstance(dimension, Span):
        number = number_of(resolved)
        at = int(number) if number is not None and dimension.is_whole and number.is_integer() else number
        return at if at is not None and _holds(dimension, at) else None
    return next((each for each in dimension.values if is_alike(each, resolved)), None)


def is_alike(each: str, seen: Scalar) -> bool:
    """Whether a value of a list is what an engine says that it runs with."""
    number = number_of(each)
    return number == number_of(seen) if number is not None else each.lower() == str(seen).lower()


def _holds(dimension: Choice | Span, pick: Scalar) -> bool:
    if isinstance(dimension, Choice):
        return pick in dimension.values
    return isinstance(pick, int | float) and dimension.low <= pick <= dimension.high


def number_of(pick: Scalar | None) -> float | None:
    """The number that a value is or spells; None for words, and for yes and no."""
    if pick is None or isinstance(pick, bool):
        return None
    try:
        number = float(pick)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def spelled(pick: Scalar) -> str:
    """A value as an override spells it."""
    if isinstance(pick, bool):
        return str(pick).lower()
    return pick if isinstance(pick, str) else f"{pick:.15g}"


def lines(params: Params) -> tuple[str, ...]:
    """The overrides of a combination, for its engine alone."""
    own = f"{params[RUNTIME]}." if RUNTIME in params else ""
    return tuple(f"{name.removeprefix(own)}={spelled(pick)}" for name, pick in params.items())
