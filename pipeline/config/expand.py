"""Lists the configurations of a command line's trials, without running Hydra jobs: nothing is started or written."""

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice, product
from typing import Any

from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig

from pipeline.config import nested, spaces
from pipeline.config.command_line import composed, to_config
from pipeline.config.knobs import check_setting
from pipeline.config.spaces import Part
from pipeline.config.sweepers import baseline, configurations, is_optuna, is_tuner, line_of, ordered, size_of, values_of
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.core.sides import RUNTIME
from pipeline.core.values import value

DRAWN = 30  # of a search without a number of trials
MISSES = 1000  # draws in a row of what was drawn already
KEPT = 64  # bases: the combinations of what is swept beside knobs


@value
class Trial:
    """One trial as it would be run."""

    number: int
    overrides: tuple[str, ...]  # of what is swept
    others: tuple[str, ...] = ()  # those of them that are no knobs
    config: Config


def trials(overrides: Sequence[str], *, is_sweep: bool) -> Iterator[Trial]:
    """Every trial of a checked command, one at a time; for a search, as many random draws as it would ask for.

    Only what is not a knob is composed anew by Hydra: a thousand combinations of knobs take a second.
    """
    with initialize_config_dir(str(CONF)):
        if not is_sweep:
            yield Trial(number=0, overrides=tuple(overrides), config=to_config(composed(overrides)))
            return
        for number, (part, picks) in enumerate(_picked(_parts(overrides))):
            lines = tuple(f"{name}={pick}" for name, pick in zip(part.swept, picks, strict=True))
            others = tuple(line for line, name in zip(lines, part.swept, strict=True) if name not in part.knobs)
            made = with_knobs(base_of((*part.fixed, *others)), [line for line in lines if line not in others])
            yield Trial(number=number, overrides=(*part.name, *lines), others=(*part.name, *others), config=made)


def is_drawn(overrides: Sequence[str]) -> bool:
    """Whether the sweeper searches, so that the trials shown are draws from its space, not the ones it will ask for."""
    with initialize_config_dir(str(CONF)):
        return _is_searched(_parts(overrides))


@dataclass(frozen=True, slots=True, eq=False)
class _Swept:
    """A part of a sweep: what it goes through, in its order, and what all its trials have."""

    tree: DictConfig
    swept: Mapping[str, Override]
    fixed: tuple[str, ...]
    knobs: frozenset[str]
    name: tuple[str, ...]  # the override that tells its engine from others, if there are any


def _parts(overrides: Sequence[str]) -> list[_Swept]:
    found = spaces.of(overrides)
    return [_swept(part, engine if found.knobs else None) for engine, part in found.parts.items()]


def _swept(part: Part, engine: str | None) -> _Swept:
    is_tuned = is_tuner(part.tree.hydra.sweeper)
    chosen = ordered(part.found.values()) if is_tuned else part.found.values()
    swept = {override.get_key_element(): override for override in chosen if override.is_sweep_override()}
    return _Swept(
        tree=part.tree,
        swept=swept,
        fixed=tuple(line_of(override, None) for name, override in part.found.items() if name not in swept),
        knobs=frozenset(part.tree.runtime.knobs),
        name=() if engine is None else (f"{RUNTIME}={engine}",),
    )


def _is_searched(parts: Sequence[_Swept]) -> bool:
    """Whether a sampler draws: not for a grid, and not where `tuner` runs all that there is."""
    sweeper = parts[0].tree.hydra.sweeper
    if not is_optuna(sweeper) or "Grid" in str(sweeper.sampler.get("_target_")):
        return False
    size = sum(math.prod(size_of(each) for each in part.swept.values()) for part in parts)
    return not is_tuner(sweeper) or size > (sweeper.n_trials or math.inf) or size == math.inf


def _picked(parts: Sequence[_Swept]) -> Iterator[tuple[_Swept, tuple[str, ...]]]:
    """What each trial picks; the baselines first, where the sweeper puts them there."""
    is_searched = _is_searched(parts)
    counts = [configurations(part.swept, part.tree) for part in parts]
    wanted = parts[0].tree.hydra.sweeper.get("n_trials") or math.inf
    number = DRAWN if None in counts else int(min(sum(each or 0 for each in counts), wanted))
    bases = [_baseline(part) for part in parts]
    first = [(part, base) for part, base in zip(parts, bases, strict=True) if base is not None]
    drawn = chain(first, _drawn(parts) if is_searched else _in_order(parts))
    yield from islice(_once(drawn) if is_tuner(parts[0].tree.hydra.sweeper) else drawn, number)


def _baseline(part: _Swept) -> tuple[str, ...] | None:
    """Beside another engine, one whose knobs are not swept has a baseline too."""
    found, sweeper = baseline(part.swept, part.tree), part.tree.hydra.sweeper
    if found is None and part.name and is_tuner(sweeper) and sweeper.baseline:
        return tuple(next(values_of(each)) for each in part.swept.values())
    return found


def _once(drawn: Iterable[tuple[_Swept, tuple[str, ...]]]) -> Iterator[tuple[_Swept, tuple[str, ...]]]:
    """Each combination once; the end where hardly another one turns up."""
    seen, misses = set(), 0
    for each in drawn:
        misses = misses + 1 if each in seen else 0
        if misses > MISSES:
            return
        if not misses:
            seen.add(each)
            yield each


def _in_order(parts: Sequence[_Swept]) -> Iterator[tuple[_Swept, tuple[str, ...]]]:
    for part in parts:
        for picks in product(*(list(values_of(override)) for override in part.swept.values())):
            yield part, picks


def _drawn(parts: Sequence[_Swept]) -> Iterator[tuple[_Swept, tuple[str, ...]]]:
    dice = random.Random(0)  # noqa: S311 - a sample to show
    ranges = [(part, [_range(override) for override in part.swept.values()]) for part in parts]
    while True:
        part, among = dice.choice(ranges)
        yield part, tuple(_draw(dice, each) for each in among)


def _range(override: Override) -> Sequence[str] | IntervalSweep:
    found = override.value()
    return found if isinstance(found, IntervalSweep) else list(values_of(override))


def _draw(dice: random.Random, among: Sequence[str] | IntervalSweep) -> str:
    if not isinstance(among, IntervalSweep):
        return dice.choice(among)
    start, end = among.start or 0, among.end or 0
    is_whole = type(start) is int and type(end) is int
    return str(dice.randint(int(start), int(end))) if is_whole else f"{dice.uniform(start, end):.6g}"


@lru_cache(maxsize=KEPT)
def base_of(lines: tuple[str, ...]) -> Config:
    """The configuration of these overrides; inside `initialize_config_dir`."""
    return to_config(composed(lines))


def with_knobs(base: Config, lines: Sequence[str]) -> Config:
    """The base with these knobs, each checked as Hydra's own composition would be."""
    parsed = OverridesParser.create().parse_overrides(list(lines))
    settings: dict[str, Any] = {}
    for override in parsed:
        settings |= nested.settings(override.get_key_element(), override.value(), base.runtime)
    for name, setting in settings.items():
        check_setting(name, base.runtime, setting)
    return replace(base, knobs={**base.knobs, **settings})
