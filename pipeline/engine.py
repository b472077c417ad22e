"""The HTTP door to a running engine: ready, settings, one completion, cache reset."""

import os
from collections.abc import Mapping
from typing import Any

import requests

API_KEY_ENV = "SERVETUNE_API_KEY"
QUICK_S = 5.0
WARMUP_PROMPT = "Count from one to sixteen in words: one, two,"
WARMUP_TOKENS = 16
_BULKY = ("chat_template", "default_generation_settings", "ui_settings", "model_info")


def api_key() -> str | None:
    """The key for protected servers, from the environment alone: it never enters Config, Record or a log."""
    return os.environ.get(API_KEY_ENV) or None


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # a proxy variable must not come between us and a local server
    if key := api_key():
        session.headers["Authorization"] = f"Bearer {key}"
    return session


def health(url: str, path: str) -> str | None:
    """None when the server is ready, else what it said, e.g. `HTTP 503: Loading model`."""
    try:
        with _session() as http:
            answer = http.get(f"{url}{path}", timeout=QUICK_S)
    except requests.RequestException as error:
        return type(error).__name__
    return None if answer.status_code == requests.codes.ok else f"HTTP {answer.status_code}: {answer.text[:120]}"


def settings(url: str, path: str) -> Mapping[str, Any] | None:
    """What the engine says of its resolved settings, without its bulky parts; None when it does not say."""
    try:
        with _session() as http:
            answer = http.get(f"{url}{path}", timeout=QUICK_S)
            answer.raise_for_status()
            told = answer.json()
    except (requests.RequestException, ValueError):
        return None
    return {key: item for key, item in told.items() if key not in _BULKY} if isinstance(told, dict) else None


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
    with _session() as http:
        answer = http.post(f"{url}/v1/chat/completions", json=body, timeout=timeout_s)
    if answer.status_code != requests.codes.ok:
        raise requests.HTTPError(f"HTTP {answer.status_code}: {answer.text[:500]}", response=answer)


def reset_cache(url: str, how: str) -> str:
    """Empty the engine's prefix cache; what was done, in words (kept with the level)."""
    match how:
        case "llamacpp_slots":
            return _erase_slots(url)
    return "none"


def _erase_slots(url: str) -> str:
    """Erase every slot's KV cache. Source: llama.cpp tools/server/README.md, POST /slots/{id}?action=erase."""
    try:
        with _session() as http:
            slots = http.get(f"{url}/slots", timeout=QUICK_S).json()
            for slot in slots:
                http.post(f"{url}/slots/{slot['id']}?action=erase", timeout=QUICK_S).raise_for_status()
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        return f"failed: {type(error).__name__}"
    return f"erased {len(slots)} slots"


def is_idle(url: str, how: str) -> bool:
    """Whether the engine has finished or dropped what earlier levels asked; True where it cannot tell.

    llama.cpp that does not even answer has all its HTTP threads at work.
    """
    if how != "llamacpp_slots":
        return True
    try:
        with _session() as http:
            slots = http.get(f"{url}/slots", timeout=QUICK_S).json()
        return not any(slot["is_processing"] for slot in slots)
    except requests.Timeout:
        return False
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return True
