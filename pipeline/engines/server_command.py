"""The server's command line: `runtime.command` filled in, and a flag for every knob that is set. Pure."""

import sys
from collections.abc import Mapping
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.core.plan import Assets
from pipeline.core.schema import Config, Knob
from pipeline.core.values import Scalar
from pipeline.engines import knob_json, purpose

INSIDE = "0.0.0.0"  # noqa: S104 - a container's own address; the port is published on backend.host


def argv(config: Config, assets: Assets, run_dir: Path, *, host: str | None = None) -> tuple[str, ...]:
    """The server's command line; {port} is filled in later. `host`: where it listens, if not where the backend says.

    Raises:
        ConfigError: an unknown placeholder in `runtime.command`.
    """
    words = _places(config, assets, run_dir, host)
    parts = (*config.runtime.command, *purpose.extras(config).args)
    command = tuple(_filled(part, "command", words) for part in parts)
    return (*command, *flags(config), *config.runtime.extra_args)


def filled(text: str, config: Config, assets: Assets, run_dir: Path, *, host: str | None = None) -> str:
    """A variable or flag with its places filled in, as those of the command line are; one with others stays as it is.

    `host`: as for `argv`.
    """
    try:
        return text.format_map(_places(config, assets, run_dir, host))
    except (KeyError, ValueError, IndexError):
        return text


def request_name(config: Config, assets: Assets, run_dir: Path) -> str:
    """What requests call the model: its served name, or its path for an engine that answers to nothing else.

    Raises:
        ConfigError: an unknown placeholder in `runtime.request_name`.
    """
    return _filled(config.runtime.request_name, "request_name", _places(config, assets, run_dir))


def _places(config: Config, assets: Assets, run_dir: Path, host: str | None = None) -> dict[str, str]:
    inside, box = config.backend.container or config.backend.kubernetes, config.backend.container
    is_published = inside is not None and not (box and box.network == "host")
    return {
        "python": inside.python if inside else str(config.runtime.python or sys.executable),
        "model": str(assets.model_path),
        "served_name": config.model.served_name,
        "host": host or (INSIDE if is_published else config.backend.host),
        "port": "{port}",
        "run_dir": str(run_dir),
    }


def _filled(text: str, key: str, words: Mapping[str, str]) -> str:
    try:
        return text.format_map(words)
    except (KeyError, ValueError, IndexError) as error:
        known = ", ".join(f"{{{word}}}" for word in words)
        raise ConfigError(f"runtime.{key}: unknown placeholder {error}; expected {known}.") from error


def flags(config: Config) -> tuple[str, ...]:
    """The flags of every knob that is set, in the order of the runtime's file; a flag's JSON once, where it begins."""
    runtime = config.runtime
    asked = {name: setting for name in runtime.knobs if (setting := config.knobs.get(name)) is not None}
    words: dict[str, tuple[str, ...]] = {}
    for name, setting in asked.items():
        knob = runtime.knobs[name]
        if knob.kind == "json" or knob.key is not None:
            flag = knob.spelled(runtime.version)
            words.setdefault(flag, (flag, knob_json.of_flag(flag, config)))
        elif knob.has_flag:
            words[name] = _words(knob, setting, runtime.version)
    return tuple(word for some in words.values() for word in some)


def _words(knob: Knob, setting: Scalar, version: str | None) -> tuple[str, ...]:
    if knob.kind == "bool":
        flag = knob.spelled(version) if setting else knob.false_flag
        return (flag,) if flag else ()
    if knob.kind == "list":
        return (knob.spelled(version), *map(str, knob_json.loaded(setting)))
    return (knob.spelled(version), str(setting))
