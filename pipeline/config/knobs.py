"""What a knob may be set to: its kind, choices and range, and what the configured version of the engine takes."""

from pipeline.core.errors import ConfigError
from pipeline.core.schema import Knob, Runtime, is_of
from pipeline.engines import catalogue


def check_setting(name: str, runtime: Runtime, setting: object) -> None:
    """Accept None or a value that the configured engine version allows for the knob `name`.

    Raises:
        ConfigError: naming the knob, what was given and what is allowed.
    """
    if setting is None:
        return
    check_knob(name, runtime.knobs[name], setting)
    if catalogue.versions(runtime.name):
        _check_version(name, runtime, str(setting))


def check_knob(name: str, knob: Knob, setting: object) -> None:
    """Accept None or a value of the knob's type, among its choices and inside its range.

    Raises:
        ConfigError: naming the knob, what was given and what is allowed.
    """
    if setting is None or _fits(knob, setting):
        return
    raise ConfigError(f"{name}={setting}: expected {allowed(knob)} or null ({knob.help}).")


def _check_version(name: str, runtime: Runtime, setting: str) -> None:
    knob, engine = runtime.knobs[name], f"{runtime.name} {runtime.version}"
    flag = catalogue.load(runtime.name, str(runtime.version)).find(knob.spelled(runtime.version))
    if flag is None or not is_of(knob.versions, runtime.version):
        have = [v for v in catalogue.versions(runtime.name) if is_of(knob.versions, v)]
        raise ConfigError(
            f"{name}={setting}: {engine} does not have this flag (versions that have it: {', '.join(have)}). "
            f"Leave it null, or set runtime.version to the version that you run."
        )
    if knob.kind == "choice" and flag.choices and setting not in flag.choices:
        there = [choice for choice in knob.choices if choice in flag.choices]
        raise ConfigError(f"{name}={setting}: {engine} does not accept this; expected one of {', '.join(there)}.")


def allowed(knob: Knob) -> str:
    """The knob's allowed values as text, e.g. `an integer, 1 or more (threads)`."""
    if knob.kind == "choice":
        return "one of " + ", ".join(knob.choices)
    words = {"int": "an integer", "float": "a number", "bool": "true or false", "text": "a string"}[knob.kind]
    bounds = [f"{knob.minimum:g} or more" if knob.minimum is not None else ""]
    bounds.append(f"at most {knob.maximum:g}" if knob.maximum is not None else "")
    unit = f" ({knob.unit})" if knob.unit else ""
    return ", ".join([words, *filter(None, bounds)]) + unit


def _fits(knob: Knob, setting: object) -> bool:
    if knob.kind == "bool":
        return isinstance(setting, bool)
    if knob.kind == "choice":
        return str(setting) in knob.choices and not isinstance(setting, bool)
    if knob.kind == "text":
        return isinstance(setting, str)
    kinds = (int,) if knob.kind == "int" else (int, float)
    if not isinstance(setting, kinds) or isinstance(setting, bool):
        return False
    low = knob.minimum is None or setting >= knob.minimum
    return low and (knob.maximum is None or setting <= knob.maximum)
