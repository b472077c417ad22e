"""Emptying the prefix cache of each engine: a real local HTTP server that answers as the engine does."""

import pytest

from fakes import Answer, FakeEngine
from pipeline.engines import prefix_cache

NOBODY = "http://127.0.0.1:9"  # discard: nothing listens there
IDLE, BUSY = ({"id": 0, "is_processing": False}, {"id": 1, "is_processing": True})
FLUSH, RESET, METRICS = "POST /flush_cache", "POST /reset_prefix_cache", "GET /metrics"


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            {"GET /slots": (200, [IDLE, BUSY]), **{f"POST /slots/{n}?action=erase": (200, {}) for n in (0, 1)}},
            "erased 2 slots",
        ),
        ({"GET /slots": (200, [])}, "erased 0 slots"),
        ({"GET /slots": (200, [IDLE]), "POST /slots/0?action=erase": (501, {})}, "failed: HTTPError"),
        ({"GET /slots": (501, {"error": "disabled"})}, "failed: TypeError"),
        ({"GET /slots": (200, "<html>")}, "failed: JSONDecodeError"),
        ({"GET /slots": (200, [{}])}, "failed: KeyError"),
    ],
    ids=["erased", "no-slots", "erasing-refused", "no-such-endpoint", "no-json", "other-shape"],
)
def test_resetting_the_cache_says_what_was_done(answers: dict[str, Answer], words: str) -> None:
    with FakeEngine(**answers) as server:
        assert prefix_cache.empty(server.url, "llamacpp_slots") == words


def test_a_runtime_without_a_way_to_reset_is_left_alone() -> None:
    with FakeEngine() as server:
        assert prefix_cache.empty(server.url, "none") == "none"
        assert prefix_cache.is_idle(server.url, "none")
        assert server.asked == []


@pytest.mark.parametrize(
    ("answer", "idle"),
    [((200, [IDLE, IDLE]), True), ((200, [IDLE, BUSY]), False), ((501, {}), True), ((200, "<html>"), True)],
    ids=["idle", "one-busy", "cannot-tell", "no-json"],
)
def test_an_engine_is_idle_when_no_slot_works(answer: Answer, *, idle: bool) -> None:
    with FakeEngine(**{"GET /slots": answer}) as server:
        assert prefix_cache.is_idle(server.url, "llamacpp_slots") is idle


@pytest.mark.parametrize(
    ("how", "answers", "words"),
    [
        ("sglang_flush", {FLUSH: (200, "Cache flushed.")}, "flushed by /flush_cache"),
        ("sglang_flush", {FLUSH: (400, "Flush cache failed.")}, "failed: HTTPError"),
        ("vllm_reset", {RESET: (200, {"success": True})}, "reset by /reset_prefix_cache"),
        ("vllm_reset", {RESET: (200, {"success": False})}, "failed: /reset_prefix_cache: blocks are still held"),
        (
            "vllm_reset",
            {RESET: (404, {"detail": "Not Found"})},
            "failed: /reset_prefix_cache is there with VLLM_SERVER_DEV_MODE=1 only, which is set on loopback only",
        ),
    ],
    ids=["sglang", "sglang-busy", "vllm", "vllm-busy", "vllm-without-development-mode"],
)
def test_an_engine_is_asked_in_its_own_way(how: str, answers: dict[str, Answer], words: str) -> None:
    with FakeEngine(**answers) as server:
        assert prefix_cache.empty(server.url, how) == words


def metrics(running: float, waiting: float) -> Answer:
    """As prometheus_client prints vLLM's gauges."""
    labels = '{engine="0",model_name="tiny"}'
    return 200, (
        f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{labels} {running}\n"
        f"vllm:num_requests_waiting{labels} {waiting}\n"
        f'vllm:num_requests_waiting_by_reason{{reason="capacity"}} 7.0\n'
    )


@pytest.mark.parametrize(
    ("how", "answers", "idle"),
    [
        ("sglang_flush", {FLUSH: (200, "Cache flushed.")}, True),
        ("sglang_flush", {FLUSH: (400, "Flush cache failed.")}, False),
        ("vllm_reset", {METRICS: metrics(0, 0)}, True),
        ("vllm_reset", {METRICS: metrics(1, 0)}, False),
        ("vllm_reset", {METRICS: metrics(0, 2)}, False),
        ("vllm_reset", {METRICS: (404, {})}, True),
    ],
    ids=["sglang", "sglang-busy", "vllm", "vllm-running", "vllm-waiting", "vllm-without-metrics"],
)
def test_an_engine_is_idle_when_it_says_so(how: str, answers: dict[str, Answer], *, idle: bool) -> None:
    with FakeEngine(**answers) as server:
        assert prefix_cache.is_idle(server.url, how) is idle


@pytest.mark.parametrize("how", ["llamacpp_slots", "sglang_flush", "vllm_reset"])
def test_an_engine_that_is_gone_is_idle_and_not_emptied(how: str) -> None:
    assert prefix_cache.is_idle(NOBODY, how)
    assert prefix_cache.empty(NOBODY, how) == "failed: ConnectionError"
