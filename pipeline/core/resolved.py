"""Compares the settings that the engine reports with the knobs that were asked. Pure."""

import math
from collections.abc import Mapping
from typing import Any

from pipeline.core.schema import Config
from pipeline.core.values import Scalar, value

LEFT_TO_THE_ENGINE = "auto"


@value
class Rewrite:
    """A knob that the engine set to another value than asked."""

    knob: str
    asked: Scalar
    got: Scalar


def reported(config: Config, settings: Mapping[str, Any] | None) -> dict[str, Scalar]:
    """The knobs whose resolved value the engine reports."""
    told = {name: _dig(settings or {}, knob.setting) for name, knob in config.runtime.knobs.items() if knob.setting}
    return {name: item for name, item in told.items() if isinstance(item, bool | int | float | str)}


def rewrites(config: Config, settings: Mapping[str, Any] | None) -> tuple[Rewrite, ...]:
    """Every knob that was asked and that the engine reports with another value."""
    told = reported(config, settings)
    return tuple(
        Rewrite(knob=name, asked=asked, got=told[name])
        for name, asked in config.knobs.items()
        if asked not in (None, LEFT_TO_THE_ENGINE) and name in told and not is_same(asked, told[name])
    )


def are_alike(
    config: Config, settings: Mapping[str, Any] | None, other: Config, others: Mapping[str, Any] | None
) -> bool:
    """Whether two deployments run the same settings, as far as the engine reports them.

    Everything but the knobs must be equal; every knob that was asked differently must be reported by both; every knob
    that is reported must be reported with the same value.
    """
    if not differ_in_knobs_only(config, other):
        return False
    mine, theirs = reported(config, settings), reported(other, others)
    differ = {name for name in config.knobs if config.knobs[name] != other.knobs.get(name)}
    return differ <= mine.keys() & theirs.keys() and mine.keys() == theirs.keys() and _all_same(mine, theirs)


def _all_same(mine: Mapping[str, Scalar], theirs: Mapping[str, Scalar]) -> bool:
    return all(is_same(mine[name], theirs[name]) for name in mine)


def differ_in_knobs_only(config: Config, other: Config) -> bool:
    """Whether everything that a measurement depends on is equal, but for the knobs."""
    return _but_knobs(config) == _but_knobs(other)


def _but_knobs(config: Config) -> tuple[Any, ...]:
    return (
        config.runtime,
        config.model,
        config.backend,
        config.traffic.identity,
        config.hardware,
        config.slo,
        config.bench,
    )


def is_same(asked: Scalar, got: Scalar) -> bool:
    """Whether two spellings mean the same setting: 32 and "32", FP8 and fp8, 0.9 and 0.90."""
    if isinstance(asked, bool) or isinstance(got, bool):
        return str(asked).lower() == str(got).lower()
    if isinstance(asked, int | float) and isinstance(got, int | float):
        return math.isclose(asked, got, rel_tol=1e-9)
    return str(asked).lower() == str(got).lower()


def _dig(settings: Mapping[str, Any], path: str) -> Any:
    found: Any = settings
    for part in path.split("."):
        if isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            found = found.get(part) if isinstance(found, Mapping) else None
    return found
