"""Waiting for a server: it gets ready, or the message says why it never will."""

import threading
from pathlib import Path

import pytest

from fakes import Answer, FakeBackend, FakeEngine, make_deployment, make_plan
from pipeline.core.errors import FailureKind, Interrupted, NotReady, ServerDied, WarmupFailed
from pipeline.core.files import RunDir
from pipeline.trial import health

READY: Answer = (200, {"status": "ok"})
LOADING: Answer = (503, {"status": "loading"})
CHAT = "POST /v1/chat/completions"


def wait(server: FakeEngine, folder: Path, backend: FakeBackend | None = None, *, timeout_s: float = 5.0) -> None:
    plan = make_plan(folder, timeout_s=timeout_s)
    health.wait_ready(backend or FakeBackend(), make_deployment(folder, server.url), plan)


def log(folder: Path, text: str) -> Path:
    path = RunDir(folder).server_log
    path.write_text(text)
    return path


def test_waits_until_the_server_is_ready(tmp_path: Path) -> None:
    with FakeEngine(**{"GET /health": [LOADING, LOADING, READY]}) as server:
        wait(server, tmp_path)
        assert server.asked == ["GET /health"] * 3


def test_a_server_that_never_gets_ready_is_quoted(tmp_path: Path) -> None:
    path = log(tmp_path, "loading tensors\n")
    with FakeEngine(**{"GET /health": LOADING}) as server, pytest.raises(NotReady) as caught:
        wait(server, tmp_path, timeout_s=0.1)
    assert str(caught.value) == (
        f"{server.url}/health was not ready within 0.1 s; "
        f'last answer: HTTP 503: {{"status": "loading"}}.\nLast lines of {path}:\n  | loading tensors'
    )
    assert caught.value.kind == FailureKind.NOT_READY_IN_TIME
    assert "runtime.health.timeout_s" in caught.value.hint


def test_a_server_that_never_answers_is_said_so(tmp_path: Path) -> None:
    with FakeEngine() as gone:
        pass
    with pytest.raises(NotReady, match="last answer: ConnectionError") as caught:
        wait(gone, tmp_path, timeout_s=0.1)
    assert f"{RunDir(tmp_path).server_log} is empty." in str(caught.value)


def test_a_server_that_hangs_after_an_error_is_said_so(tmp_path: Path) -> None:
    log(tmp_path, "vllm\ntorch.OutOfMemoryError: CUDA out of memory.\n")
    with FakeEngine(**{"GET /health": LOADING}) as server, pytest.raises(NotReady) as caught:
        wait(server, tmp_path, timeout_s=0.1)
    assert '{"status": "loading"}. torch.OutOfMemoryError: CUDA out of memory.\n' in str(caught.value)
    assert caught.value.kind == FailureKind.OOM_GPU


def test_a_server_that_has_no_port_and_goes_on_running_is_not_waited_for(tmp_path: Path) -> None:
    words = "[Errno 98] error while attempting to bind on address ('127.0.0.1', 1): address already in use"
    log(tmp_path, f"[2026-11-30 07:28:56] ERROR:    {words}\n")
    with FakeEngine(**{"GET /health": (404, {})}) as server, pytest.raises(NotReady, match="will not become") as caught:
        wait(server, tmp_path, timeout_s=600)
    assert words in str(caught.value)
    assert caught.value.kind == FailureKind.PORT_TAKEN


def test_somebody_elses_answer_does_not_make_us_ready(tmp_path: Path) -> None:
    with FakeEngine(**{"GET /health": READY}) as server, pytest.raises(NotReady) as caught:
        wait(server, tmp_path, FakeBackend(is_ours=False))
    assert f"Another process answers on port {server.url.rpartition(':')[2]}" in str(caught.value)
    assert caught.value.kind == FailureKind.PORT_TAKEN


