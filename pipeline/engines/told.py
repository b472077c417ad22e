"""What a running engine tells of itself: its resolved settings and its version. An answer or none, never an error."""

import os
from collections.abc import Mapping
from typing import Any

import requests

from pipeline.core.redact import SECRET_NAME, Secrets
from pipeline.core.schema_engine import Tells
from pipeline.core.values import value
from pipeline.engines.http import QUICK_S, session

# The first answer of vLLM's development mode runs collect_env: 2 to 11 s on two CPU cores, longer on a busy host
PATIENCE_S = 60.0
# Long, or the whole environment of the process (vLLM's development mode tells it)
_LEFT_OUT = ("chat_template", "ui_settings", "model_info", "vllm_env", "system_env")


@value
class Told:
    """An engine's settings without bulky parts and secrets; or None, and why there are none."""

    settings: Mapping[str, Any] | None
    why: str = ""


def settings(url: str, path: str, *, timeout_s: float = PATIENCE_S) -> Told:
    """What the engine says of its resolved settings."""
    try:
        found = _json(url, path, timeout_s)
    except requests.HTTPError as error:
        return Told(settings=None, why=f"{path} answered HTTP {error.response.status_code}")
    except requests.Timeout:
        return Told(settings=None, why=f"{path} did not answer within {timeout_s:g} s")
    except requests.JSONDecodeError:
        return Told(settings=None, why=f"{path} did not answer with JSON")
    except requests.RequestException as error:
        return Told(settings=None, why=f"{path}: {type(error).__name__}")
    if not isinstance(found, dict):
        return Told(settings=None, why=f"{path} answered with something else than settings")
    return Told(settings=_without_secrets(found))


def version(url: str, tells: Tells) -> str | None:
    """The engine's version by its own word; None where it does not say.

    Source: vllm 0.32.0 entrypoints/serve/instrumentator/basic.py:53, sglang 0.5.23 `version` of /server_info,
    llama.cpp `build_info` of /props.
    """
    if tells.version_path is None:
        return None
    try:
        found = _json(url, tells.version_path, QUICK_S)
    except requests.RequestException:
        return None
    said = found.get(tells.version_field) if isinstance(found, dict) else None
    return said if isinstance(said, str) and said else None


def _json(url: str, path: str, timeout_s: float) -> Any:
    with session() as http:
        answer = http.get(f"{url}{path}", timeout=timeout_s)
    answer.raise_for_status()
    return answer.json()


def _without_secrets(told: Mapping[str, Any]) -> dict[str, Any]:
    """SGLang tells its keys among its settings."""
    kept = {name: item for name, item in told.items() if name not in _LEFT_OUT and not _is_secret(name, item)}
    hidden: dict[str, Any] = Secrets(os.environ).hide(kept)
    return {name: _without_secrets(item) if isinstance(item, dict) else item for name, item in hidden.items()}


def _is_secret(name: str, item: object) -> bool:
    return isinstance(item, str) and SECRET_NAME.search(name) is not None
