"""What a knob may be set to: its kind, choices and range, and what the configured version of the engine takes."""

import math

from pipeline.core.errors import ConfigError
from pipeline.core.limits import LARGEST
from pipeline.core.schema import Knob, Runtime, is_of
from pipeline.core.words import listed, meant
from pipeline.engines import catalogue
from pipeline.engines.knob_json import loaded, variable

INT32 = 2**31 - 1  # a maximum that is the machine's, and told to those who exceed it
MANY = 8  # versions
LISTS = "servetune knobs RUNTIME"
WORDS = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "text": "a string",
    "list": "a list",
    "json": "keys and values",
    "env": "a word or a number",
}
HOW = {  # to write what a shell and Hydra's own reader leave alone
    "list": " Write '{name}=[1,2,4]'.",
    "json": " Write one key as {name}.key=value, several as '{name}={{key:value,other:value}}', "
    """or a text with both kinds of marks: '{name}="{{\\"key\\": \\"value\\"}}"'.""",
}
NOTHING = ("None", "none", "nil", "NULL")  # what null is elsewhere


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
    most = int(knob.maximum) if knob.maximum is not None and knob.maximum >= INT32 else LARGEST
    if type(setting) is int and abs(setting) > most:
        raise ConfigError(f"{name}={setting}: expected an integer of at most {most}, or null ({knob.help}).")
    if setting is None or _fits(knob, setting):
        return
    close = " Did you mean null?" if setting in NOTHING else meant(setting, knob.choices)
    how = HOW[knob.kind].format(name=name) if knob.kind in HOW else ""
    raise ConfigError(
        f"{name}={_typed(setting)}: expected {_expected(knob, setting)} or null ({knob.help}).{close}{how}"
    )


def _typed(setting: object) -> object:
    """As it is written on a command line."""
    return str(setting).lower() if isinstance(setting, bool) else setting


def _check_version(name: str, runtime: Runtime, setting: str) -> None:
    knob, engine = runtime.knobs[name], f"{runtime.name} {runtime.version}"
    if knob.env and is_of(knob.versions, runtime.version):
        return
    flag = catalogue.load(runtime.name, str(runtime.version)).find(knob.spelled(runtime.version))
    if flag is None or not is_of(knob.versions, runtime.version):
        have = [v for v in catalogue.versions(runtime.name) if is_of(knob.versions, v)]
        what = "variable" if knob.env else "flag"
        there = ", ".join(have) if len(have) < MANY else f"{have[0]} ... {have[-1]}, {len(have)} of those known"
        raise ConfigError(
            f"{name}={setting}: {engine} does not have this {what} (versions that have it: {there}). "
            f"Leave it null, or set runtime.version to the version that you run."
        )
    if knob.kind == "choice" and flag.choices and setting not in flag.choices:
        taken = [choice for choice in knob.choices if choice in flag.choices]
        told = f"expected one of {listed(setting, taken, by=LISTS)}.{meant(setting, taken)}"
        raise ConfigError(f"{name}={setting}: {engine} does not accept this; {told}")


def _expected(knob: Knob, setting: object) -> str:
    """The same for a sentence: of many choices those that are most like what was given."""
    return f"one of {listed(setting, knob.choices, by=LISTS)}" if knob.choices else allowed(knob)


def allowed(knob: Knob) -> str:
    """The knob's allowed values as text, e.g. `an integer, 1 or more (threads)`."""
    if knob.choices:
        return "one of " + ", ".join(knob.choices)
    words = WORDS[knob.kind]
    bounds = [f"{knob.minimum:g} or more" if knob.minimum is not None else ""]
    bounds.append(f"at most {knob.maximum:g}" if knob.maximum is not None and knob.maximum < INT32 else "")
    unit = f" ({knob.unit})" if knob.unit else ""
    return ", ".join([words, *filter(None, bounds)]) + unit


def _fits(knob: Knob, setting: object) -> bool:
    if knob.kind == "env":
        return _fits_variable(knob, setting)
    if knob.kind in {"list", "json"}:
        return isinstance(setting, str) and isinstance(loaded(setting), list if knob.kind == "list" else dict)
    if knob.kind == "bool":
        return isinstance(setting, bool)
    if knob.kind == "choice":
        return str(setting) in knob.choices and not isinstance(setting, bool)
    if knob.kind == "text":
        return isinstance(setting, str)
    return _is_inside(knob, setting, is_whole=knob.kind == "int")


def _fits_variable(knob: Knob, setting: object) -> bool:
    """Whether a variable may be set to it: to a choice, to a number where there is a range, else to any word."""
    if not isinstance(setting, int | float | str) or setting == "" or "\n" in str(setting):
        return False
    if knob.choices:
        return variable(setting) in knob.choices
    is_number = knob.minimum is not None or knob.maximum is not None
    return not is_number or _is_inside(knob, setting)


def _is_inside(knob: Knob, setting: object, *, is_whole: bool = False) -> bool:
    if not isinstance(setting, int if is_whole else int | float) or isinstance(setting, bool):
        return False
    if not math.isfinite(setting):
        return False
    low = knob.minimum is None or setting >= knob.minimum
    return low and (knob.maximum is None or setting <= knob.maximum)
