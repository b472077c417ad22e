"""Checks a whole command line before anything starts: one trial, or every value of a sweep."""

import difflib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict

from pipeline.config import folder, sweepers
from pipeline.config.folder import Folder
from pipeline.config.knobs import check_setting
from pipeline.config.parse import parse
from pipeline.core import objectives, plan
from pipeline.core.errors import ConfigError, ModelError
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.core.schema_hardware import Hardware
from pipeline.core.values import value
from pipeline.engines import server_command
from pipeline.models import gguf, model_card, ome_model

Resolve = Callable[[Config], Config]
ENVIRONMENTS = ("runtime.env", "runtime.secret_env", "runtime.measuring.env", "runtime.development.env")
OPEN = ("slo.limits", *ENVIRONMENTS)  # sections that take any key, with a +
MISSING = {  # an option that many a key of the section comes with
    "hydra.sweeper": " The keys of a search belong to hydra/sweeper=tuner, the default.",
    "hydra.launcher": " Add hydra/launcher=parallel to run several trials at once.",
}
PROBED = 50  # values of one sweep that are composed one by one; the rest of a long range is like its ends


@value
class Outline:
    """What is going to run."""

    total: int | None  # trials, if that can be known
    is_dry: bool = False  # show, run nothing
    swept: tuple[str, ...] = ()  # the keys that differ from trial to trial
    uses_optuna: bool = False
    reuses: bool = False  # trials that differ in the load alone may share a server
    folder: Folder | None = None  # where it writes, where that is known now
    is_search: bool = False  # by `tuner`, which can be gone on with, and shared
    hardware: Hardware | None = None  # of the first trial, as far as it is known on this machine
    is_elsewhere: bool = False  # trials run on other machines


def check(overrides: Sequence[str], *, is_sweep: bool, resolve: Resolve = lambda config: config) -> Outline:
    """Compose and parse the command: the base once, every value of every sweep once.

    `resolve` looks what hardware=auto is; it is asked if the trials run on this machine.

    Raises:
        ConfigError: with what is allowed instead.
        PipelineError: as `resolve` does.
    """
    with initialize_config_dir(str(CONF)):
        parser = OverridesParser.create()
        given = _parsed(parser, overrides)
        if not is_sweep:
            _refuse_sweeps(given)
            tree = composed(overrides, hydra=True)
            found = folder.of(tree.hydra.run)
            with open_dict(tree):
                del tree["hydra"]
            is_dry = tree.dry_run
            config = _looked_at(to_config(tree), resolve, is_here=not is_dry)
            return Outline(total=1, is_dry=is_dry, folder=found, hardware=config.hardware)
        tree, swept = space(overrides)
        base = to_config(composed([sweepers.line_of(override, None) for override in swept.values()]))
        is_elsewhere = sweepers.runs_elsewhere(tree.hydra.launcher)
        base = _looked_at(base, resolve, is_here=not (is_elsewhere or tree.dry_run))
        for name, override in swept.items():
            if override.is_sweep_override():
                _check_interval(override, base, tree.hydra.sweeper)
                _check_values(name, override, swept, base)
        _check_sweeper(tree, base, swept)
        names = tuple(name for name, override in swept.items() if override.is_sweep_override())
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
        )


def _looked_at(config: Config, resolve: Resolve, *, is_here: bool) -> Config:
    """A dry run looks by itself, trial by trial, and goes on where nobody can tell."""
    return resolve(config) if is_here else config


def space(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Override]]:
    """What a sweep goes through: the tree of its first values, and every override, an experiment's own first.

    Raises:
        ConfigError: an override cannot be read, an option or a key does not exist.
    """
    parser = OverridesParser.create()
    given = _parsed(parser, overrides)
    tree = composed([sweepers.line_of(override, None) for override in given], hydra=True)
    params = OmegaConf.select(tree, "hydra.sweeper.params") or {}
    found = {o.get_key_element(): o for o in _parsed(parser, [f"{k}={v}" for k, v in params.items()])}
    return tree, found | {override.get_key_element(): override for override in given}


def composed(overrides: Sequence[str], *, hydra: bool = False) -> DictConfig:
    """The tree of one trial; inside `initialize_config_dir`.

    Raises:
        ConfigError: an option or a key that does not exist.
    """
    try:
        return compose("config", overrides=list(overrides), return_hydra_config=hydra)
    except (HydraException, ValueError) as error:
        raise ConfigError(_explain(error, overrides)) from error


def to_config(tree: DictConfig) -> Config:
    """The frozen, fully checked Config of a tree.

    Raises:
        ConfigError: a value that cannot be used.
    """
    parsed = _with_architecture(parse(tree))
    objectives.check(parsed)
    assets = plan.Assets(model_path=Path("model"), tokenizer_dir=Path("tokenizer"))
    server_command.argv(parsed, assets, Path("run_dir"))
    server_command.request_name(parsed, assets, Path("run_dir"))
    if parsed.backend.kubernetes:
        ome_model.of(parsed)
    return parsed


def _with_architecture(parsed: Config) -> Config:
    """A model in a folder or file says itself what it is; one that cannot be read is served all the same, unchecked."""
    model = parsed.model
    if model.context_tokens is None and model.path is not None and model.path.is_file():
        return replace(parsed, model=replace(model, context_tokens=gguf.context_tokens(model.path)))
    if model.arch is not None or model.path is None or not (model.path / "config.json").is_file():
        return parsed
    try:
        return replace(parsed, model=replace(model, arch=model_card.read(model.path)))
    except ModelError:
        return parsed


