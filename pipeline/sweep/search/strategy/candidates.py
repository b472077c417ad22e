"""The combinations that a proposal is chosen among: random ones, and neighbours of the best. Never what is refused."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice

import numpy as np

from pipeline.core.sides import RUNTIME
from pipeline.core.values import Scalar
from pipeline.sweep.search.space import LEFT, Choice, Foresee, Params, Slow, Space, Span, as_asked, number_of, spelled

Key = tuple[Scalar | None, ...]  # None: of another engine
DRAWS = 10_000  # most may be refused or seen
SMALL = 20_000  # combinations: of so many, each is drawn once at most
# Rules that are slow are not asked about every candidate, but always about what is proposed. It is a matter of counts
# and not of time or of what was asked before, so that the same search has the same candidates wherever it goes on.
ENOUGH = 50  # combinations that can start: then no more are looked at
LOOKS = 250  # combinations that are looked at, if fewer can start
NEAR = 4  # draws next to a value of a range without steps
MOVES = 4  # draws of another engine's knobs next to a combination
NEXT_TO = 0.1  # how far away they are: standard deviation, as a share of the range


class Candidates:
    """Remembers what was foreseen: a look at the rules may cost milliseconds."""

    def __init__(self, space: Space, foresee: Foresee = as_asked) -> None:
        self.space, self.foresee = space, foresee
        self._names = space.names
        is_small = space.size is not None and space.size <= SMALL
        self._all = [*map(self._key, space.combinations())] if is_small else None
        self._known: dict[Key, Key | None] = {}
        self._seen: set[Key] = set()
        self._resolved: Mapping[str, Scalar] = {}
        self._is_slow = isinstance(foresee, Slow)

    def note(self, seen: Iterable[Params], resolved: Mapping[str, Scalar]) -> None:
        """What was proposed before, and what the engine makes of knobs that are left to it."""
        self._resolved = resolved
        self._seen = set()
        for key in map(self._key, seen):
            self._seen |= {self._meant(key), self._effective(key) or self._meant(key)}

    def can_start(self, params: Params) -> bool:
        """Whether the rules do not refuse it."""
        return self._effective(self._key(params)) is not None

    def is_free(self, params: Params) -> bool:
        """Whether it can start, and was not run before, as such or under other names."""
        return self._is_free(self._key(params))

    def any(self, dice: np.random.Generator) -> Params | None:
        """A random free combination; None when none turns up."""
        found = next(filter(self._is_free, self._some(DRAWS, dice)), None)
        return None if found is None else self._params(found)

    def random(self, count: int, dice: np.random.Generator) -> list[Params]:
        """So many combinations, or as many as turn up: free ones. If rules are slow: some are only new."""
        found: dict[Key, None] = {}
        for drawn, key in enumerate(self._some(DRAWS, dice)):
            if len(found) >= count:
                break
            is_looked_at = not self._is_slow or (drawn < LOOKS and len(found) < ENOUGH)
            if self._is_free(key) if is_looked_at else self._is_new(key):
                found[key] = None
        return [*map(self._params, found)]

    def neighbours(self, of: Sequence[Params], pairs: int, dice: np.random.Generator) -> list[Params]:
        """What differs in one knob from any of these, and so many that differ in two. If rules are slow: only new."""
        ones = [near for params in of for near in self._one_knob(self._inside(params, dice), dice)]
        picked = dice.choice(len(ones), min(pairs, len(ones)), replace=False) if ones else ()
        twos = [two for at in picked if (two := _any_of([*self._one_knob(ones[int(at)], dice)], dice))]
        keys = dict.fromkeys((*ones, *twos))
        is_wanted = self._is_new if self._is_slow else self._is_free
        return [self._params(key) for key in keys if is_wanted(key)]

    def inside(self, params: Params, dice: np.random.Generator) -> Params:
        """The combination of the space that is next to this one."""
        return self._params(self._inside(params, dice))

    def _some(self, count: int, dice: np.random.Generator) -> Iterator[Key]:
        """Random combinations; of a small space all, each once."""
        if self._all is None:
            yield from islice(self._drawn(dice), count)
            return
        yield from (self._all[at] for at in dice.permutation(len(self._all)))

    def _drawn(self, dice: np.random.Generator) -> Iterator[Key]:
        """Random combinations, endlessly."""
        return map(self._own, self._rows(dice))

    def _rows(self, dice: np.random.Generator) -> Iterator[Key]:
        """A random value of every dimension, whichever engine's it is."""
        return zip(*(_drawn(one, dice) for one in self.space.dimensions), strict=True)

    def _own(self, key: Key) -> Key:
        """A combination without the values of engines that are not its own."""
        if not self.space.engines:
            return key
        engine = key[self._names.index(RUNTIME)]
        owners = map(self.space.owner, self._names)
        return tuple(pick if owner in {None, engine} else None for owner, pick in zip(owners, key, strict=True))

    def _inside(self, params: Params, dice: np.random.Generator) -> Key:
        """The combination of the space that is next to this one, which may be a baseline beside it."""
        if self.space.holds(params):
            return self._key(params)
        meant = {**params, **{name: self._resolved.get(name, LEFT) for name, pick in params.items() if pick == LEFT}}
        return tuple(
            _nearest(one, meant[one.name], dice) if one.name in meant else None for one in self.space.dimensions
        )

    def _one_knob(self, key: Key, dice: np.random.Generator) -> Iterator[Key]:
        for at, one in enumerate(self.space.dimensions):
            seen = key[at]
            for pick in () if seen is None else _near(one, seen, dice):
                near = (*key[:at], pick, *key[at + 1 :])
                yield from self._moved(near, dice) if one.name == RUNTIME and self.space.engines else (near,)

    def _moved(self, key: Key, dice: np.random.Generator) -> Iterator[Key]:
        """Some combinations of another engine: its own knobs anywhere, what the engines share as it was."""
        is_shared = [self.space.owner(name) is None for name in self._names]
        for drawn in islice(self._rows(dice), MOVES):
            picks = zip(is_shared, key, drawn, strict=True)
            yield self._own(tuple(kept if shared else other for shared, kept, other in picks))

    def _is_free(self, key: Key) -> bool:
        if self._known.get(key, key) is None or not self._is_new(key):  # of some spaces, nearly all is refused
            return False
        effective = self._effective(key)
        return effective is not None and effective not in self._seen

    def _is_new(self, key: Key) -> bool:
        """Without a look at the rules: it may turn out to be refused, or to be what was run under another name."""
        return self._meant(key) not in self._seen

    def _effective(self, key: Key) -> Key | None:
        """Equal for combinations that the engine runs alike; None for one that cannot start."""
        if key not in self._known:
            params = self.foresee(self._params(key))
            self._known[key] = None if params is None else self._whole(params)
        effective = self._known[key]
        return None if effective is None else self._meant(effective)

    def _meant(self, key: Key) -> Key:
        """Equal for combinations that the engine resolves alike."""
        if self._resolved:
            own, others = key[: len(self._names)], key[len(self._names) :]
            picks = zip(self._names, own, strict=True)
            key = (*(self._resolved.get(name, pick) if pick == LEFT else pick for name, pick in picks), *others)
        return tuple(map(_plain, key))

    def _whole(self, params: Params) -> Key:
        """With what the rules set beside the space."""
        others = sorted((name, spelled(pick)) for name, pick in params.items() if name not in self._names)
        return (*self._key(params), *(f"{name}={pick}" for name, pick in others))

    def _key(self, params: Params) -> Key:
        return tuple(params.get(name) for name in self._names)

    def _params(self, key: Key) -> Params:
        return {name: pick for name, pick in zip(self._names, key, strict=True) if pick is not None}


