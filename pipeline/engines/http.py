"""HTTP requests to a running engine: readiness, one completion. What it tells of itself: pipeline.engines.told."""

import os
import secrets

import requests

API_KEY_ENV = "SERVETUNE_API_KEY"
QUICK_S = 5.0
WARMUP_PROMPT = "Count from one to sixteen in words: one, two,"
WARMUP_TOKENS = 16


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