def test_a_dead_server_ends_the_wait_with_its_log_and_a_diagnosis(tmp_path: Path) -> None:
    path = log(tmp_path, "".join(f"line {n}\n" for n in range(100)) + "error: failed to load model '/m.gguf'\n")
    with FakeEngine(**{"GET /health": LOADING}) as server, pytest.raises(ServerDied) as caught:
        wait(server, tmp_path, FakeBackend("exit code 1"))
    first, *tail = str(caught.value).splitlines()
    assert first == "The server ended (exit code 1): error: failed to load model '/m.gguf'"
    assert tail[0] == f"Last lines of {path}:"
    assert tail[1] == "  | line 86"
    assert tail[-1] == "  | error: failed to load model '/m.gguf'"
    assert caught.value.kind == FailureKind.MODEL_MISSING


def test_a_log_that_is_no_text_is_shown_all_the_same(tmp_path: Path) -> None:
    RunDir(tmp_path).server_log.write_bytes(b"caf\xe9\n")
    with pytest.raises(ServerDied, match="caf\N{REPLACEMENT CHARACTER}"):
        health.check_alive(FakeBackend("exit code 1"), make_deployment(tmp_path), RunDir(tmp_path).server_log)


def test_a_secret_in_the_log_stays_out_of_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVETUNE_API_KEY", "very-secret-key")
    path = log(tmp_path, "started with --api-key very-secret-key\n")
    with pytest.raises(ServerDied) as caught:
        health.check_alive(FakeBackend("exit code 1"), make_deployment(tmp_path), path)
    assert "started with --api-key [redacted]" in str(caught.value)


def test_a_running_server_is_alive(tmp_path: Path) -> None:
    path = log(tmp_path, "error: failed to load model\n")  # words alone do not make it dead
    backend = FakeBackend()
    health.check_alive(backend, make_deployment(tmp_path), path)
    backend.how = "killed by SIGKILL"
    with pytest.raises(ServerDied, match="killed by SIGKILL"):
        health.check_alive(backend, make_deployment(tmp_path), path)


@pytest.mark.parametrize("count", [0, 1, 5], ids=["none", "one", "more-than-users"])
def test_the_server_is_warmed_up_as_often_as_planned(tmp_path: Path, count: int) -> None:
    with FakeEngine(**{CHAT: (200, {})}) as server:
        plan = make_plan(tmp_path, warmup_requests=count)
        health.warm_up(make_deployment(tmp_path, server.url), plan, concurrency=2, timeout_s=5)
        assert server.asked == [CHAT] * count


def test_a_warm_up_that_is_refused_fails_the_trial_in_the_servers_words(tmp_path: Path) -> None:
    refused: list[Answer] = [(200, {}), (500, {"error": {"message": "out of slots"}})]
    plan = make_plan(tmp_path, warmup_requests=3)
    with FakeEngine(**{CHAT: refused}) as server, pytest.raises(WarmupFailed) as caught:
        health.warm_up(make_deployment(tmp_path, server.url), plan, concurrency=1, timeout_s=5)
    assert f"A warm-up request to {server.url}/v1/chat/completions was not answered: HTTP 500" in str(caught.value)
    assert "out of slots" in str(caught.value)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_warm_up_asks_again_while_the_server_cannot_answer_yet(tmp_path: Path, status: int) -> None:
    answers: list[Answer] = [(status, "no worker yet"), (status, "no worker yet"), (200, {})]
    with FakeEngine(**{CHAT: answers}) as server:
        plan = make_plan(tmp_path, warmup_requests=1)
        health.warm_up(make_deployment(tmp_path, server.url), plan, concurrency=1, timeout_s=60)
        assert server.asked == [CHAT] * 3


def test_a_warm_up_asks_again_while_connections_are_refused(tmp_path: Path) -> None:
    with FakeEngine() as gone:
        port = gone.server.server_address[1]
    late: list[FakeEngine] = []

    def alive() -> None:  # the first look at the server: until then it did not listen
        if not late:
            late.append(FakeEngine(int(port), **{CHAT: (200, {})}))
            late[0].__enter__()

    try:
        plan = make_plan(tmp_path, warmup_requests=2)
        health.warm_up(make_deployment(tmp_path, gone.url), plan, concurrency=2, timeout_s=60, alive=alive)
        assert late[0].asked == [CHAT] * 2
    finally:
        for server in late:
            server.__exit__()