def _any_of(some: Sequence[Key], dice: np.random.Generator) -> Key | None:
    return some[int(dice.integers(len(some)))] if some else None


def _plain(pick: Scalar | None) -> Scalar | None:
    """Equal for spellings of the same value: what an engine says may be a yes or a no, and is `true` on a list."""
    return _read(str(pick)) if isinstance(pick, str | bool) else pick


@cache
def _read(pick: str) -> Scalar:
    number = number_of(pick)
    return pick.lower() if number is None else number


def _drawn(one: Choice | Span, dice: np.random.Generator) -> Iterator[Scalar]:
    if isinstance(one, Choice):
        while True:
            yield from (one.values[at] for at in dice.integers(len(one.values), size=256))
    while True:
        for share in dice.random(256):
            yield _at(one, float(share))


def _at(span: Span, share: float) -> Scalar:
    """The number at this share of a range, on its steps."""
    low, high = float(span.low), float(span.high)
    if span.is_log:
        return _on_step(span, math.exp(math.log(low) + (math.log(high) - math.log(low)) * share))
    if span.is_whole:
        return _on_step(span, low + (high - low + (span.step or 1)) * share - (span.step or 1) / 2)
    return _on_step(span, low + (high - low) * share)


def _on_step(span: Span, at: float) -> Scalar:
    step = span.step or (1 if span.is_whole else None)
    if step is not None:
        last = int((span.high - span.low) / step + 1e-9)
        at = span.low + step * min(max(round((at - span.low) / step), 0), last)
    at = min(max(at, span.low), span.high)
    return int(at) if span.is_whole else at


def _nearest(one: Choice | Span, pick: Scalar, dice: np.random.Generator) -> Scalar:
    number = number_of(pick)
    if isinstance(one, Span):
        return _at(one, float(dice.random())) if number is None else _on_step(one, number)
    if pick in one.values:
        return pick
    numbers = [
        (abs(known - number), value)
        for value in one.values
        if (known := number_of(value)) is not None and number is not None
    ]
    return min(numbers)[1] if numbers else one.values[int(dice.integers(len(one.values)))]


def _near(one: Choice | Span, pick: Scalar, dice: np.random.Generator) -> list[Scalar]:
    """Every other value of a list; some on both sides in a range."""
    if isinstance(one, Choice):
        return [value for value in one.values if value != pick]
    number = number_of(pick)
    if number is None:
        return [_at(one, float(share)) for share in dice.random(NEAR)]
    found = {_at(one, share) for share in _shares(one, number, dice)}
    if one.is_whole:
        found |= {_on_step(one, number + away) for away in (-(one.step or 1), one.step or 1)}
    return [value for value in found if value != pick]


def _shares(span: Span, number: float, dice: np.random.Generator) -> list[float]:
    low, high, at = float(span.low), float(span.high), number
    if high <= low:
        return []
    if span.is_log:
        low, high, at = math.log(low), math.log(high), math.log(max(number, low))
    share = (at - low) / (high - low)
    return [min(max(share + float(away), 0.0), 1.0) for away in dice.normal(0, NEXT_TO, NEAR)]
