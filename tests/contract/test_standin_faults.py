"""The stand-in engines' failures, starts and ends, and the latency model behind them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from fakes.stand_in import Engine, environment, events, launch, serving
from pipeline.machine import process
from support.places import SITE

BOTH = pytest.mark.parametrize("engine", ["sglang", "vllm"])


def test_a_fault_that_does_not_exist_is_an_error() -> None:
    done = launch("sglang", STANDIN_FAULT="ooom")
    assert done.returncode == 1
    assert "no such fault; there are none, slow_start" in done.stderr


@pytest.mark.parametrize(
    ("engine", "flags", "env", "code", "words"),
    [
        ("sglang", ["--page-size", "3"], {}, 1, "AssertionError: chunked_prefill_size must be divisible by page_size"),
        (
            "sglang",
            ["--attention-backend", "fa3"],
            {"STANDIN_GPU": "sm120"},
            -9,
            "FlashAttention v3 Backend requires SM>=80",
        ),
        ("sglang", ["--tp", "16"], {}, -9, "invalid device ordinal"),
        (
            "vllm",
            ["--max-num-batched-tokens", "64", "--max-num-seqs", "128"],
            {},
            1,
            "max_num_batched_tokens (64) must be greater than or equal to max_num_seqs (128).",
        ),
        (
            "vllm",
            ["--attention-backend", "FLASHMLA"],
            {},
            1,
            "AttentionBackendEnum.FLASHMLA is not valid for this configuration. Reason: ['non-MLA not supported']",
        ),
        ("vllm", ["-tp", "16"], {}, 1, "World size (16) is larger than the number of available GPUs (8)"),
        ("sglang", [], {"STANDIN_FAULT": "oom_at_load"}, -9, "CUDA out of memory"),
        ("vllm", [], {"STANDIN_FAULT": "oom_at_load"}, 1, "Failed core proc(s): {'EngineCore': 1}"),
    ],
    ids=["page", "fa3", "sglang-tp", "batch", "backend", "vllm-tp", "sglang-oom", "vllm-oom"],
)
def test_what_the_real_one_refuses_ends_it(
    engine: str, flags: list[str], env: dict[str, str], code: int, words: str
) -> None:
    done = launch(engine, *flags, **env)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr


@BOTH
def test_wrong_tokens_are_too_few(engine: str, tmp_path: Path) -> None:
    with serving(engine, tmp_path, STANDIN_FAULT="wrong_tokens") as running:
        assert running.chat(max_tokens=16).json()["usage"]["completion_tokens"] == 8


# Load


def test_vllm_refuses_above_so_many_requests(tmp_path: Path) -> None:
    with serving("vllm", tmp_path, STANDIN_FAULT="overload:2") as running, running.busy(2):
        answer = running.chat(stream=True)
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "Service Unavailable")


def test_sglang_refuses_a_stream_inside_the_stream(tmp_path: Path) -> None:
    with serving("sglang", tmp_path, STANDIN_FAULT="overload:2") as running, running.busy(2):
        plain, (said,) = running.chat(), events(running.chat(stream=True))
    assert (plain.status_code, plain.json()["message"]) == (503, "The request queue is full.")
    assert (said["error"]["code"], said["error"]["type"]) == (503, "SERVICE_UNAVAILABLE")


@BOTH
def test_rejected_completions_are_bad_requests(engine: str, tmp_path: Path) -> None:
    with serving(engine, tmp_path, STANDIN_FAULT="rejects") as running:
        assert running.chat().status_code == 400


@BOTH
@pytest.mark.parametrize(
    ("fault", "words"), [("dies_under_load:1", "illegal memory access"), ("oom_under_load:1", "CUDA out of memory")]
)
def test_it_dies_under_load(engine: str, fault: str, words: str, tmp_path: Path) -> None:
    with serving(engine, tmp_path, STANDIN_FAULT=fault) as running:
        assert running.chat().ok
        try:
            assert running.chat().status_code == 500
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            assert engine == "sglang"  # it is killed at once, in the middle of its answer or before
        assert running.program.wait(60) == {"sglang": -signal.SIGKILL, "vllm": 0}[engine]
        assert words in running.log


@BOTH
def test_it_hangs_after_so_many_answers(engine: str, tmp_path: Path) -> None:
    with serving(engine, tmp_path, STANDIN_FAULT="hang:1") as running:
        assert running.chat().ok
        with pytest.raises(requests.ReadTimeout):
            requests.post(f"{running.url}/v1/completions", json={"prompt": "a"}, timeout=0.5)


# Start and end


def test_sglang_says_503_while_it_starts(tmp_path: Path) -> None:
    with serving("sglang", tmp_path, is_awaited=False, STANDIN_FAULT="slow_start:3") as running:
        assert process.wait_until(lambda: _status(running) == 503, timeout_s=180)
        assert process.wait_until(lambda: _status(running) == 200, timeout_s=180)


@pytest.mark.parametrize(
    ("engine", "fault"), [("vllm", "slow_start:30"), ("vllm", "hang_at_start"), ("sglang", "hang_at_start")]
)
def test_it_does_not_listen_before_it_has_loaded(engine: str, fault: str, tmp_path: Path) -> None:
    with serving(engine, tmp_path, is_awaited=False, STANDIN_FAULT=fault) as running:
        assert process.wait_until(lambda: bool(running.log), timeout_s=180)
        time.sleep(0.3)
        assert _status(running) is None
        assert running.program.poll() is None


def _status(running: Engine) -> int | None:
    try:
        return running.get("/health").status_code
    except requests.ConnectionError:
        return None


@BOTH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
def test_nothing_is_left_when_it_is_told_to_go(engine: str, number: int, tmp_path: Path) -> None:
    flag = {"sglang": "--tp", "vllm": "-tp"}[engine]
    with serving(engine, tmp_path, flag, "2") as running:
        others = psutil.Process(running.program.pid).children(recursive=True)
        assert len(others) == {"sglang": 2, "vllm": 1}[engine]
        os.kill(running.program.pid, number)
        running.program.wait(60)
        assert psutil.wait_procs(others, timeout=60)[1] == []


@BOTH
def test_it_can_ignore_the_signal(engine: str, tmp_path: Path) -> None:
    with serving(engine, tmp_path, STANDIN_FAULT="ignores_term") as running:
        running.program.terminate()
        time.sleep(0.3)
        assert running.is_ready()


@BOTH
def test_the_metadata_tell_the_version(engine: str) -> None:
    older = SITE.parent / "older"
    code = f"from importlib import metadata; print(metadata.version({engine!r}))"
    for path, version in (
        (f"{SITE}", {"sglang": "0.5.23", "vllm": "0.33.0"}),
        (f"{older}:{SITE}", {"sglang": "0.5.10.post1", "vllm": "0.19.1"}),
    ):
        env = environment(PYTHONPATH=path)
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == version[engine]


# The latency model


@pytest.fixture
def model_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[float, float]]:
    """Prefill of 2000 tokens and one step, with 8 requests running."""
    monkeypatch.syspath_prepend(str(SITE))
    from standin import latency

    def both(**knobs: Any) -> tuple[float, float]:
        plain = {"page_size": 1, "chunk": 8192, "backend": "fa3", "max_running": 256, "tp": 1}
        made = latency.Knobs(**{**plain, **knobs})
        return latency.prefill_s(made, 2000, 8), latency.step_s(made, 8)

    return both


@pytest.mark.parametrize(
    ("better", "worse", "which"),
    [
        ({"page_size": 64}, {"page_size": 1}, 1),
        ({"chunk": 4096}, {"chunk": 256}, 0),
        ({"chunk": 256}, {"chunk": 16384}, 1),
        ({"backend": "fa3"}, {"backend": "torch_native"}, 0),
        ({"tp": 4}, {"tp": 1}, 1),
        ({"max_running": 2}, {"max_running": 8}, 1),
    ],
    ids=["pages", "chunk-prefill", "chunk-decode", "backend", "tp", "running"],
)
def test_every_knob_has_an_effect(
    model_of: Callable[..., tuple[float, float]], better: dict[str, Any], worse: dict[str, Any], which: int
) -> None:
    assert model_of(**better)[which] < model_of(**worse)[which]