def test_a_warm_up_that_is_never_answered_ends_with_the_last_answer(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, warmup_requests=2)
    with FakeEngine(**{CHAT: (503, "loading model")}) as server:

        def failed(timeout_s: float) -> tuple[WarmupFailed, float]:
            with pytest.raises(WarmupFailed) as caught:
                health.warm_up(make_deployment(tmp_path, server.url), plan, concurrency=2, timeout_s=timeout_s)
            return caught.value, timeout_s

        tries = map(failed, (0.3, 3.0, 30.0))  # longer where a busy machine had no time to ask again
        found = next(((error, limit_s) for error, limit_s in tries if "asked again" in str(error)), None)
    assert found is not None
    error, limit_s = found
    assert f"was not answered within {limit_s:g} s (timeouts.warmup_s); it was asked again " in str(error)
    assert str(error).endswith("last answer: HTTP 503: loading model")
    assert "timeouts.warmup_s" in error.hint
    assert len(server.asked) > 2


def test_an_answer_says_more_than_a_last_try_that_had_no_time(tmp_path: Path) -> None:
    freed = threading.Event()

    class Hanging(FakeEngine):
        def answer(self, line: str, key: str | None) -> Answer:
            if self.asked:
                freed.wait(60)
            return super().answer(line, key)

    plan = make_plan(tmp_path, warmup_requests=1)
    with Hanging(**{CHAT: (503, "loading model")}) as server:
        with pytest.raises(WarmupFailed, match=r"not answered within 0\.9 s .*: HTTP 503: loading model$"):
            health.warm_up(make_deployment(tmp_path, server.url), plan, concurrency=1, timeout_s=health.FAIR_S - 0.1)
        freed.set()


def test_a_warm_up_of_a_server_that_has_died_is_not_asked_for_ever(tmp_path: Path) -> None:
    backend, deployment = FakeBackend("exit code 1"), make_deployment(tmp_path)
    plan = make_plan(tmp_path, warmup_requests=1)

    def alive() -> None:
        health.check_alive(backend, deployment, RunDir(tmp_path).server_log)

    with pytest.raises(ServerDied, match="exit code 1"):
        health.warm_up(deployment, plan, concurrency=1, timeout_s=600, alive=alive)


def test_a_level_starts_when_the_one_before_has_run_out(tmp_path: Path) -> None:
    busy, idle = ([{"id": 0, "is_processing": state}] for state in (True, False))
    slots: list[Answer] = [(200, busy), (200, busy), (200, idle)]
    erased: Answer = (200, {})
    answers: dict[str, Answer | list[Answer]] = {"GET /slots": slots, "POST /slots/0?action=erase": erased}
    with FakeEngine(**answers) as server:
        plan = make_plan(tmp_path, cache_reset="llamacpp_slots")
        said = health.wait_idle(make_deployment(tmp_path, server.url), plan, timeout_s=5, alive=lambda: None)
        assert said == "erased 1 slots"
        assert server.asked == ["GET /slots"] * 4 + ["POST /slots/0?action=erase"]


def test_an_engine_that_stays_busy_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    with FakeEngine(**{"GET /slots": (200, [{"id": 0, "is_processing": True}])}) as server:
        plan = make_plan(tmp_path, cache_reset="llamacpp_slots")
        said = health.wait_idle(make_deployment(tmp_path, server.url), plan, timeout_s=0.05, alive=lambda: None)
        assert said == "failed: HTTPError; earlier requests were still running after 0.05 s"


def test_waiting_for_a_busy_engine_is_broken_off_when_it_dies(tmp_path: Path) -> None:
    def stop() -> None:
        raise Interrupted(15)

    with FakeEngine(**{"GET /slots": (200, [{"id": 0, "is_processing": True}])}) as server:
        plan = make_plan(tmp_path, cache_reset="llamacpp_slots")
        with pytest.raises(Interrupted):
            health.wait_idle(make_deployment(tmp_path, server.url), plan, timeout_s=5, alive=stop)
