"""Talking to an engine: a real local HTTP server that answers from a table."""

from typing import Any

import pytest
import requests

from fakes import Answer, FakeEngine
from pipeline.engines import http

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


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            (
                200,
                {
                    "total_slots": 4,
                    "chat_template": "long",
                    "model_info": {},
                    "api_key": "sk-1",
                    "vllm_env": {"A": "b"},
                },
            ),
            4,
        ),
        ((200, "not json"), None),
        ((404, {}), None),
    ],
    ids=["without-bulky-parts-and-secrets", "no-json", "no-such-path"],
)
def test_settings_are_what_the_engine_says_of_itself(answer: Answer, told: int | None) -> None:
    with FakeEngine(**{"GET /props": answer}) as server:
        assert http.settings(server.url, "/props") == (None if told is None else {"total_slots": told})


@pytest.mark.parametrize("body", [[1, 2], "3", None], ids=["list", "number", "null"])
def test_settings_of_another_shape_are_none(body: Any) -> None:
    with FakeEngine(**{"GET /props": (200, body)}) as server:
        assert http.settings(server.url, "/props") is None


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
        http.settings(server.url, "/props")
        http.complete(server.url, "tiny", timeout_s=5)
        assert len(server.keys) == 3
        assert set(server.keys) == {sent}


def test_a_proxy_does_not_come_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", NOBODY)
    monkeypatch.setenv("http_proxy", NOBODY)
    with FakeEngine(**{"GET /health": (200, {})}) as server:
        assert http.health(server.url, "/health") is None
