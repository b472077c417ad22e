"""From Hydra's tree to one frozen Config; every kind, choice and range is checked here, before anything starts."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from pipeline.errors import ConfigError
from pipeline.redact import SECRET_NAME
from pipeline.values import parse as parse_value
from pipeline.values import value

if TYPE_CHECKING:  # the keeper needs no trees, and starts with every trial
    from omegaconf import DictConfig

Scalar = int | float | bool | str
# genai-bench 0.0.5, scenarios/text.py
SCENARIO = r"^(D\(\d+,\d+\)|N\(\d+,\d+\)/\(\d+,\d+\)|U\(\d+,\d+\)(/\(\d+,\d+\))?)$"


@value
class Knob:
    """One tunable engine parameter: what values it takes and how the engine spells it."""

    kind: Literal["int", "float", "bool", "choice"]
    flag: str
    help: str
    unit: str | None = None
    false_flag: str | None = None  # bool knobs: the flag that says no; without one, `flag` is given a value
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


@value
class Health:
    """How to tell that the server is ready."""

    path: str
    timeout_s: float = Field(gt=0)
    interval_s: float = Field(gt=0)


@value
class Runtime:
    """A serving engine. `command` is filled in with {python} {model} {served_name} {host} {port} {run_dir}."""

    name: str
    command: tuple[str, ...]
    extra_args: tuple[str, ...] = ()
    needs_modules: tuple[str, ...] = ()  # Python modules the command imports, checked before deploying
    env: Mapping[str, str] = Field(default_factory=dict)
    secret_env: Mapping[str, str] = Field(default_factory=dict)  # the engine's variable: ours, read at deploy time
    knobs: Mapping[str, Knob]
    api_backend: Literal["openai", "vllm", "sglang"]  # genai-bench's word; vllm and sglang send ignore_eos
    server_engine: str  # genai-bench's --server-engine
    health: Health
    settings_path: str | None = None  # where the engine tells its resolved settings
    cache_reset: Literal["none", "llamacpp_slots"]
    stop_grace_s: float = Field(ge=0)


@value
class Model:
    """What is served: a file (`path`) or a model that a Python package carries (`package`)."""

    name: str
    path: Path | None = None
    package: str | None = None
    served_name: str
    license: str | None = None


@value
class Backend:
    """Where the server lives. `target` names a class with the four methods of backends.Backend."""

    name: str
    target: str = Field(pattern=r"^pipeline\.backends\.\w+\.\w+$")
    host: str = "127.0.0.1"
    keeper: bool = True


@value
class Traffic:
    """The load: scenarios times concurrencies. A level sends max(min_requests, requests_per_user * concurrency)."""

    name: str
    scenarios: tuple[Annotated[str, Field(pattern=SCENARIO)], ...] = Field(min_length=1)
    concurrencies: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=1)
    min_requests: int = Field(gt=0)
    requests_per_user: int = Field(gt=0)
    max_time_per_level_s: float = Field(gt=0)
    warmup_requests: int = Field(ge=0)
    seed: int = Field(ge=0)
    all_levels: bool = False  # False: a level that is overloaded by a wide margin ends its ladder


@value
class Hardware:
    """What the server runs on. `gpu_type` is genai-bench's closed list or null."""

    name: str
    gpu_count: int = Field(ge=0)
    gpu_type: str | None = None


@value
class Slo:
    """Limits per request (seconds), the share of requests that must meet them, and limits on level metrics."""

    name: str
    ttft_s: float | None = Field(default=None, gt=0)
    tpot_s: float | None = Field(default=None, gt=0)
    e2e_s: float | None = Field(default=None, gt=0)
    attainment: float = Field(gt=0, le=1)
    max_error_rate: float = Field(ge=0, le=1)  # a level with more failed requests is not usable, SLO or not
    limits: Mapping[str, float] = Field(default_factory=dict)  # e.g. {ttft_p95_s: 2.0}: at most

    @property
    def is_set(self) -> bool:
        """Whether any limit is given."""
        return any((self.ttft_s, self.tpot_s, self.e2e_s, self.limits))


