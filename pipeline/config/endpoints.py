"""What `backend=endpoint` may be set to: a URL up to its /v1, the name of a key's variable, no knobs. Pure."""

import re
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pipeline.core.errors import ConfigError
from pipeline.core.redact import SECRET_NAME
from pipeline.core.schema import Config

URL = "backend.url"
TARGET = "pipeline.backends.endpoint.Endpoint"
OWN = ("served_name", "api_key_env", "ca_file")  # keys that mean something with a URL only
POSSIBLE = "What can be swept: backend.url=URL,URL, backend.served_name, traffic, slo"
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"


def normalise(data: dict[str, Any]) -> None:
    """Write the URL as it is used, so that one server has one spelling: without a slash at its end, and without /v1.

    Raises:
        ConfigError: it is no URL of a server, or holds what must not be written down.
    """
    backend = data.get("backend")
    if not isinstance(backend, dict) or (url := backend.get("url")) is None:
        return
    if isinstance(url, list):
        example = ",".join(map(str, url)) or "URL,URL"
        raise ConfigError(f"backend.url: expected one URL; to sweep over several, add -m and write {URL}={example}.")
    if isinstance(url, str):
        backend["url"] = base(url)


def check(config: Config) -> None:
    """Refuse what no server that is there already can be told.

    Raises:
        ConfigError: with what is possible.
    """
    backend = config.backend
    if not backend.is_endpoint:
        _check_others(config)
        return
    if backend.target != TARGET:
        raise ConfigError(f"{URL}={backend.url} goes with backend=endpoint; backend={backend.name} starts a server.")
    _check_key(backend.api_key_env)
    for name, setting in config.knobs.items():
        if setting is not None:
            raise ConfigError(why_not(name))
    if config.runtime.extra_args:
        raise ConfigError(f"runtime.extra_args: backend=endpoint starts no engine that could take them. {POSSIBLE}.")


def why_not(name: str) -> str:
    """Why a knob cannot be set."""
    return (
        f"{name}: backend=endpoint measures a server that is there already, so knobs of its engine cannot be set. "
        f"{POSSIBLE}. To tune the engine, let servetune start it: backend=local, docker or ome."
    )


def check_launcher(config: Config, *, is_elsewhere: bool) -> None:
    """Refuse to send trials to other machines, which would reach the server from there, and disturb each other.

    Raises:
        ConfigError: with what is possible.
    """
    if config.backend.is_endpoint and is_elsewhere:
        raise ConfigError(
            "backend=endpoint measures from this machine, one trial at a time: leave hydra/launcher out. To measure "
            "from a node of the cluster, run servetune there, e.g. with srun."
        )


def _check_others(config: Config) -> None:
    """Of the backends that start a server, and of the one that lacks its URL."""
    if config.backend.target == TARGET:
        raise ConfigError(f"{URL} has no value: add {URL}=http://HOST:PORT, where a server runs already.")
    if given := next((name for name in OWN if getattr(config.backend, name) is not None), None):
        raise ConfigError(f"backend.{given} goes with backend=endpoint; backend={config.backend.name} starts a server.")
    if not config.runtime.command:
        raise ConfigError(
            f"runtime={config.runtime.name} has no command to start a server: set backend=endpoint and backend.url to "
            f"one that is there, or choose another runtime."
        )


def _check_key(name: str | None) -> None:
    """Accept a variable's name by which its value is hidden everywhere. What was given may be the key: it is not shown.

    Source: pipeline/core/redact.py.
    """
    if name is None:
        return
    if not re.fullmatch(VARIABLE, name):
        raise ConfigError(
            "backend.api_key_env: expected the name of an environment variable, e.g. SERVETUNE_API_KEY. The key itself "
            "is never part of a command: it would be written to disk."
        )
    if not SECRET_NAME.search(name):
        raise ConfigError(
            "backend.api_key_env: expected a variable whose name has KEY, TOKEN, SECRET or PASSWORD in it: the values "
            "of those are kept out of every log and upload."
        )


def base(url: str) -> str:
    """A server's URL up to /v1.

    Raises:
        ConfigError: it is no URL of a server, or holds what must not be written down.
    """
    there = _split(url)
    path = there.path.rstrip("/")
    for end in ("/chat/completions", "/completions", "/models"):
        path = path.removesuffix(f"/v1{end}") if path.endswith(f"/v1{end}") else path
    return f"{there.scheme}://{there.netloc}{path.removesuffix('/v1').rstrip('/')}"


def _split(url: str) -> SplitResult:
    example = f"expected http:// or https://, a host and perhaps a port and a path, e.g. {URL}=http://localhost:8000"
    try:
        there = urlsplit(url.strip())
        port = there.port
    except ValueError as error:
        raise ConfigError(f"{URL}: {example}; {error}.") from error
    if there.username is not None or there.password is not None or there.query or there.fragment:
        raise ConfigError(
            f"{URL}: leave user, password, ? and # out of the URL: it is written to disk. A key comes from the "
            f"environment: export SERVETUNE_API_KEY=..., or another variable by backend.api_key_env."
        )
    if there.scheme not in {"http", "https"} or not there.hostname or port == 0 or re.search(r"\s", url.strip()):
        raise ConfigError(f"{URL}={url}: {example}.")
    return there
