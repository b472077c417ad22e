"""What an engine says of itself: its settings or why there are none, and its version."""

import threading
from typing import Any

import pytest

from fakes import Answer, FakeEngine
from pipeline.core.schema_engine import Tells
from pipeline.engines import told

NOBODY = "http://127.0.0.1:9"  # discard: nothing listens there
FULL = {"total_slots": 4, "chat_template": "long", "model_info": {}, "api_key": "sk-1", "vllm_env": {"A": "b"}}


@pytest.mark.parametrize(
    ("answer", "settings", "why"),
    [
        ((200, FULL), {"total_slots": 4}, ""),
        ((200, "not json"), None, "/props did not answer with JSON"),
        ((404, {}), None, "/props answered HTTP 404"),
        ((500, {}), None, "/props answered HTTP 500"),
        ((200, [1, 2]), None, "/props answered with something else than settings"),
        ((200, None), None, "/props answered with something else than settings"),
    ],
    ids=["without-bulky-parts-and-secrets", "no-json", "no-such-path", "an-error", "a-list", "null"],
)
def test_settings_are_what_the_engine_says_or_why_there_are_none(answer: Answer, settings: Any, why: str) -> None:
    with FakeEngine(**{"GET /props": answer}) as server:
        assert told.settings(server.url, "/props") == told.Told(settings=settings, why=why)


def test_nobody_there_is_a_reason_too() -> None:
    assert told.settings(NOBODY, "/props") == told.Told(settings=None, why="/props: ConnectionError")


def test_a_first_answer_that_takes_long_is_waited_for_and_no_longer_than_that() -> None:
    go_on = threading.Event()

    class Slow(FakeEngine):
        def answer(self, line: str, key: str | None) -> Answer:
            go_on.wait(10)
            return super().answer(line, key)

    with Slow(**{"GET /props": (200, FULL)}) as server:
        assert told.settings(server.url, "/props", timeout_s=0.05).why == "/props did not answer within 0.05 s"
        go_on.set()
        assert told.settings(server.url, "/props", timeout_s=10).settings == {"total_slots": 4}


@pytest.mark.parametrize(
    ("tells", "answer", "version"),
    [
        (Tells(version_path="/version"), (200, {"version": "0.32.0+cpu"}), "0.32.0+cpu"),
        (Tells(version_path="/version", version_field="build_info"), (200, {"build_info": "b1-abc"}), "b1-abc"),
        (Tells(version_path="/version"), (200, {"version": 3}), None),
        (Tells(version_path="/version"), (200, ["x"]), None),
        (Tells(version_path="/version"), (200, {}), None),
        (Tells(version_path="/version"), (404, {}), None),
        (Tells(version_path="/version"), (200, "no json"), None),
        (Tells(), (200, {"version": "1"}), None),
    ],
    ids=["vllm", "llamacpp", "a-number", "a-list", "no-field", "no-such-path", "no-json", "not-asked"],
)
def test_the_version_is_the_engines_own_word(tells: Tells, answer: Answer, version: str | None) -> None:
    with FakeEngine(**{"GET /version": answer}) as server:
        assert told.version(server.url, tells) == version
