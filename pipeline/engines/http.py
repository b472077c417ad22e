"""HTTP requests to a running engine: readiness, settings, one completion."""

import os
import secrets
from collections.abc import Mapping
from typing import Any

import requests

from pipeline.core.redact import SECRET_NAME, Secrets

API_KEY_ENV = "SERVETUNE_API_KEY"
QUICK_S = 5.0
WARMUP_PROMPT = "Count from one to sixteen in words: one, two,"
WARMUP_TOKENS = 16
# Long, or the whole environment of the process (vLLM's development mode tells it)
_LEFT_OUT = ("chat_template", "ui_settings", "model_info", "vllm_env", "system_env")


def api_key() -> str | None:
    """The API key for protected servers, read from the environment only: it never enters Config, Record or a log."""
    return os.environ.get(API_KEY_ENV) or None


def protect() -> None:
    """Set a random API key for the servers of this process. A user's own key stays; an empty one means no key."""
    os.environ.setdefault(API_KEY_ENV, secrets.token_urlsafe(32))


def session() -> requests.Session:
    """A session for one engine: no proxies, the key if there is one."""
    made = requests.Session()
    made.trust_env = False  # a proxy variable must not come between us and a local server
    if key := api_key():
        made.headers["Authorization"] = f"Bearer {key}"
    return made


def health(url: str, path: str) -> str | None:
    """None when the server is ready, else what it said, e.g. `HTTP 503: Loading model`."""
    try:
        with session() as http:
            answer = http.get(f"{url}{path}", timeout=QUICK_S)
    except requests.RequestException as error:
        return type(error).__name__
    return None if answer.status_code == requests.codes.ok else f"HTTP {answer.status_code}: {answer.text[:120]}"


def settings(url: str, path: str) -> Mapping[str, Any] | None:
    """What the engine says of its resolved settings, without bulky parts and secrets; None when it does not say."""
    try:
        with session() as http:
            answer = http.get(f"{url}{path}", timeout=QUICK_S)
            answer.raise_for_status()
            told = answer.json()
    except (requests.RequestException, ValueError):
        return None
    return _without_secrets(told) if isinstance(told, dict) else None


def _without_secrets(told: Mapping[str, Any]) -> dict[str, Any]:
    """SGLang tells its keys among its settings."""
    kept = {name: item for name, item in told.items() if name not in _LEFT_OUT and not _is_secret(name, item)}
    hidden: dict[str, Any] = Secrets(os.environ).hide(kept)
    return {name: _without_secrets(item) if isinstance(item, dict) else item for name, item in hidden.items()}


def _is_secret(name: str, item: object) -> bool:
    return isinstance(item, str) and SECRET_NAME.search(name) is not None


def complete(url: str, model: str, *, timeout_s: float) -> None:
    """One short completion, as a warm-up.

    Raises:
        requests.RequestException: the server did not answer it; the message holds the server's own words.
    """
    body = {
        "model": model,
        "messages": [{"role": "user", "content": WARMUP_PROMPT}],
        "max_tokens": WARMUP_TOKENS,
        "temperature": 0,
    }
    with session() as http:
        answer = http.post(f"{url}/v1/chat/completions", json=body, timeout=timeout_s)
    if answer.status_code != requests.codes.ok:
        raise requests.HTTPError(f"HTTP {answer.status_code}: {answer.text[:500]}", response=answer)
