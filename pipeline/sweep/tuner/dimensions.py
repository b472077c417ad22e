"""Turns Hydra's overrides into the space of a search. Pure."""

import math
from collections.abc import Collection, Mapping, Sequence

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from pipeline.config.endpoints import URL
from pipeline.config.sweepers import values_of
from pipeline.core.errors import ConfigError
from pipeline.core.sides import RUNTIME
from pipeline.core.values import Scalar
from pipeline.sweep.search.space import LEFT, Choice, Params, Space, Span

ALONE = ""  # the name of an engine without others beside it


def space_of(overrides: Sequence[Override], engines: Collection[str] = ()) -> Space:
    """The dimensions of what is swept, in the order in which it was given.

    `engines`: those that are swept; the overrides are as `config.sides` arranges them.

    Raises:
        ConfigError: an interval without an end, or with the logarithm of 0.
    """
    swept = tuple(_dimension(each) for each in overrides if each.is_sweep_override())
    return Space(dimensions=swept, engines=tuple(engines))


def baselines_of(space: Space, knobs: Mapping[str, Collection[str]]) -> list[Params]:
    """The combination that leaves every swept knob to the engine, for each engine; none where no knob is swept.

    Of several servers that are there already, it is the first one.

    `knobs`: of each engine; of one alone under the empty name. Engines side by side always have one each.
    """
    if not space.engines:
        is_swept = bool({*space.names} & {*knobs[ALONE], URL})
        return [_baseline(space, ALONE, knobs[ALONE])] if is_swept else []
    return [{**_baseline(space, engine, knobs[engine]), RUNTIME: engine} for engine in space.engines]


def _baseline(space: Space, engine: str, knobs: Collection[str]) -> dict[str, Scalar]:
    return {
        one.name: LEFT if space.bare(one.name) in knobs else one.values[0] if isinstance(one, Choice) else one.low
        for one in space.active(engine)
    }


def _dimension(override: Override) -> Choice | Span:
    name, swept = override.get_key_element(), override.value()
    if isinstance(swept, IntervalSweep):
        ends = (swept.start or 0, swept.end or 0)
        is_whole = all(type(end) is int for end in ends)
        low, high = sorted(ends if is_whole else map(float, ends))
        is_log = "log" in swept.tags
        if not math.isfinite(high - low) or (is_log and low <= 0):
            told = "ends above 0, for a logarithm" if is_log else "two numbers"
            raise ConfigError(f"{name}: expected an interval between {told}, seen {low:g} to {high:g}.")
        return Span(name=name, low=low, high=high, is_log=is_log)
    if isinstance(swept, RangeSweep) and not swept.shuffle:
        numbers = [number for number in override.sweep_iterator() if type(number) is int]
        if len(numbers) > 1:
            ordered = sorted(numbers)
            return Span(name=name, low=ordered[0], high=ordered[-1], step=ordered[1] - ordered[0])
    return Choice(name=name, values=tuple(dict.fromkeys(values_of(override))))
