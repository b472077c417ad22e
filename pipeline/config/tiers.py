"""Reads conf/space/<engine>/<tier>.yaml: which knobs are worth searching, where, and with which values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from pipeline.core.errors import ConfigError
from pipeline.core.values import Scalar, parse, value

GROUP = "space"
MOST_BASES = 4  # tiers that extend one another


@value
class Entry:
    """One knob of a tier. Null, the engine's own choice, is always among its values."""

    values: tuple[Scalar | Mapping[str, Any], ...] | str = ()  # "= ..." is a Jinja expression that gives them
    when: str = "true"  # as in the rules of engines (pipeline/engines/verdict.py), with the facts of trial/proposal.py
    only: str = ""  # the same in words: where it matters
    under: Mapping[str, tuple[Scalar, ...]] = Field(default_factory=dict)  # it means something with these values alone
    despite: tuple[str, ...] = ()  # rules that warn of a value, and that do not matter here
    why: str
    source: str


@value
class Tier:
    """What a space is made from, for one engine."""

    engine: str
    name: str
    trials: int = Field(ge=1)  # configurations to deploy
    extends: str | None = None  # another tier of the engine, whose knobs come after its own
    sources: tuple[str, ...] = Field(min_length=1)
    knobs: Mapping[str, Entry | None]  # null: not this knob of the tier that it extends


def load(engine: str, name: str, folders: Sequence[Path]) -> Tier:
    """The tier, with the knobs of those that it extends.

    Raises:
        ConfigError: there is none for this engine, or its file does not hold one.
    """
    own = _read(engine, name, folders)
    base, knobs = own, dict(own.knobs)
    for _ in range(MOST_BASES):
        if base.extends is None:
            break
        base = _read(engine, base.extends, folders)
        knobs |= {knob: entry for knob, entry in base.knobs.items() if knob not in knobs}
    return Tier(
        engine=engine,
        name=name,
        trials=own.trials,
        sources=own.sources,
        knobs={knob: entry for knob, entry in knobs.items() if entry is not None},
    )


def names(engine: str, folders: Sequence[Path]) -> list[str]:
    """The tiers that an engine has."""
    return sorted({path.stem for folder in folders for path in (folder / GROUP / engine).glob("*.yaml")})


def _read(engine: str, name: str, folders: Sequence[Path]) -> Tier:
    paths = [folder / GROUP / engine / f"{name}.yaml" for folder in reversed(folders)]
    path = next((each for each in paths if each.is_file()), None)
    if path is None:
        there = names(engine, folders)
        has = f"It has {GROUP}={', '.join(there)}" if there else "It has none: name the knobs to search"
        raise ConfigError(f"{GROUP}={name}: there is no such space for runtime={engine}. {has}.")
    try:
        return parse(Tier, {"engine": engine, "name": name, **yaml.safe_load(path.read_text("utf-8"))})
    except (OSError, TypeError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"{path} does not hold a space: {error}") from error
