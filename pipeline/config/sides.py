"""Engines side by side: whose each override is, and the command as it would be for one engine alone. Pure.

`sglang.page_size=32` is page_size=32 where runtime=sglang, and nothing where it is not.
"""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from pipeline.core.errors import ConfigError
from pipeline.core.sides import RUNTIME, of_words

KEY = re.compile(r"([+~]{0,2})([^.=/@+~]+)\.(.+)")
OWN = ("runtime", "model", "backend", "timeouts")  # sections that each engine may have of its own, beside its knobs
# What engines can only be compared under when they share it, and what is the command's
SHARED = (
    *("traffic", "slo", "objective", "bench", "hardware", "tracker", "quality", "experiment"),
    *("dry_run", "cache", "hydra"),
)

Knobs = Mapping[str, frozenset[str]]  # of each engine: the names of its knobs


def owner(key: str, engines: Collection[str]) -> tuple[str | None, str]:
    """The engine that a key names, and the key without it; None: it is every engine's."""
    found = KEY.fullmatch(key)
    if found is None or found[2] not in engines:
        return None, key
    return found[2], f"{found[1]}{found[3]}"


def renamed(override: Override, key: str) -> Override:
    """The same values for another key."""
    _, equals, values = (override.input_line or "").partition("=")
    return OverridesParser.create().parse_override(f"{key}{equals}{values}")


def arranged(found: Mapping[str, Override], knobs: Knobs) -> dict[str, Override]:
    """The overrides with each knob under the name of its engine, as those are whose values differ by engine.

    The engines come first.

    Raises:
        ConfigError: a knob that only some of the engines have, without their names; a key that all must share.
    """
    made: dict[str, Override] = {RUNTIME: found[RUNTIME]}
    for key, override in found.items():
        whose, bare = owner(key, knobs)
        if whose is not None:
            _check_own(override, bare, knobs[whose])
            made[key] = override
            continue
        if any(bare in names for names in knobs.values()):
            _check_shared(key, override, knobs)
        elif not any(_under(key, engine) in found for engine in knobs):
            made.setdefault(key, override)
            continue
        for name in (_under(key, engine) for engine in knobs):
            if name not in found:
                made[name] = renamed(override, name)
    return made


def alone(found: Mapping[str, Override], engine: str, engines: Collection[str]) -> dict[str, Override]:
    """What `arranged` gives, as the overrides of one engine's own sweep."""
    made: dict[str, Override] = {}
    for key, override in found.items():
        whose, bare = owner(key, engines)
        if key == RUNTIME:
            made[key] = OverridesParser.create().parse_override(f"{RUNTIME}={engine}")
        elif whose in {None, engine}:
            made[bare] = override if whose is None else renamed(override, bare)
    return made


def trial(lines: Sequence[str], engines: Collection[str]) -> list[str]:
    """The overrides of one trial, of `arranged` keys, as they are for its engine alone."""
    if not engines:
        return list(lines)
    chosen = of_words(lines)
    return [*_of_engine(lines, chosen, engines)]


def present(found: Mapping[str, Override], engines: Collection[str], options: Collection[str]) -> dict[str, Override]:
    """The overrides but for those of engines that are not there: an experiment may have them for other commands."""
    return {key: each for key, each in found.items() if owner(key, options)[0] in {None, *engines}}


def parted(argv: Sequence[str], overrides: Sequence[str], knobs: Knobs) -> tuple[list[str], list[str]]:
    """The words of a command of several engines of which Hydra can make a tree, and all overrides for the sweeper."""
    names = {name for some in knobs.values() for name in some}
    keys = {word: word.partition("=")[0].lstrip("+~") for word in overrides}
    ours = {word for word, key in keys.items() if key in names or owner(key, knobs)[0]}
    task = [word for word, key in keys.items() if not key.startswith(("hydra.", "hydra/"))]
    return [word for word in argv if word not in ours], task


def _of_engine(lines: Sequence[str], chosen: str | None, engines: Collection[str]) -> Iterator[str]:
    for line in lines:
        key = line.partition("=")[0]
        whose, bare = owner(key, engines)
        if whose in {None, chosen}:
            yield bare + line[len(key) :]


def _under(key: str, engine: str) -> str:
    """The key under the name of an engine: +runtime.env.X as +sglang.runtime.env.X."""
    sign = key[: len(key) - len(key.lstrip("+~"))]
    return f"{sign}{engine}.{key[len(sign) :]}"


def _check_own(override: Override, bare: str, knobs: Collection[str]) -> None:
    """Accept a knob, which is checked later, or a key of a section that an engine may have of its own."""
    key = bare.lstrip("+~")
    section = key.partition(".")[0].partition("/")[0]
    line = override.input_line
    if key == RUNTIME:
        raise ConfigError(f"{line}: an engine cannot stand for another one; add it to runtime=... instead.")
    if key in knobs:
        return
    if section in SHARED:
        raise ConfigError(f"{line}: {section} is the same for all engines: write it without the name of one.")
    if ("." in key or "/" in key) and section not in OWN:
        raise ConfigError(
            f"{line}: {section} is no section that an engine has of its own; those are {', '.join(OWN)}, and its knobs."
        )


def _check_shared(key: str, override: Override, knobs: Knobs) -> None:
    """Accept a knob without an engine's name where each engine that has no values of its own has it."""
    owners = [engine for engine, names in knobs.items() if key in names]
    if len(owners) < len(knobs):
        values = (override.input_line or "").partition("=")[2]
        right = shlex.join(f"{engine}.{key}={values}" for engine in owners)
        others = " and ".join(engine for engine in knobs if engine not in owners)
        raise ConfigError(f"{key} is no knob of {others}. For {' and '.join(owners)} alone, write {right}")
