"""Lists the configurations of a command line's trials, without running Hydra jobs: nothing is started or written."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain, islice, product, repeat
from typing import Any

from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig

from pipeline.config.command_line import composed, space, to_config
from pipeline.config.knobs import check_setting
from pipeline.config.sweepers import baseline, configurations, is_optuna, is_tuner, line_of, ordered, values_of
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.core.values import value

DRAWN = 30  # of a search without a number of trials
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
        tree, found = space(overrides)
        chosen = ordered(found.values()) if is_tuner(tree.hydra.sweeper) else found.values()
        swept = {override.get_key_element(): override for override in chosen if override.is_sweep_override()}
        fixed = tuple(line_of(override, None) for name, override in found.items() if name not in swept)
        knobs = frozenset(tree.runtime.knobs)
        for number, picks in enumerate(_picks(swept, tree)):
            lines = tuple(f"{name}={pick}" for name, pick in zip(swept, picks, strict=True))
            others = tuple(line for line, name in zip(lines, swept, strict=True) if name not in knobs)
            made = with_knobs(_base((*fixed, *others)), [line for line in lines if line not in others])
            yield Trial(number=number, overrides=lines, others=others, config=made)


def is_drawn(overrides: Sequence[str]) -> bool:
    """Whether the sweeper searches, so that the trials shown are draws from its space, not the ones it will ask for."""
    with initialize_config_dir(str(CONF)):
        tree, found = space(overrides)
        return _searches([each for each in found.values() if each.is_sweep_override()], tree.hydra.sweeper)


def _searches(swept: Sequence[Override], sweeper: DictConfig) -> bool:
    """Whether a sampler draws: not for a grid, and not where `tuner` runs all that there is."""
    if not is_optuna(sweeper) or "Grid" in str(sweeper.sampler.get("_target_")):
        return False
    is_whole = all(each.is_discrete_sweep() for each in swept)
    size = math.prod(len(list(values_of(each))) for each in swept) if is_whole else math.inf
    return not is_tuner(sweeper) or size > (sweeper.n_trials or math.inf)


def _picks(swept: Mapping[str, Override], tree: DictConfig) -> Iterator[tuple[str, ...]]:
    """What each trial picks; the baseline first, where the sweeper puts it there."""
    base, number = baseline(swept, tree), configurations(swept, tree) or DRAWN
    others = (picks for picks in _drawn(swept, tree.hydra.sweeper) if picks != base)
    return islice(chain([] if base is None else [base], others), number)


def _drawn(swept: Mapping[str, Override], sweeper: DictConfig) -> Iterator[tuple[str, ...]]:
    if not _searches([*swept.values()], sweeper):
        return product(*(list(values_of(override)) for override in swept.values()))
    dice = random.Random(0)  # noqa: S311 - a sample to show
    ranges = [_range(override) for override in swept.values()]
    return (tuple(_draw(dice, each) for each in ranges) for _ in repeat(None))


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
def _base(lines: tuple[str, ...]) -> Config:
    return to_config(composed(lines))


def with_knobs(base: Config, lines: Sequence[str]) -> Config:
    """The base with these knobs, each checked as Hydra's own composition would be."""
    parsed = OverridesParser.create().parse_overrides(list(lines))
    settings: dict[str, Any] = {override.get_key_element(): override.value() for override in parsed}
    for name, setting in settings.items():
        check_setting(name, base.runtime, setting)
    return replace(base, knobs={**base.knobs, **settings})
