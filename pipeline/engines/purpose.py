"""What an engine gets for being measured only: in a trial, and never in what is handed over. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

from pipeline.core.schema import Config
from pipeline.core.schema_engine import Extras
from pipeline.engines import knob_json

# Known to open paths without a key, wherever they come from: runtime.env of a user, or of a record that is older than
# `development`. Source: vLLM 0.32.0, entrypoints/launchers/api_server/routers.py:40.
NEVER_HANDED_OVER = frozenset({"VLLM_SERVER_DEV_MODE"})
MEASURED = "set while measuring only"
DEVELOPMENT = "set while measuring only: it opens paths that no API key guards"


def extras(config: Config) -> Extras:
    """What the engine gets beside `runtime.env` and `runtime.extra_args` in this trial."""
    measuring, development = config.runtime.measuring, config.runtime.development
    if not is_private(config):
        return measuring
    return Extras(env={**measuring.env, **development.env}, args=(*measuring.args, *development.args))


def environment(config: Config) -> dict[str, str]:
    """The engine's variables in this trial, without secrets; those of `runtime.env` and of knobs win."""
    return {**extras(config).env, **config.runtime.env, **knob_json.variables(config)}


def is_private(config: Config) -> bool:
    """Whether only this machine reaches the engine's port: development endpoints may be open there."""
    return not config.backend.is_elsewhere and is_loopback(config.backend.host)


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine only."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def handed_over(config: Config) -> Config:
    """The configuration as it is handed over: without what is for measuring only."""
    runtime = config.runtime
    asked = {**runtime.env, **knob_json.variables(config)}
    kept = {name: text for name, text in asked.items() if name not in _opening(config)}
    return replace(config, runtime=replace(runtime, env=kept, measuring=Extras(), development=Extras()))


def withheld(config: Config) -> Iterator[tuple[str, str]]:
    """Each variable and flag that was set while measuring and is not handed over, with the reason."""
    opening, used = _opening(config), environment(config)
    asked = {**config.runtime.env, **knob_json.variables(config)}
    names = [name for name in used if name in opening or name not in asked]
    yield from ((f"{name}={used[name]}", DEVELOPMENT if name in opening else MEASURED) for name in names)
    if config.runtime.measuring.args:
        yield " ".join(config.runtime.measuring.args), MEASURED
    if config.runtime.development.args and is_private(config):
        yield " ".join(config.runtime.development.args), DEVELOPMENT


def _opening(config: Config) -> frozenset[str]:
    return NEVER_HANDED_OVER | frozenset(config.runtime.development.env)
