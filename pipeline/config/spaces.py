"""What a sweep goes through: its overrides and those of its experiment, engine by engine."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, flag_override

from pipeline.config import read_once, sides, sweepers, swept_values, unknown, unreadable
from pipeline.config.sides import Knobs
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.sides import RUNTIME

SEARCHPATH = "hydra.searchpath"
read_once.install()


@dataclass(frozen=True, slots=True)
class Part:
    """The sweep of one engine, as if its command named no other."""

    tree: DictConfig  # of its first values
    found: Mapping[str, Override]  # every override by its key, an experiment's own first


@dataclass(frozen=True, slots=True)
class Space:
    """A sweep's parts by engine, and the knobs of each where there are several."""

    parts: Mapping[str, Part]
    knobs: Knobs = field(default_factory=dict)


def of(overrides: Sequence[str]) -> Space:
    """What a sweep goes through; inside `initialize_config_dir`.

    Raises:
        ConfigError: an override cannot be read, an option or a key does not exist; an engine's own settings where they
            cannot be.
    """
    given = shaped(parsed(overrides))
    chosen = composed([sweepers.line_of(each, None) for each in given if _is_choice(each)], hydra=True)
    found = merged(given, chosen.hydra.sweeper)
    engines = _engines(found, chosen)
    _insist_there([each.get_key_element() for each in given], engines, overrides)
    found = sides.present(found, engines, options(overrides))
    is_tuner = sweepers.is_tuner(chosen.hydra.sweeper)
    if not is_tuner and (named := next((key for key in found if sides.owner(key, engines)[0]), None)):
        raise ConfigError(
            f"{named}: keys of one engine need hydra/sweeper=tuner, the default; other sweepers know none."
        )
    if len(engines) == 1 or not is_tuner:
        mine = {bare: _bare(each, bare) for key, each in found.items() for _, bare in [sides.owner(key, engines)]}
        return Space(parts={engines[0]: Part(_tree_of(mine.values()), mine)})
    knobs = {engine: _knobs(engine, given) for engine in engines}
    arranged = sides.arranged(found, knobs)
    own = {engine: sides.alone(arranged, engine, knobs) for engine in engines}
    return Space(parts={engine: Part(_tree_of(mine.values()), mine) for engine, mine in own.items()}, knobs=knobs)


def spelled(overrides: Sequence[str]) -> list[str]:
    """The overrides of a command for one engine without the engine's name in front; of one for several as they are.

    Raises:
        ConfigError: they name an engine that the command does not choose.
    """
    known = set(options(overrides))
    if not any(sides.owner(word.partition("=")[0], known)[0] for word in overrides):
        return list(overrides)
    given = parsed(overrides)
    chosen = composed([sweepers.line_of(each, None) for each in given if _is_choice(each)], hydra=True)
    engines = _engines(merged(given, chosen.hydra.sweeper), chosen)
    _insist_there([each.get_key_element() for each in given], engines, overrides)
    if len(engines) > 1:
        return list(overrides)
    keys = [word.partition("=")[0] for word in overrides]
    return [sides.owner(key, engines)[1] + word[len(key) :] for key, word in zip(keys, overrides, strict=True)]


def merged(given: Sequence[Override], sweeper: DictConfig) -> dict[str, Override]:
    """The sweeper's `params`, which an experiment sets, and over them what was given."""
    given_by_file = sweeper.get("params") or {}
    if not isinstance(given_by_file, Mapping):
        raise ConfigError(
            f"hydra.sweeper.params={given_by_file}: expected keys and values, e.g. {{n_threads: '1,2,4'}}."
        )
    params = shaped(parsed([*lines_of(given_by_file)]))
    return {each.get_key_element(): each for each in (*params, *given)}


def lines_of(params: Mapping[Any, Any], name: str = "") -> Iterator[str]:
    """`hydra.sweeper.params` as overrides; an engine's own may lie in a section of its name."""
    for key, values in params.items():
        if isinstance(values, Mapping | DictConfig):
            yield from lines_of(values, f"{name}{key}.")
        else:
            yield f"{name}{key}={values}"


def parsed(overrides: Sequence[str]) -> list[Override]:
    """Each as Hydra reads it.

    Raises:
        ConfigError: Hydra cannot read one.
    """
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise ConfigError(unreadable.sentence(error)) from error


def shaped(given: list[Override]) -> list[Override]:
    """The same, if a sweeper can go through them.

    Raises:
        ConfigError: with what to write instead.
    """
    for override in given:
        swept_values.check_shape(override)
    return given


def composed(overrides: Sequence[str], *, hydra: bool = False) -> DictConfig:
    """The tree of one trial; inside `initialize_config_dir`.

    Raises:
        ConfigError: an option or a key that does not exist.
    """
    try:
        tree = read_once.composed(tuple(overrides))
    except (HydraException, ValueError) as error:
        raise ConfigError(unknown.explained(error, overrides, partial(options, overrides))) from error
    if not hydra:
        with flag_override(tree, ["readonly", "struct"], False):  # as hydra.compose does
            del tree["hydra"]
    return tree


def _tree_of(found: Any) -> DictConfig:
    return composed([sweepers.line_of(each, None) for each in found], hydra=True)


def _bare(override: Override, key: str) -> Override:
    return override if override.get_key_element() == key else sides.renamed(override, key)


def _is_choice(override: Override) -> bool:
    key = override.get_key_element().lstrip("+~")
    return key.startswith("hydra.") or unknown.is_choice(override.input_line or "")


def _engines(found: Mapping[str, Override], chosen: DictConfig) -> tuple[str, ...]:
    """The options of the group runtime that trials have."""
    given = found.get(RUNTIME)
    if given is None or not given.is_sweep_override():
        return (str(given.value() if given else chosen.hydra.runtime.choices[RUNTIME]),)
    return tuple(dict.fromkeys(sweepers.values_of(given)))


def _insist_there(keys: Sequence[str], engines: Sequence[str], overrides: Sequence[str]) -> None:
    """Settings of an engine that no trial has would be left out without a word."""
    known = options(overrides)
    for key in keys:
        whose, _ = sides.owner(key, known)
        if whose is not None and whose not in engines:
            raise ConfigError(
                f"{key}: {whose} is not an engine of this command, which has {RUNTIME}={','.join(engines)}. Leave it "
                f"out, or add the engine: -m {RUNTIME}={','.join([*engines, whose])}"
            )


def _knobs(engine: str, given: Sequence[Override]) -> frozenset[str]:
    others = [each for each in given if _is_choice(each) and each.get_key_element() != RUNTIME]
    tree = composed([*(sweepers.line_of(each, None) for each in others), f"{RUNTIME}={engine}"])
    return frozenset(map(str, tree.runtime.knobs))


def options(overrides: Sequence[str]) -> tuple[str, ...]:
    """The options of the group runtime: those that are shipped, and those in folders that the command names."""
    found = [path for folder in _folders(overrides) for path in sorted((folder / RUNTIME).glob("*.yaml"))]
    return tuple(path.stem for path in found)


def _folders(overrides: Sequence[str]) -> list[Path]:
    named = [word.partition("=")[2] for word in overrides if word.startswith(f"{SEARCHPATH}=")]
    return [CONF, *(Path(each.removeprefix("file://")) for words in named for each in words.strip("[]").split(","))]
