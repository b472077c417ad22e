"""Checks a whole command line before anything starts: one trial, or every value of a sweep."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from pipeline.config import (
    endpoints,
    folder,
    one_node,
    open_loop,
    own_traffic,
    spaces,
    sweepers,
    swept_values,
    trial_limit,
    user_files,
    words,
)
from pipeline.config.outline import Outline
from pipeline.config.parse import parse
from pipeline.config.spaces import Part
from pipeline.core import objectives, plan
from pipeline.core.errors import ConfigError, ModelError
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.core.sides import RUNTIME
from pipeline.engines import one_node as engine_nodes
from pipeline.engines import server_command, verdict
from pipeline.models import gguf, model_card, ome_model

Resolve = Callable[[Config], Config]
Search = Callable[[DictConfig, Mapping[str, Override], Config], tuple[str, ...]]
composed = spaces.composed
DECIDE_LOAD = {"traffic", "traffic.arrival", "traffic.levels", "experiment"}  # keys that say how levels are chosen


def check(
    overrides: Sequence[str],
    *,
    is_sweep: bool,
    resolve: Resolve = lambda config: config,
    search: Search = lambda *_: (),
) -> Outline:
    """Compose and parse the command: the base once, every value of every sweep once.

    `resolve` looks what hardware=auto is; it is asked if the trials run on this machine. `search` looks at a sweeper's
    own settings, and says from what it learns.

    Raises:
        ConfigError: with what is allowed instead.
        PipelineError: as `resolve` does.
    """
    with initialize_config_dir(str(CONF)):
        given = spaces.parsed(overrides)
        words.check(given)
        return _sweep(overrides, resolve, search) if is_sweep else _trial(overrides, given, resolve)


def _trial(overrides: Sequence[str], given: Sequence[Override], resolve: Resolve) -> Outline:
    words.refuse_sweeps(given)
    tree = composed(overrides, hydra=True)
    _check_mode(tree, is_sweep=False)
    found = folder.of(tree.hydra.run)
    with open_dict(tree):
        del tree["hydra"]
    config = _looked_at(to_config(tree), resolve, is_here=not tree.dry_run)
    return Outline(
        total=1,
        is_dry=tree.dry_run,
        folder=found,
        hardware=config.hardware,
        warnings=_warnings(config, tree),
        is_cached=bool(tree.cache),
    )


def _sweep(overrides: Sequence[str], resolve: Resolve, search: Search) -> Outline:
    """Of every engine of the sweep, as if it were alone; together they have no more trials than were asked for."""
    found = spaces.of(overrides)
    sweepers.check_engines(found.parts)
    outlines = {}
    for engine, part in found.parts.items():
        try:
            outlines[engine] = _part(part, resolve, search)
        except ConfigError as error:
            if not found.knobs:
                raise
            raise ConfigError(f"{RUNTIME}={engine}: {error}{_own_values(overrides, engine, str(error))}") from error
    first, *others = outlines.values()
    twice = [
        told
        for each in spaces.parsed(overrides)
        if each.get_key_element() == RUNTIME
        for told in swept_values.again(each)
    ]
    if not others:
        return replace(first, warnings=tuple(dict.fromkeys((*twice, *first.warnings))))
    totals = {engine: each.total for engine, each in outlines.items()}
    most = sweepers.most(next(iter(found.parts.values())).tree.hydra.sweeper)
    return replace(
        first,
        total=None if None in totals.values() else min(sum(each or 0 for each in totals.values()), most),
        totals=totals,
        swept=tuple(dict.fromkeys((RUNTIME, *(name for each in outlines.values() for name in each.swept)))),
        warnings=tuple(dict.fromkeys((*twice, *(line for each in outlines.values() for line in each.warnings)))),
        knobs=found.knobs,
    )


def _own_values(overrides: Sequence[str], engine: str, said: str) -> str:
    """How each engine gets values of its own, where one of them does not take those of all."""
    key = said.partition("=")[0]
    is_shared = any(word.startswith(f"{key}=") for word in overrides)
    return f" Values for one engine are written under its name: {engine}.{key}=..." if is_shared else ""


def _part(part: Part, resolve: Resolve, search: Search) -> Outline:
    tree, swept = part.tree, part.found
    _check_mode(tree, is_sweep=True)
    base = to_config(composed([sweepers.line_of(override, None) for override in swept.values()]))
    is_elsewhere = sweepers.runs_elsewhere(tree.hydra.launcher)
    base = _looked_at(base, resolve, is_here=not (is_elsewhere or tree.dry_run))
    names = tuple(name for name, override in swept.items() if override.is_sweep_override())
    for name in names:
        swept_values.check(swept[name], base, tree.hydra.sweeper)
        _check_others(name, swept[name], swept, base)
    _check_sweeper(tree, base, swept)
    learned = search(tree, swept, base)
    is_once = sweepers.is_tuner(tree.hydra.sweeper)
    again = [told for name in names for told in swept_values.again(swept[name]) if is_once]
    return Outline(
        total=sweepers.total(swept, tree),
        is_dry=tree.dry_run,
        swept=names,
        reuses=sweepers.reuses(names, tree.hydra.launcher),
        uses_optuna=sweepers.is_optuna(tree.hydra.sweeper),
        folder=folder.of(tree.hydra.sweep),
        is_search=sweepers.is_tuner(tree.hydra.sweeper),
        hardware=base.hardware,
        is_elsewhere=is_elsewhere,
        warnings=(*again, *_warnings(base, tree, names)),
        is_here=sweepers.runs_here(tree.hydra.launcher),
        is_cached=bool(tree.cache),
        learned=learned,
    )


def _warnings(config: Config, tree: DictConfig, swept: Sequence[str] = ()) -> tuple[str, ...]:
    is_one_load = DECIDE_LOAD.isdisjoint(swept)  # else what one trial does not read, another one may
    idle = open_loop.told(config.traffic) if is_one_load else ()
    told = (*(finding.reason for finding in trial_limit.too_short(config)), *idle)
    is_nowhere = tree.cache and tree.cache_dir and not Path(tree.cache_dir).is_dir()
    return (*told, f"cache_dir={tree.cache_dir} is no folder: nothing is taken over") if is_nowhere else told


def single(overrides: Sequence[str]) -> Config:
    """The configuration of commands that look at one.

    Raises:
        ConfigError: as `check` does; or there are several.
    """
    with initialize_config_dir(str(CONF)):
        given = spaces.parsed(spaces.spelled(overrides))
        words.check(given)
        words.refuse_sweeps(given, "name one; servetune dry-run -m shows the trials of all")
        return to_config(composed(spaces.spelled(overrides)))


def spelled(overrides: Sequence[str]) -> list[str]:
    """The overrides without the name of the only engine in front; those of several engines as they are.

    Raises:
        ConfigError: they name an engine that the command does not choose, or cannot be read.
    """
    with initialize_config_dir(str(CONF)):
        return spaces.spelled(overrides)


def look(overrides: Sequence[str]) -> None:
    """Compose the command, as `--cfg` and `--help` do.

    Raises:
        ConfigError: an override cannot be read, an option or a key does not exist.
    """
    with initialize_config_dir(str(CONF)):
        words.check(spaces.parsed(overrides))
        spaces.of(overrides)


def _looked_at(config: Config, resolve: Resolve, *, is_here: bool) -> Config:
    """A dry run looks by itself, trial by trial, and goes on where nobody can tell."""
    return resolve(config) if is_here else config


def to_config(tree: DictConfig) -> Config:
    """The frozen, fully checked Config of a tree.

    Raises:
        ConfigError: a value that cannot be used.
    """
    parsed = _with_architecture(parse(tree))
    objectives.check(parsed)
    for name in parsed.runtime.rules:
        verdict.path_of(name)
    engine_nodes.insist(parsed)
    one_node.check_hardware(parsed)
    assets = plan.Assets(model_path=Path("model"), tokenizer_dir=Path("tokenizer"))
    server_command.argv(parsed, assets, Path("run_dir"))
    server_command.request_name(parsed, assets, Path("run_dir"))
    if parsed.backend.kubernetes:
        ome_model.of(parsed)
    return user_files.read(parsed)


def _with_architecture(parsed: Config) -> Config:
    """A model in a folder or file says itself what it is; one that cannot be read is served all the same.

    Why it cannot is kept: the memory check tells it.
    """
    model = parsed.model
    if model.context_tokens is None and model.path is not None and model.path.is_file():
        return replace(parsed, model=replace(model, context_tokens=gguf.context_tokens(model.path)))
    if model.arch is not None or model.path is None or not model_card.is_there(model.path):
        return parsed
    try:
        return replace(parsed, model=replace(model, arch=model_card.read(model.path)))
    except ModelError as error:
        return replace(parsed, model=replace(model, unread=str(error)))


def _check_mode(tree: DictConfig, *, is_sweep: bool) -> None:
    """The command says whether it is a sweep; a file cannot."""
    mode = tree.hydra.mode
    if mode is not None and (mode == RunMode.MULTIRUN) != is_sweep:
        raise ConfigError(
            f"hydra.mode={mode.name} does not fit this command: take it out; -m (--multirun) alone makes a sweep."
        )


def _check_sweeper(tree: DictConfig, base: Config, swept: Mapping[str, Override]) -> None:
    sweeper = tree.hydra.sweeper
    sweepers.check_directions(base, sweeper)
    sweepers.check_launcher(tree.hydra.launcher, sweeper)
    endpoints.check_launcher(base, is_elsewhere=sweepers.runs_elsewhere(tree.hydra.launcher))
    if sweepers.is_tuner(sweeper):
        sweepers.check_tuner(tree, base, swept.values())
        if sweeper.held_out:
            lines = (sweepers.line_of(each, None) for each in swept.values())
            to_config(composed(own_traffic.under(lines, sweeper.held_out)))


def _check_others(name: str, override: Override, swept: Mapping[str, Override], base: Config) -> None:
    """Compose every value of what is no knob; those are checked already."""
    if name in base.knobs:
        return
    for pick in sweepers.values_of(override):
        lines = [sweepers.line_of(other, pick if key == name else None) for key, other in swept.items()]
        _check_objective(f"{name}={pick}", to_config(composed(lines)), base)


def _check_objective(line: str, made: Config, base: Config) -> None:
    seen, wanted = objectives.names(made), objectives.names(base)
    if seen != wanted:
        raise ConfigError(
            f"Set one objective for all trials of the sweep, e.g. objective={wanted[0]}: {line} would optimise "
            f"{', '.join(seen)}, other trials {', '.join(wanted)}."
        )
