"""HTTP requests to a running engine: readiness, one completion. What it tells of itself: pipeline.engines.told."""

import os
import secrets
from collections.abc import Mapping

import requests

from pipeline.core.schema import Backend

API_KEY_ENV = "SERVETUNE_API_KEY"
QUICK_S = 5.0
WARMUP_PROMPT = "Count from one to sixteen in words: one, two,"
WARMUP_TOKENS = 16
PASSING = frozenset({429, 502, 503, 504})  # what engines and routers answer that load a model or have no room yet


CERTIFICATES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")  # variables of requests, of OpenSSL


class _Access:
    """How the servers of this process are reached: the running trial's, and there is one at a time."""

    key_env: str = API_KEY_ENV
    ca_file: str | None = None


def use(backend: Backend) -> None:
    """Reach servers as this backend says, from now on."""
    _Access.key_env = backend.api_key_env or API_KEY_ENV
    _Access.ca_file = str(backend.ca_file) if backend.ca_file else None


def api_key() -> str | None:
    """The API key for protected servers, read from the environment only: it never enters Config, Record or a log."""
    return os.environ.get(_Access.key_env) or None


def trust() -> Mapping[str, str]:
    """The variables that name the certificates to trust, for other processes; none: the usual ones."""
    chosen = _Access.ca_file or next((told for name in CERTIFICATES if (told := os.environ.get(name))), None)
    return dict.fromkeys(CERTIFICATES, chosen) if chosen else {}


def protect() -> None:
    """Set a random API key for the servers of this process. A user's own key stays; an empty one means no key."""
    os.environ.setdefault(API_KEY_ENV, secrets.token_urlsafe(32))


def session() -> requests.Session:
    """A session for one engine: no proxies, the key if there is one."""
    made = requests.Session()
    made.trust_env = False  # a proxy variable must not come between us and the server, nor a password of ~/.netrc
    made.verify = trust().get(CERTIFICATES[0], True)
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


def is_passing(error: requests.RequestException) -> bool:
    """Whether the same request may be answered a little later: the server is not there, is loading, or has no room."""
    if isinstance(error, requests.Timeout):
        return isinstance(error, requests.ConnectTimeout)
    if error.response is not None:
        return error.response.status_code in PASSING
    return isinstance(error, requests.ConnectionError)


def words(error: requests.RequestException) -> str:
    """What became of a request, in few words: `HTTP 503: Loading model`, `connection refused`."""
    if error.response is not None:
        return str(error)
    if isinstance(error, requests.Timeout):
        return "no answer"
    if isinstance(error, requests.ConnectionError):
        return "connection refused" if "refused" in str(error) else "connection broken off"
    return f"{type(error).__name__}: {error}"


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