def _parsed(parser: OverridesParser, overrides: Sequence[str]) -> list[Override]:
    try:
        return parser.parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise ConfigError(_misread(error)) from error


def _refuse_sweeps(given: Sequence[Override]) -> None:
    swept = [override.input_line for override in given if override.is_sweep_override()]
    if swept:
        raise ConfigError(f"{swept[0]} has several values: add -m (--multirun) to sweep over them.")


def _check_sweeper(tree: DictConfig, base: Config, swept: Mapping[str, Override]) -> None:
    sweeper = tree.hydra.sweeper
    sweepers.check_directions(base, sweeper)
    sweepers.check_launcher(tree.hydra.launcher, sweeper)
    if sweepers.is_tuner(sweeper):
        sweepers.check_tuner(tree, base, swept.values())
        if sweeper.held_out:
            to_config(
                composed([*(sweepers.line_of(each, None) for each in swept.values()), f"traffic={sweeper.held_out}"])
            )


def _check_interval(override: Override, base: Config, sweeper: DictConfig) -> None:
    """Refuse an interval for a sweeper that cannot draw from it, and one of fractions for a knob of integers."""
    interval = override.value()
    if not isinstance(interval, IntervalSweep):
        return
    line, name = override.input_line, override.get_key_element()
    if not sweepers.is_optuna(sweeper):
        raise ConfigError(f"{line}: this sweeper cannot search an interval. Use hydra/sweeper=tuner, the default.")
    if name in base.knobs and base.runtime.knobs[name].kind == "int" and not isinstance(interval.start, int):
        ends = f"{interval.start:.15g},{interval.end:.15g}"
        raise ConfigError(f"{line} gives fractions, but {name} takes integers: use '{name}=int(interval({ends}))'.")


def _check_values(name: str, override: Override, swept: Mapping[str, Override], base: Config) -> None:
    picks = list(sweepers.values_of(override))
    if name in base.knobs:
        for fixed in OverridesParser.create().parse_overrides([f"{name}={pick}" for pick in picks]):
            check_setting(name, base.runtime, fixed.value())
        return
    for pick in picks if len(picks) <= PROBED else [*picks[: PROBED // 2], *picks[-PROBED // 2 :]]:
        lines = [sweepers.line_of(other, pick if key == name else None) for key, other in swept.items()]
        _check_objective(f"{name}={pick}", to_config(composed(lines)), base)


def _check_objective(line: str, made: Config, base: Config) -> None:
    seen, wanted = objectives.names(made), objectives.names(base)
    if seen != wanted:
        raise ConfigError(
            f"Set one objective for all trials of the sweep, e.g. objective={wanted[0]}: {line} would optimise "
            f"{', '.join(seen)}, other trials {', '.join(wanted)}."
        )


def _explain(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's words; for an unknown key, the keys there are and whose it may be."""
    text = str(error) + (f" {error.__cause__}" if error.__cause__ else "")
    unknown = re.search(r"Could not override '([\w.]+)'.* (?:is not in struct|not in '\w+')", text, re.DOTALL)
    if unknown:
        key = unknown[1]
        tree = compose("config", overrides=[line for line in overrides if _is_choice(line)], return_hydra_config=True)
        line = next((line for line in overrides if line.startswith(f"{key}=")), "")
        return _unknown_key(key, tree, line) if "." in key else _unknown_knob(key, tree)
    for noise in ("\nfull_key:", "\nConfig search path:", "\nSee https:"):
        text = text.split(noise)[0]
    return " ".join(text.split())


def _misread(error: OverrideParseException) -> str:
    """The part of Hydra's words that tells where it stopped reading."""
    words = error.message.partition("\n")[2].partition("\nSee https:")[0]
    if "missing EQUAL" in words:
        return f"{error.override}: expected key=value."
    if "Unknown function" in words or "(" in error.override:
        return f"{error.override}: quote values that contain parentheses, e.g. 'traffic.scenarios=[\"D(64,16)\"]'."
    return f"{error.override}: cannot be read: {' '.join(words.partition(' expecting {')[0].split())}."


def _unknown_knob(key: str, tree: DictConfig) -> str:
    knobs = list(tree.runtime.knobs)
    known = [*knobs, *(str(name) for name in tree if name not in knobs)]
    runtimes = sorted((CONF / "runtime").glob("*.yaml"))
    owners = [path.stem for path in runtimes if f"\n{key}: null" in path.read_text("utf-8")]
    owned = f" It is a knob of runtime={' and runtime='.join(owners)}." if owners else ""
    close = _did_you_mean(key, known)
    return f"{key} is not a knob of runtime={tree.runtime.name}.{close}{owned} Its knobs: {', '.join(knobs)}."


def _unknown_key(key: str, tree: DictConfig, line: str) -> str:
    parent, _, name = key.rpartition(".")
    section = OmegaConf.select(tree, parent)
    if key in OPEN or parent in OPEN:
        return f"{key}: put a + in front: {shlex.quote(f'+{line}') if line else f'+{key}=...'}"
    if not isinstance(section, DictConfig):
        return f"{key} is not a key: {parent} has no keys below it."
    known = [str(other) for other in section]
    missing = MISSING.get(parent, "")
    return f"{key} is not a key.{_did_you_mean(name, known)}{missing} {parent} has: {', '.join(known)}."


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _is_choice(line: str) -> bool:
    """Whether an override chooses an option of a group, or says where options lie."""
    key = line.split("=", 1)[0]
    return key in _groups() or key == "hydra.searchpath" or "/" in key


def _groups() -> set[str]:
    return {path.name for path in CONF.iterdir() if path.is_dir()}
