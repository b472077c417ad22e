"""Talking to an engine: a real local HTTP server that answers from a table."""

import pytest
import requests

from fakes import Answer, FakeEngine
from pipeline.engines import http, told

NOBODY = "http://127.0.0.1:9"  # discard: nothing listens there
CHAT = "POST /v1/chat/completions"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, {"status": "ok"}), None),
        ((503, {"error": "Loading model"}), 'HTTP 503: {"error": "Loading model"}'),
        ((404, "not here"), "HTTP 404: not here"),
        ((500, "x" * 1000), f"HTTP 500: {'x' * 120}"),
    ],
    ids=["ready", "loading", "wrong-path", "long-words"],
)
def test_health_is_none_or_what_the_server_said(answer: Answer, said: str | None) -> None:
    with FakeEngine(**{"GET /health": answer}) as server:
        assert http.health(server.url, "/health") == said


def test_health_says_when_nobody_answers() -> None:
    assert http.health(NOBODY, "/health") == "ConnectionError"


def test_a_warm_up_is_one_completion() -> None:
    with FakeEngine(**{CHAT: (200, {"choices": []})}) as server:
        http.complete(server.url, "tiny", timeout_s=5)
        assert server.asked == [CHAT]


def test_a_rejected_warm_up_repeats_the_servers_words() -> None:
    rejected = {CHAT: (400, {"error": {"message": "the model `tiny` does not exist"}})}
    with FakeEngine(**rejected) as server, pytest.raises(requests.HTTPError, match=r"HTTP 400: .*does not exist"):
        http.complete(server.url, "tiny", timeout_s=5)


@pytest.mark.parametrize(("key", "sent"), [("secret-key", "Bearer secret-key"), ("", None)], ids=["key", "no-key"])
def test_the_key_goes_with_every_request(monkeypatch: pytest.MonkeyPatch, key: str, sent: str | None) -> None:
    monkeypatch.setenv(http.API_KEY_ENV, key)
    with FakeEngine(**{CHAT: (200, {})}) as server:
        http.health(server.url, "/health")
        told.settings(server.url, "/props")
        http.complete(server.url, "tiny", timeout_s=5)
        assert len(server.keys) == 3
        assert set(server.keys) == {sent}


def test_a_proxy_does_not_come_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", NOBODY)
    monkeypatch.setenv("http_proxy", NOBODY)
    with FakeEngine(**{"GET /health": (200, {})}) as server:
        assert http.health(server.url, "/health") is None