@value
class Tracker:
    """Where records are published after teardown."""

    name: str
    target: str = Field(pattern=r"^pipeline\.trackers\.\w+\.\w+$")
    project: str | None = None
    entity: str | None = None
    mode: Literal["auto", "offline", "online"] = "auto"
    timeout_s: float = Field(gt=0)


@value
class Bench:
    """How genai-bench is called."""

    runner: Literal["resident", "cli"]
    program: Path | None = None  # for runner=cli: another genai-bench than this environment's
    start_timeout_s: float = Field(gt=0)
    level_grace_s: float = Field(gt=0)  # beyond traffic.max_time_per_level_s, for start and results


@value
class Timeouts:
    """Deadlines of the steps that have none of their own, in seconds."""

    preflight_s: float = Field(gt=0)
    deploy_s: float = Field(gt=0)
    warmup_s: float = Field(gt=0)
    teardown_s: float = Field(gt=0)


@value
class Config:
    """One trial's whole configuration. `knobs` holds every knob of the runtime; None leaves the flag out."""

    runtime: Runtime
    model: Model
    backend: Backend
    traffic: Traffic
    hardware: Hardware
    slo: Slo
    tracker: Tracker
    bench: Bench
    timeouts: Timeouts
    objective: tuple[str, ...] = Field(min_length=1)
    knobs: Mapping[str, Scalar | None]

    @property
    def is_baseline(self) -> bool:
        """Whether every knob is left to the engine."""
        return all(setting is None for setting in self.knobs.values())


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
        raise ConfigError(f"{error.full_key} has no value here: add {error.full_key}=... to the command.") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key} does not resolve: {str(error).splitlines()[0]}.") from error
    data.pop("hydra", None)
    runtime = data.get("runtime")
    names = runtime.get("knobs", {}) if isinstance(runtime, dict) else {}
    settings = {name: data.pop(name, None) for name in names}
    objective = data.get("objective")
    data["objective"] = (objective,) if isinstance(objective, str) else objective
    try:
        config = parse_value(Config, {**data, "knobs": settings})
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error
    for name, setting in settings.items():
        check_knob(name, config.runtime.knobs[name], setting)
    _refuse_secrets(config.runtime.env)
    return config


def _refuse_secrets(env: Mapping[str, str]) -> None:
    for name in env:
        if SECRET_NAME.search(name):
            raise ConfigError(
                f"runtime.env.{name} looks like a secret, and the configuration is written to disk. Set {name} in the "
                f"environment instead: the engine inherits it."
            )


def check_knob(name: str, knob: Knob, setting: object) -> None:
    """Accept None or a value of the knob's kind, among its choices, inside its range.

    Raises:
        ConfigError: naming the knob, what was given and what is allowed.
    """
    if setting is None or _fits(knob, setting):
        return
    raise ConfigError(f"{name}={setting}: expected {allowed(knob)} or null ({knob.help}).")


def allowed(knob: Knob) -> str:
    """The knob's allowed values in words, e.g. `an integer, 1 or more (threads)`."""
    if knob.kind == "choice":
        return "one of " + ", ".join(knob.choices)
    words = {"int": "an integer", "float": "a number", "bool": "true or false"}[knob.kind]
    bounds = [f"{knob.minimum:g} or more" if knob.minimum is not None else ""]
    bounds.append(f"at most {knob.maximum:g}" if knob.maximum is not None else "")
    unit = f" ({knob.unit})" if knob.unit else ""
    return ", ".join([words, *filter(None, bounds)]) + unit


def _fits(knob: Knob, setting: object) -> bool:
    if knob.kind == "bool":
        return isinstance(setting, bool)
    if knob.kind == "choice":
        return str(setting) in knob.choices and not isinstance(setting, bool)
    kinds = (int,) if knob.kind == "int" else (int, float)
    if not isinstance(setting, kinds) or isinstance(setting, bool):
        return False
    low = knob.minimum is None or setting >= knob.minimum
    return low and (knob.maximum is None or setting <= knob.maximum)


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
    "string_type": "expected a text",
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
