"""The combinations that a proposal is chosen among: random ones, and neighbours of the best. Never what is refused."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice, product

import numpy as np

from pipeline.core.values import Scalar
from pipeline.sweep.search.space import LEFT, Choice, Foresee, Params, Space, Span, as_asked, number_of, spelled

Key = tuple[Scalar, ...]
DRAWS = 10_000  # most may be refused or seen
SMALL = 20_000  # combinations: of so many, each is drawn once at most
PATIENCE_S = 0.05  # for looking at the rules of combinations that are drawn; a proposal is always looked at
NEAR = 4  # draws next to a value of a range without steps
NEXT_TO = 0.1  # how far away they are: standard deviation, as a share of the range


class Candidates:
    """Remembers what was foreseen: a look at the rules may cost milliseconds."""

    def __init__(self, space: Space, foresee: Foresee = as_asked) -> None:
        self.space, self.foresee = space, foresee
        self._names = space.names
        is_small = space.size is not None and space.size <= SMALL
        self._all = [*product(*(one.each() for one in space.dimensions))] if is_small else None
        self._known: dict[Key, Key | None] = {}
        self._seen: set[Key] = set()
        self._resolved: Mapping[str, Scalar] = {}
        self._looked_s = 0.0  # in the rules alone: with quick ones, the same seed gives the same proposals

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
        """So many combinations, or as many as turn up: free ones; once looking takes long, not known to be taken."""
        found: dict[Key, None] = {}
        until = self._looked_s + PATIENCE_S
        for key in self._some(DRAWS, dice):
            if len(found) >= count:
                break
            is_wanted = self._is_free(key) if self._looked_s < until else not self._is_known_taken(key)
            if is_wanted:
                found[key] = None
        return [*map(self._params, found)]

    def neighbours(self, of: Sequence[Params], pairs: int, dice: np.random.Generator) -> list[Params]:
        """What differs in one knob from any of these, and so many that differ in two; not known to be taken."""
        ones = [near for params in of for near in self._one_knob(self._inside(params, dice), dice)]
        picked = dice.choice(len(ones), min(pairs, len(ones)), replace=False) if ones else ()
        twos = [two for at in picked if (two := _any_of([*self._one_knob(ones[int(at)], dice)], dice))]
        keys = dict.fromkeys((*ones, *twos))
        return [self._params(key) for key in keys if not self._is_known_taken(key)]

    def _some(self, count: int, dice: np.random.Generator) -> Iterator[Key]:
        """Random combinations; of a small space all that may start, each once."""
        if self._all is None:
            yield from islice(self._drawn(dice), count)
            return
        self._all = [key for key in self._all if self._known.get(key, key) is not None]
        yield from (self._all[at] for at in dice.permutation(len(self._all)))

    def _drawn(self, dice: np.random.Generator) -> Iterator[Key]:
        """Random combinations, endlessly."""
        return zip(*(_drawn(one, dice) for one in self.space.dimensions), strict=True)

    def _inside(self, params: Params, dice: np.random.Generator) -> Key:
        """The combination of the space that is next to this one, which may be a baseline beside it."""
        if self.space.holds(params):
            return self._key(params)
        meant = {**params, **{name: self._resolved.get(name, LEFT) for name, pick in params.items() if pick == LEFT}}
        return tuple(_nearest(one, meant[one.name], dice) for one in self.space.dimensions)

    def _one_knob(self, key: Key, dice: np.random.Generator) -> Iterator[Key]:
        for at, one in enumerate(self.space.dimensions):
            for pick in _near(one, key[at], dice):
                yield (*key[:at], pick, *key[at + 1 :])

    def _is_free(self, key: Key) -> bool:
        if self._meant(key) in self._seen:
            return False
        effective = self._effective(key)
        return effective is not None and effective not in self._seen

    def _is_known_taken(self, key: Key) -> bool:
        """The opposite, without looking at the rules: what is not known may turn out to be taken."""
        return self._meant(key) in self._seen or (key in self._known and not self._is_free(key))

    def _effective(self, key: Key) -> Key | None:
        """Equal for combinations that the engine runs alike; None for one that cannot start."""
        if key not in self._known:
            began = time.monotonic()
            params = self.foresee(self._params(key))
            self._looked_s += time.monotonic() - began
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
        return tuple(params[name] for name in self._names)

    def _params(self, key: Key) -> Params:
        return dict(zip(self._names, key, strict=True))


def _any_of(some: Sequence[Key], dice: np.random.Generator) -> Key | None:
    return some[int(dice.integers(len(some)))] if some else None


def _plain(pick: Scalar) -> Scalar:
    """Equal for spellings of the same value."""
    return _read(pick) if isinstance(pick, str) else pick


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
        return _on_step(span, low * (high / low) ** share)
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
    return [value for value in found if value != pick]


def _shares(span: Span, number: float, dice: np.random.Generator) -> list[float]:
    low, high = float(span.low), float(span.high)
    if high <= low:
        return []
    if span.is_log:
        share = float(np.log(number / low) / np.log(high / low)) if number > 0 else 0.0
    else:
        share = (number - low) / (high - low)
    wide = [share + float(away) for away in dice.normal(0, NEXT_TO, NEAR)]
    if span.is_whole:
        step = (span.step or 1) / (high - low)
        wide += [share - step, share + step]
    return [min(max(each, 0.0), 1.0) for each in wide]
