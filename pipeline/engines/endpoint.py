"""Looks at a server that is already there, before anything is measured: each way to fail has one message.

Source: OpenAI's API, https://platform.openai.com/docs/api-reference/models/list and .../chat/create. Nothing else is
asked: no health path, no metrics.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests

from pipeline.core.errors import FailureKind, ModelError, PreflightFailed
from pipeline.core.schema import Backend, Config, Model
from pipeline.core.values import printable
from pipeline.engines import http

MODELS, CHAT = "/v1/models", "/v1/chat/completions"
PATIENCE_S = 10.0
SHOWN = 10  # models that are named in a message
LONGEST = 200  # characters of an answer that are shown
REDIRECTS = range(300, 400)
TLS = (  # what OpenSSL says, in lower case; what that means; what to do
    (
        ("self-signed", "self signed", "unable to get local issuer", "unable to verify the first"),
        "its certificate is not signed by anybody that is trusted here",
        "Set backend.ca_file to a PEM file with the certificate of the server or of who signed it.",
    ),
    (
        ("hostname mismatch", "doesn't match", "ip address mismatch", "not valid for"),
        "its certificate is for another name",
        "Set backend.url to the name that the certificate is for.",
    ),
    (
        ("has expired", "not yet valid"),
        "its certificate is not valid today",
        "Renew it, or check this machine's clock.",
    ),
    (
        ("wrong version number", "record layer failure", "unknown protocol", "packet length too long"),
        "it does not speak TLS",
        "Set backend.url to http:// instead of https://.",
    ),
)


def check(config: Config) -> str:
    """Whether the server answers, takes the key, and has the model; what requests will call the model.

    Raises:
        PreflightFailed: one of these is not so; the message says which.
    """
    backend = config.backend
    http.use(backend)
    insist_key(backend)
    if (listed := models(backend)) is None:
        return f"{backend.url} is there, and not ready yet: trials wait for it"
    name = name_of(listed, backend, config.model)
    _insist_chat(backend, name)
    return f"{backend.url} serves {name}"


def await_name(config: Config, *, watch: Callable[[], None]) -> str:
    """What the server calls the model, once it answers; `watch` is called meanwhile.

    Raises:
        PreflightFailed: as `check`, or it was not ready in time.
    """
    health = config.runtime.health
    end = time.monotonic() + health.timeout_s
    while (listed := models(config.backend)) is None:
        if time.monotonic() >= end:
            raise PreflightFailed(
                f"{config.backend.url}{MODELS} was not ready within {health.timeout_s:g} s.",
                kind=FailureKind.NOT_READY_IN_TIME,
                hint="Wait until the server has loaded its model, or raise runtime.health.timeout_s.",
            )
        watch()
        time.sleep(health.interval_s)
    return name_of(listed, config.backend, config.model)


def insist_key(backend: Backend) -> None:
    """Accept a variable that has a key, and certificates that are there.

    Raises:
        PreflightFailed: else.
    """
    if backend.api_key_env and not os.environ.get(backend.api_key_env):
        raise PreflightFailed(
            f"backend.api_key_env={backend.api_key_env}: there is no such environment variable, or it is empty.",
            hint=f"Set it to the server's key in the shell: export {backend.api_key_env}=...",
        )
    if backend.ca_file and not backend.ca_file.is_file():
        raise PreflightFailed(
            f"backend.ca_file={backend.ca_file} is not a file. Expected certificates in PEM format.",
            hint="Set backend.ca_file to a file that is there, or leave it out.",
        )


def models(backend: Backend) -> tuple[Mapping[str, Any], ...] | None:
    """The models that the server lists; None while it says that it is not ready.

    Raises:
        PreflightFailed: it does not answer, or not as a server with OpenAI's API.
    """
    answer = _ask(backend, "GET", MODELS)
    if answer.status_code in http.PASSING:
        return None
    _insist_ok(backend, answer)
    found = _json(answer)
    listed = found.get("data") if isinstance(found, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) and "id" in one for one in listed):
        raise PreflightFailed(
            f"{backend.url}{MODELS} does not answer as OpenAI's API does: expected a list of models, seen "
            f"{_seen(answer)}.",
            hint="Set backend.url to the part of the server's address that is before /v1.",
        )
    return tuple(listed)


def name_of(listed: Sequence[Mapping[str, Any]], backend: Backend, model: Model) -> str:
    """What requests call the model: the name that was set, else the only one, or the one of the model's own names.

    Adapters (vLLM lists them with the model that they belong to as `parent`) are not taken for the model.

    Raises:
        ModelError: it is not among the models that the server lists, or nobody can tell which.
    """
    names = [str(one["id"]) for one in listed]
    if backend.served_name is not None:
        if backend.served_name in names:
            return backend.served_name
        raise ModelError(
            f"backend.served_name={backend.served_name}: {backend.url} does not serve it. It serves: {_shown(names)}.",
            hint="Set backend.served_name to one of these, or leave it out where there is only one.",
        )
    bases = [str(one["id"]) for one in listed if not one.get("parent")] or names
    own = [name for name in bases if name in (model.repo, model.served_name)]
    if len(chosen := bases if len(bases) == 1 else own) == 1:
        return chosen[0]
    raise ModelError(
        f"{backend.url} lists {f'{len(bases)} models: {_shown(bases)}' if bases else 'no model'}.",
        hint="Set backend.served_name to the one to measure." if bases else "Load a model there first.",
    )


def _ask(backend: Backend, method: str, path: str, body: object = None) -> requests.Response:
    """An answer, whatever it says.

    Raises:
        PreflightFailed: there is none.
    """
    url = f"{backend.url}{path}"
    try:
        with http.session() as session:
            return session.request(method, url, json=body, timeout=PATIENCE_S, allow_redirects=False)
    except requests.exceptions.SSLError as error:
        raise _not_trusted(url, str(error)) from error
    except requests.Timeout as error:
        raise _unreachable(f"{url} did not answer within {PATIENCE_S:g} s.") from error
    except requests.ConnectionError as error:
        raise _unreachable(f"{url}: {_no_connection(url, str(error))}.") from error
    except (requests.RequestException, OSError, ValueError) as error:
        raise _unreachable(f"{url} cannot be asked: {type(error).__name__}: {printable(str(error))}.") from error


def _unreachable(message: str) -> PreflightFailed:
    return PreflightFailed(
        message,
        kind=FailureKind.BACKEND_DOWN,
        hint="Check backend.url, whether the server runs, and whether this machine may reach it. Proxies are not used.",
    )


def _no_connection(url: str, said: str) -> str:
    there = urlsplit(url)
    if any(word in said for word in ("NameResolution", "getaddrinfo", "Name or service", "name resolution")):
        return f"the name {there.hostname} is not known (DNS)"
    if "refused" in said:
        return f"connection refused: nothing listens on port {there.port or (443 if there.scheme == 'https' else 80)}"
    if "unreachable" in said or "No route" in said:
        return "there is no way to it from this machine's network"
    return "the connection broke off: perhaps the server expects https://" if there.scheme == "http" else "broken off"


def _not_trusted(url: str, said: str) -> PreflightFailed:
    found = next(((what, hint) for words, what, hint in TLS if any(word in said.lower() for word in words)), None)
    what, hint = found or (f"TLS: {printable(said)[-LONGEST:]}", "Check the server's certificate and backend.ca_file.")
    return PreflightFailed(f"{url}: {what}.", kind=FailureKind.BACKEND_DOWN, hint=hint)


def _insist_ok(backend: Backend, answer: requests.Response) -> None:
    """Accept an answer of OpenAI's API.

    Raises:
        PreflightFailed: what it is instead.
    """
    code = answer.status_code
    if code in {requests.codes.unauthorized, requests.codes.forbidden}:
        raise _not_allowed(backend, answer)
    if code in REDIRECTS:
        raise _moved(backend, answer)
    if "HTTPS" in answer.text.upper() and code == requests.codes.bad_request:
        raise _elsewhere(backend, "expects https://", "Set backend.url to https:// instead of http://.")
    if code == requests.codes.not_found:
        raise _elsewhere(backend, f"has no {MODELS}: HTTP 404")
    if _is_page(answer):
        raise _elsewhere(backend, f"answers {MODELS} with a web page, not with OpenAI's API")
    if code != requests.codes.ok:
        raise _elsewhere(backend, f"answers {MODELS} with HTTP {code}: {_seen(answer)}")


def _elsewhere(backend: Backend, what: str, hint: str | None = None) -> PreflightFailed:
    usual = "Set backend.url to the part of the server's address that is before /v1, with its path if it has one."
    return PreflightFailed(f"{backend.url} {what}.", hint=hint or usual)


def _not_allowed(backend: Backend, answer: requests.Response) -> PreflightFailed:
    name = backend.api_key_env or http.API_KEY_ENV
    if http.api_key() is None:
        return PreflightFailed(
            f"{backend.url} wants a key: HTTP {answer.status_code}, and {name} is not set.",
            hint=f"Set the key in the environment: export {name}=... (backend.api_key_env names another variable).",
        )
    return PreflightFailed(
        f"{backend.url} does not take the key in {name}: HTTP {answer.status_code}: {_seen(answer)}.",
        hint=f"Check the key in {name}, and what it may be used for.",
    )


def _moved(backend: Backend, answer: requests.Response) -> PreflightFailed:
    there = answer.headers.get("Location", "")
    place = there.split("?")[0].removesuffix(MODELS) if there.split("?")[0].endswith(MODELS) else ""
    return PreflightFailed(
        f"{backend.url} redirects to {printable(there.split('?')[0]) or 'another place'}: requests would lose their "
        "key or their body on the way.",
        hint=f"Set backend.url={place if place.startswith('http') else 'the address of the server itself'}",
    )


def _insist_chat(backend: Backend, name: str) -> None:
    """A request without messages is refused for what it lacks, and costs nothing: but first for its key.

    llama.cpp lists its models to anybody (tools/server/server.cpp, middleware_validate_api_key), as do some gateways.
    """
    answer = _ask(backend, "POST", CHAT, {"model": name})
    if answer.status_code in {requests.codes.unauthorized, requests.codes.forbidden}:
        raise _not_allowed(backend, answer)
    is_gone = answer.status_code in {requests.codes.not_found, requests.codes.method_not_allowed}
    if is_gone and not isinstance(_json(answer), dict):
        raise _elsewhere(backend, f"has no {CHAT}: HTTP {answer.status_code}")


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except requests.JSONDecodeError:
        return None


def _is_page(answer: requests.Response) -> bool:
    return "html" in answer.headers.get("Content-Type", "") or answer.text.lstrip()[:15].lower().startswith("<!doctype")


def _seen(answer: requests.Response) -> str:
    found = _json(answer)
    error = found.get("error") if isinstance(found, dict) else None
    said = error.get("message") if isinstance(error, dict) else error
    text = str(said) if said else json.dumps(found) if found is not None else answer.text
    return printable(" ".join(text.split()))[:LONGEST].rstrip(".") or "nothing"


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(printable, names[:SHOWN])) + more if names else "nothing"
