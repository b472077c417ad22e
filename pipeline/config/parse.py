"""Turns Hydra's tree into one frozen Config. Every type, choice and range is checked here, before anything starts."""

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.config.knobs import check_setting
from pipeline.core.errors import ConfigError
from pipeline.core.redact import SECRET_NAME
from pipeline.core.schema import Config
from pipeline.core.values import parse as parse_value
from pipeline.engines import catalogue

if TYPE_CHECKING:  # the keeper needs no trees, and starts with every trial
    from omegaconf import DictConfig

PURPOSES = ("measuring", "development")  # of the engine's variables and flags that are not handed over
PHASES = ("search", "confirm", "held_out")
BESIDE = (
    "dry_run",
    "reason",
    "repeat_of",
    "phase",
    "rounds",
    "cache",
    "cache_dir",
)  # keys of the root that say nothing of how a trial is configured


def parse(tree: "DictConfig") -> Config:
    """The frozen Config of a composed tree.

    Raises:
        ConfigError: an unknown key, a wrong kind, a value outside a knob's choices or range.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        data: dict[str, Any] = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} has no value: add {error.full_key}=... to the command.") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key} does not resolve: {str(error).splitlines()[0]}.") from error
    _check_origin(data.get("repeat_of"), data.get("phase", PHASES[0]), data.get("rounds"))
    if data.get("cache") not in (None, "read"):
        raise ConfigError(f"cache={data['cache']}: expected read, or null for none.")
    for other in ("hydra", *BESIDE):
        data.pop(other, None)
    runtime = data.get("runtime")
    names = {}
    if isinstance(runtime, dict):
        names = runtime.get("knobs", {})
        _take_words(runtime)
        _spell(runtime)
    settings = {name: data.pop(name, None) for name in names}
    objective = data.get("objective")
    data["objective"] = (objective,) if isinstance(objective, str) else objective
    try:
        config = parse_value(Config, {**data, "knobs": settings})
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error
    if config.runtime.version is None and (known := catalogue.versions(config.runtime.name)):
        raise ConfigError(f"Set runtime.version, e.g. {known[-1]}: it is missing, and flags differ between versions.")
    for name, setting in settings.items():
        check_setting(name, config.runtime, setting)
    _refuse_secrets(config)
    _check_location(config)
    _check_model(config)
    return config


def _check_origin(repeat_of: object, phase: object, rounds: object) -> None:
    """Accept what the sweeper `tuner` says of a trial beside its configuration."""
    if phase not in PHASES:
        raise ConfigError(f"phase={phase}: expected one of {', '.join(PHASES)}.")
    if repeat_of is not None and (type(repeat_of) is not int or repeat_of < 0):
        raise ConfigError(f"repeat_of={repeat_of}: expected the number of a trial, or null.")
    if rounds is not None and (type(rounds) is not int or rounds < 1):
        raise ConfigError(f"rounds={rounds}: expected a number of rounds, or null.")


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


def _check_model(config: Config) -> None:
    """Accept a model that can be found; in a cluster, its storage may be all that is known of it."""
    model = config.model
    if not (model.path or model.package or model.repo or config.backend.kubernetes):
        raise ConfigError("model.path has no value: add model.path=... to the command.")


def _words(given: object) -> object:
    """[--page-size,64] holds a number; a command line holds words."""
    return [str(word) for word in given] if isinstance(given, list) else given


def _refuse_secrets(config: Config) -> None:
    runtime = config.runtime
    sections = {"env": runtime.env, "measuring.env": runtime.measuring.env, "development.env": runtime.development.env}
    for section, name in ((section, name) for section, env in sections.items() for name in env):
        if SECRET_NAME.search(name):
            raise ConfigError(
                f"Set {name} in the environment instead of runtime.{section}.{name}: it looks like a secret, and the "
                f"configuration is written to disk. The engine inherits the environment."
            )


def _explain(error: ValidationError) -> str:
    lines = []
    found = error.errors(include_url=False)
    around = {item["loc"][:-1] for item in found}  # pydantic calls a list with a bad item too short as well
    for item in found:
        if item["type"] == "too_short" and item["loc"] in around:
            continue
        loc = [str(part) for part in item["loc"]]
        kind, given = item["type"], item["input"]
        if loc[0] == "knobs" and len(loc) > 1:  # one error for each kind that a knob may have
            loc, kind = [loc[1]], "one_value"
        words = _WORDS.get(kind, item["msg"]).format_map(item.get("ctx", {}))
        if kind == "string_pattern_mismatch":
            words = _SPELLINGS.get(loc[0], words)
        seen = "" if kind in {"missing", "unexpected_keyword_argument"} else f", got {given!r}"
        if kind == "string_type" and isinstance(given, bool | int | float):
            seen += f"; quote it, so that it stays text: {'.'.join(loc)}=\"'{str(given).lower()}'\""
        lines.append(f"{'.'.join(loc)}: {words}{seen}")
    return "; ".join(dict.fromkeys(lines)) + "."


# pydantic's error types in our words
_WORDS = {
    "missing": "is missing",
    "unexpected_keyword_argument": "unknown key",
    "one_value": "expected one value",
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
    "less_than_equal": "expected at most {le:g}",
    "literal_error": "expected {expected}",
}
_SPELLINGS = {
    "traffic": "expected D(in,out), N(mean,sd)/(mean,sd) or U(min,max)/(min,max)",
    "backend": "expected pipeline.backends.<module>.<Class>",
    "tracker": "expected pipeline.trackers.<module>.<Class>",
}
