"""Makes ordinary overrides of `space=standard`: what to search, for each engine of the command."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from omegaconf import DictConfig

from pipeline.config import spaces, sweepers, tiers, unknown
from pipeline.config.command_line import to_config
from pipeline.config.spaces import Part
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.trial import here, proposal
from pipeline.trial.proposal import Proposal

LIMITS = ("n_trials", "timeout_s", "gpu_hours")


@dataclass(frozen=True, slots=True)
class Spaced:
    """A command with what is searched written out, and what to say of it."""

    overrides: list[str]
    summary: str  # one line for each engine
    told: str  # everything: each knob with its values and sources, and what was left out


def expanded(overrides: Sequence[str], *, is_sweep: bool) -> Spaced | None:
    """None where no space is asked for.

    Raises:
        ConfigError: there is no such space, it leaves nothing to search, or the hardware is not known.
    """
    if not any(word.partition("=")[0] in {tiers.GROUP, "experiment"} for word in overrides):
        return None
    with initialize_config_dir(str(CONF)):
        given = spaces.parsed(overrides)
        if any(each.get_key_element() == tiers.GROUP and each.is_sweep_override() for each in given):
            raise ConfigError(f"Name one {tiers.GROUP} for all of the sweep, e.g. {tiers.GROUP}=quick.")
        choices = [sweepers.line_of(each, None) for each in given if unknown.is_choice(each.input_line or "")]
        name = spaces.composed(choices, hydra=True).hydra.runtime.choices.get(tiers.GROUP)
        if name in {None, "none"}:
            return None
        if not is_sweep:
            raise ConfigError(f"{tiers.GROUP}={name} is searched, and a search is a sweep: add -m (--multirun).")
        kept = [word for word in overrides if word.partition("=")[0] != tiers.GROUP]
        plain = [*kept, *([f"{tiers.GROUP}=none"] if kept == list(overrides) else [])]
        parts = spaces.of(plain).parts
        made = {engine: _proposed(part, engine, str(name), folders(overrides)) for engine, part in parts.items()}
    tree = next(iter(parts.values())).tree
    found = {engine: each for engine, (_, each) in made.items()}
    lines = [line for engine, each in found.items() for line in _lines(each, f"{engine}." if len(found) > 1 else "")]
    limit = _limit(found, tree, plain)
    mark = "# " if any(config.backend.kubernetes for config, _ in made.values()) else ""
    told = [line for config, each in made.values() for line in _told(config, each, limit)]
    return Spaced(
        overrides=[*plain, *lines, *limit],
        summary="".join(f"{_sum(config, each, limit)}\n" for config, each in made.values()),
        told="".join(f"{mark}{line}".rstrip() + "\n" for line in told),
    )


def folders(overrides: Sequence[str]) -> list[Path]:
    """Where options lie: ours, then those that the command names."""
    found = [CONF]
    for word in overrides:
        if word.startswith(f"{spaces.SEARCHPATH}="):
            found += [Path(each.removeprefix("file://")) for each in word.partition("=")[2].strip("[]").split(",")]
    return found


def _proposed(part: Part, engine: str, name: str, among: Sequence[Path]) -> tuple[Config, Proposal]:
    base = to_config(spaces.composed([sweepers.line_of(each, None) for each in part.found.values()]))
    if base.backend.is_endpoint:
        raise ConfigError(f"{tiers.GROUP}={name}: backend=endpoint starts no engine whose knobs could be searched.")
    if not sweepers.runs_elsewhere(part.tree.hydra.launcher):
        base = here.look(base).config
    if base.hardware.is_auto:
        raise ConfigError(f"{tiers.GROUP}={name} is made for the hardware: name it, e.g. hardware=h100.")
    made = proposal.made(base, tiers.load(engine, name, among), {key for key in part.found if key in base.knobs})
    if not made.dimensions:
        why = "; ".join(f"{knob}: {why}" for knob, why in made.left_out.items())
        raise ConfigError(
            f"{tiers.GROUP}={name} leaves nothing to search for runtime={engine}, model={base.model.name} on "
            f"{base.hardware.name}: {why}. Take another {tiers.GROUP}, name the hardware that it is for "
            "(hardware=h100), or name the knobs to search."
        )
    return base, made


def _lines(made: Proposal, engine: str) -> Iterator[str]:
    yield from (f"{engine}{knob}={size}" for knob, size in made.fixed.items())
    for one in made.dimensions:
        yield f"{engine}{one.knob}={','.join(['null', *map(_spelled, one.values)])}"


def _spelled(pick: Any) -> str:
    """As it is written on a command line."""
    if isinstance(pick, bool):
        return str(pick).lower()
    if isinstance(pick, Mapping):
        return f"{{{','.join(f'{name}:{_spelled(item)}' for name, item in pick.items())}}}"
    if isinstance(pick, Sequence) and not isinstance(pick, str):
        return f"[{','.join(map(_spelled, pick))}]"
    return str(pick)


def _limit(found: Mapping[str, Proposal], tree: DictConfig, overrides: Collection[str]) -> list[str]:
    """How many trials are deployed, where nothing else says when to end."""
    sweeper = tree.hydra.sweeper
    is_limited = any(sweeper.get(name) is not None for name in LIMITS)
    if not sweepers.is_tuner(sweeper) or is_limited or any("hydra/sweeper=" in word for word in overrides):
        return []
    trials = sum(min(each.tier.trials, each.size) for each in found.values())
    return [f"hydra.sweeper.n_trials={trials}"]


def _sum(config: Config, made: Proposal, limit: Sequence[str]) -> str:
    runtime, count = config.runtime, len(made.dimensions)
    where = f"{config.model.name} on {config.hardware.name} under {config.traffic.name}"
    deployed = f"{min(made.tier.trials, made.size)} of them are deployed" if limit else "your limit says how many run"
    return (
        f"{tiers.GROUP}={made.tier.name} of {runtime.name} for {where}: {count} knob{'s' * (count != 1)}, {made.size} "
        f"combinations; {deployed}."
    )


def _told(config: Config, made: Proposal, limit: Sequence[str]) -> Iterator[str]:
    yield _sum(config, made, limit)
    for one in made.dimensions:
        yield f"  {one.knob}={','.join(['null', *map(_spelled, one.values)])}"
        yield f"      {one.why} [{one.source}]"
    if made.left_out:
        yield "  left out"
        yield from (f"      {what}: {why}" for what, why in made.left_out.items())
    yield f"  made from {'; '.join(made.tier.sources)}"
    yield ""
