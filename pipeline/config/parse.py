"""Turns Hydra's tree into one frozen Config. Every type, choice and range is checked here, before anything starts."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.config import endpoints, nested, open_loop, own_traffic, ranges
from pipeline.config.knobs import check_setting
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.reasons import Reason
from pipeline.core.redact import SECRET_NAME
from pipeline.core.schema import Config
from pipeline.core.sides import RUNTIME
from pipeline.core.values import parse as parse_value
from pipeline.core.words import meant
from pipeline.engines import catalogue, knob_json

if TYPE_CHECKING:  # the keeper needs no trees, and starts with every trial
    from omegaconf import DictConfig

PURPOSES = ("measuring", "development")  # of the engine's variables and flags that are not handed over
PHASES = ("search", "confirm", "held_out", "between")
ENVIRONMENTS = ("runtime.env", "runtime.secret_env", "runtime.measuring.env", "runtime.development.env")
BESIDE = (
    "dry_run",
    "reason",
    "repeat_of",
    "phase",
    "rounds",
    "cache",
    "cache_dir",
    "space",
)  # keys of the root that say nothing of how a trial is configured


def parse(tree: "DictConfig") -> Config:
    """The frozen Config of a composed tree.

    Raises:
        ConfigError: an unknown key, a wrong kind, a value outside a knob's choices or range.
    """
    data = _values(tree)
    _check_origin(data.get("repeat_of"), data.get("phase", PHASES[0]), data.get("rounds"))
    _check_reason(data.get("reason"))
    if data.get("cache") not in (None, "read"):
        raise ConfigError(f"cache={data['cache']}: expected read, or null for none.")
    if not isinstance(data.get("cache_dir"), str | None) or data.get("cache_dir") == "":
        raise ConfigError(f"cache_dir={data['cache_dir']}: expected the folder of earlier sweeps, or null.")
    for other in ("hydra", *BESIDE):
        data.pop(other, None)
    runtime = data.get("runtime")
    names: Any = {}
    if isinstance(runtime, dict):
        names = runtime.get("knobs", {})
        _take_words(runtime)
        _spell(runtime)
    settings = nested.taken(data, names)
    ranges.check(data)
    endpoints.normalise(data)
    _check_empty(data)
    objective = data.get("objective")
    data["objective"] = (objective,) if isinstance(objective, str) else objective
    try:
        config = parse_value(Config, {**data, "knobs": settings})
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error
    ranges.check_switches(data, config)
    is_started = not config.backend.is_endpoint
    if is_started and config.runtime.version is None and (known := catalogue.versions(config.runtime.name)):
        raise ConfigError(f"Set runtime.version, e.g. {known[-1]}: it is missing, and flags differ between versions.")
    for name, setting in settings.items():
        check_setting(name, config.runtime, setting)
    _refuse_secrets(config)
    endpoints.check(config)
    ranges.check_traffic(config.traffic)
    own_traffic.check_runner(config)
    open_loop.check_runner(config)
    ranges.check_address(config)
    ranges.check_paths(config)
    _check_location(config)
    _check_workers(config)
    _check_model(config)
    _check_gpus(config)
    return config


def _values(tree: "DictConfig") -> dict[str, Any]:
    """The tree with every reference followed."""
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        data: dict[str, Any] = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} has no value: add {error.full_key}=... to the command.") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key} does not resolve: {str(error).splitlines()[0]}.") from error
    return data


def _check_origin(repeat_of: object, phase: object, rounds: object) -> None:
    """Accept what the sweeper `tuner` says of a trial beside its configuration."""
    if phase not in PHASES:
        raise ConfigError(f"phase={phase}: expected one of {', '.join(PHASES)}.")
    if repeat_of is not None and (type(repeat_of) is not int or repeat_of < 0):
        raise ConfigError(f"repeat_of={repeat_of}: expected the number of a trial, or null.")
    if rounds is not None and (type(rounds) is not int or rounds < 1):
        raise ConfigError(f"rounds={rounds}: expected a number of rounds, or null.")


def _check_empty(data: Mapping[str, Any]) -> None:
    """An empty path would be the working directory."""
    model = data.get("model")
    for name in ("path", "tokenizer", "repo", "served_name"):
        if isinstance(model, dict) and model.get(name) == "":
            raise ConfigError(f"model.{name} is empty: write a value after the =, or null.")


def _check_reason(reason: object) -> None:
    try:
        if reason is not None:
            parse_value(Reason, reason)
    except ValidationError as error:
        raise ConfigError(f"reason={reason}: leave it out. The search says with it why it asks for a trial.") from error


def _check_location(config: Config) -> None:
    """Accept a place where genai-bench can run."""
    if config.bench.location == "here":
        return
    if config.backend.kubernetes is None:
        raise ConfigError(
            f"bench.location=cluster needs backend=ome: backend={config.backend.name} does not use a cluster."
        )
    if config.bench.cluster.image is None:
        raise ConfigError("bench.location=cluster: set bench.cluster.image to an image with genai-bench 0.0.5.")


def _check_workers(config: Config) -> None:
    """Accept several processes of the load generator where it is ours: plain genai-bench keeps its own time."""
    if config.bench.workers != "auto" and (config.bench.runner != "resident" or config.bench.location != "here"):
        raise ConfigError(
            f"bench.workers={config.bench.workers} needs bench.runner=resident and bench.location=here. Leave it auto."
        )


def _take_words(runtime: dict[str, Any]) -> None:
    """Make words of whatever its lists of flags hold."""
    runtime["extra_args"] = _words(runtime.get("extra_args", []))
    for part in map(runtime.get, PURPOSES):
        if isinstance(part, dict):
            part["args"] = _words(part.get("args", []))


def _spell(runtime: dict[str, Any]) -> None:
    """As people write it: 0.32.0+cpu for 0.32.0 (a build's suffix changes no flags), numbers in variables."""
    for part in (runtime, *map(runtime.get, PURPOSES)):
        if isinstance(part, dict) and isinstance(env := part.get("env"), dict):
            part["env"] = {name: str(text) if type(text) in {int, float} else text for name, text in env.items()}
    version = runtime.get("version")
    if isinstance(version, str) and "+" in version:
        runtime["version"] = version.partition("+")[0]
        for part in (runtime, runtime.get("on_cpu")):
            if isinstance(part, dict) and part.get("image"):
                part["image"] = str(part["image"]).replace(version, runtime["version"])


def _check_gpus(config: Config) -> None:
    """Accept GPUs that are named once."""
    ids = config.hardware.gpu_ids
    if twice := next((name for at, name in enumerate(ids) if name in ids[:at]), None):
        raise ConfigError(f"hardware.gpu_ids=[{','.join(ids)}] names GPU {twice} twice.")


def _check_model(config: Config) -> None:
    """Accept a model that can be found; of one that is served elsewhere, nothing more may be known."""
    model = config.model
    if not (model.path or model.package or model.repo or config.backend.is_elsewhere):
        raise ConfigError("model.path has no value: add model.path=... to the command.")


def _words(given: object) -> object:
    """[--page-size,64] holds a number; a command line holds words."""
    if not isinstance(given, list):
        return given
    if any(isinstance(word, list | dict | None) for word in given):
        raise ConfigError(f"runtime.extra_args: expected words, e.g. [--page-size,64], seen {given}.")
    return [str(word) for word in given]


def _refuse_secrets(config: Config) -> None:
    runtime = config.runtime
    sections = {"env": runtime.env, "measuring.env": runtime.measuring.env, "development.env": runtime.development.env}
    for name in (str(knob.env) for knob in runtime.knobs.values() if knob.env):
        if SECRET_NAME.search(name):
            raise ConfigError(
                f"Set {name} in the environment instead of by a knob: it looks like a secret, and the configuration is "
                f"written to disk. The engine inherits the environment."
            )
    for name in set(knob_json.variables(config)) & set(runtime.env):
        raise ConfigError(f"{name} is set as a knob and as runtime.env.{name}: leave one of them out.")
    for section, name in ((section, name) for section, env in sections.items() for name in env):
        if SECRET_NAME.search(name):
            raise ConfigError(
                f"Set {name} in the environment instead of runtime.{section}.{name}: it looks like a secret, and the "
                f"configuration is written to disk. The engine inherits the environment."
            )


def _explain(error: ValidationError) -> str:
    found = error.errors(include_url=False)
    around = {item["loc"][:-1] for item in found}  # pydantic calls a list with a bad item too short as well
    lines = [_told(item) for item in found if not (item["type"] == "too_short" and item["loc"] in around)]
    text = "; ".join(dict.fromkeys(lines))
    return text if text.endswith("?") else f"{text}."


def _told(item: Mapping[str, Any]) -> str:
    """One thing that is wrong: where, what is expected there, what was given."""
    loc = [str(part) for part in item["loc"]]
    kind, given = item["type"], item["input"]
    if loc[0] == "knobs" and len(loc) > 1:  # one error for each kind that a knob may have
        loc, kind = [loc[1]], "one_value"
    if loc[:2] == ["bench", "workers"]:  # one for auto, one for a number
        loc, kind = loc[:2], "workers"
    words = _WORDS.get(kind, item["msg"]).format_map(item.get("ctx", {}))
    if kind == "unexpected_keyword_argument" and len(loc) == 1 and (CONF / RUNTIME / f"{loc[0]}.yaml").is_file():
        words = f"a file has what only this engine gets under hydra.sweeper.params: {{{loc[0]}.<key>: <values>}}"
    if kind == "string_pattern_mismatch":
        words = _SPELLINGS.get(loc[0], words)
    seen = "" if kind in {"missing", "unexpected_keyword_argument"} else f", got {_typed(given)}"
    if kind == "string_type" and isinstance(given, bool | int | float):
        plus = "+" if ".".join(loc[:-1]) in ENVIRONMENTS else ""
        seen += f"; quote it, so that it stays text: {plus}{'.'.join(loc)}=\"'{_typed(given)}'\""
    close = meant(given, re.findall(r"'([^']*)'", words)) if kind == "literal_error" else ""
    return f"{'.'.join(loc)}: {words}{seen}{'.' if close else ''}{close}"


def _typed(given: object) -> str:
    """As it is written in YAML and on a command line."""
    return "null" if given is None else str(given).lower() if isinstance(given, bool) else repr(given)


# pydantic's error types in our words
_WORDS = {
    "missing": "is missing",
    "unexpected_keyword_argument": "unknown key",
    "one_value": "expected one value",
    "workers": "expected auto, or a number of processes up to 256",
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "expected an integer"),
    **dict.fromkeys(("float_parsing", "float_type"), "expected a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "expected true or false"),
    **dict.fromkeys(("dataclass_type", "mapping_type", "dict_type"), "expected keys and values"),
    "string_type": "expected a string",
    "tuple_type": "expected a list",
    "path_type": "expected a path",
    "too_short": "expected at least one item",
    "greater_than": "expected more than {gt:g}",
    "greater_than_equal": "expected {ge:g} or more",
    "less_than": "expected less than {lt:g}",
    "less_than_equal": "expected at most {le:g}",
    "literal_error": "expected {expected}",
}
_SPELLINGS = {
    "traffic": "expected D(in,out), N(mean,sd)/(mean,sd) or U(min,max)/(min,max)",
    "backend": "expected pipeline.backends.<module>.<Class>",
    "tracker": "expected pipeline.trackers.<module>.<Class>",
}
