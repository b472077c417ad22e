"""Numbers, scenarios and addresses with which nothing could run, though each is of the right kind. Pure."""

import ipaddress
import math
import re
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import Any

from pipeline.config import open_loop, own_traffic
from pipeline.core import scenario
from pipeline.core.errors import ConfigError
from pipeline.core.limits import LARGEST, LONGEST_S
from pipeline.core.schema import Config
from pipeline.core.schema_traffic import Traffic
from pipeline.core.values import switches

OURS = {  # placeholders of an engine's command line that trials cannot set by themselves
    "{port}": "each trial is given a free port",
    "{host}": "set backend.host",
}


def check(data: object, name: str = "") -> None:
    """Refuse numbers that no engine, timer or database can hold.

    Raises:
        ConfigError: with the key and its range.
    """
    for key, number in _numbers(data, name):
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigError(f"{key}: expected a finite number, got {number}.")
        if isinstance(number, int) and abs(number) > LARGEST:
            raise ConfigError(f"{key}: expected an integer of at most {LARGEST} (64 bits), got {number}.")
        if key.endswith("_s") and number > LONGEST_S:
            raise ConfigError(f"{key}: expected at most {LONGEST_S:.0f} seconds, got {number:g}.")


def check_switches(data: object, config: Config) -> None:
    """Refuse true and false where a number belongs.

    Raises:
        ConfigError: with the first key.
    """
    if told := next(switches(data, config), None):
        raise ConfigError(f"{told}.")


def _numbers(data: object, name: str) -> Iterator[tuple[str, int | float]]:
    if isinstance(data, dict):
        for key, below in data.items():
            yield from _numbers(below, f"{name}.{key}" if name else str(key))
    elif isinstance(data, list):
        for number, below in enumerate(data):
            yield from _numbers(below, f"{name}.{number}")
    elif isinstance(data, int | float) and not isinstance(data, bool):
        yield name, data


def check_traffic(traffic: Traffic) -> None:
    """Refuse scenarios of which no request can be drawn, and levels that would be measured in one folder.

    Raises:
        ConfigError: naming the scenario or the number of users.
    """
    own_traffic.check(traffic)
    open_loop.check(traffic)
    for one in traffic.scenarios if not traffic.is_own else ():
        if fault := scenario.fault(one):
            raise ConfigError(f"traffic.scenarios: {one}: {fault}.")
    for one, other in combinations(traffic.scenarios, 2):
        if scenario.same(one, other):
            raise ConfigError(f"traffic.scenarios: {other} is there twice; set traffic.min_requests for longer levels.")
    if twice := _twice(traffic.concurrencies):
        raise ConfigError(f"traffic.concurrencies: {twice} is there twice; each level is measured once.")


def check_paths(config: Config) -> None:
    """Refuse paths at which nothing can be asked or found, and two answers to where the model is.

    Raises:
        ConfigError: with what to set instead.
    """
    runtime, model = config.runtime, config.model
    asked = {
        "health.path": runtime.health.path,
        "settings_path": runtime.settings_path,
        "tells.version_path": runtime.tells.version_path,
        "tells.metrics_path": runtime.tells.metrics_path,
    }
    for key, path in asked.items():
        if path is not None and not path.startswith("/"):
            raise ConfigError(f"runtime.{key}={path}: expected a path of the server's, which begins with /.")
    if model.package and model.repo and model.path is None:
        raise ConfigError(
            f"model.repo={model.repo}: model={model.name} is served from the package {model.package}. Add "
            f"model.package=null, or choose another option of model."
        )


def _twice(numbers: Sequence[int]) -> int | None:
    return next((one for one in numbers if numbers.count(one) > 1), None)


def check_address(config: Config) -> None:
    """Refuse addresses that this pipeline cannot serve on; whether this machine has one, `trial/checks.py` looks.

    Raises:
        ConfigError: with what to set instead.
    """
    host = config.backend.host
    bare = host.strip("[]")
    if not host:
        raise ConfigError("backend.host is empty: set it to an address of this machine, e.g. 127.0.0.1.")
    if _is_ipv6(bare):
        raise ConfigError(f"backend.host={host}: IPv6 is not supported; use 127.0.0.1, or another IPv4 address.")
    if re.fullmatch(r"[^:/]+:\d*", host):
        raise ConfigError(f"backend.host={host}: leave the port out: each trial is given a free one.")
    if not re.fullmatch(r"[A-Za-z0-9]([\w.-]*\w)?\.?", host):
        raise ConfigError(f"backend.host={host}: expected an IPv4 address or a name, e.g. 127.0.0.1.")
    _check_words(config)


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).version == 6
    except ValueError:
        return False


def _check_words(config: Config) -> None:
    """Refuse a port or a host for the engine that is not the one at which it is looked for."""
    command: Sequence[Any] = config.runtime.command
    for flag, word in pairwise(command):
        given = next((one for one in config.runtime.extra_args if one == flag or one.startswith(f"{flag}=")), None)
        if word in OURS and given and flag.startswith("-"):
            raise ConfigError(f"runtime.extra_args: leave {flag} out: {OURS[word]}.")
