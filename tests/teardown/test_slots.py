"""One GPU, two trials: the second one's server starts when the first one's is gone, however that ended."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fakes import make_lease
from parts.nvml import Machine
from pipeline.backends import teardown
from pipeline.machine import gpus, process
from support.homes import Home
from support.world import Launch, Tell, Trial, Zygote, begin
from teardown.test_matrix import HANGING_BENCH, KILL, ids


@pytest.fixture
def second(zygote: Zygote, backend: Home, tmp_path: Path, tiny_gguf: Path) -> Callable[[], Trial]:
    """Start another trial beside that of `launch`, in a folder of its own."""

    def start() -> Trial:
        folder = tmp_path / "second"
        folder.mkdir()
        return begin(zygote, backend, folder, tiny_gguf)

    return start


def is_waiting(trial: Trial) -> bool:
    said = trial.folder / "stdout"
    words = said.read_text() if said.exists() else ""
    return "waiting for 1 GPU" in words or "waits for 1 nvidia.com/gpu" in words


@pytest.mark.parametrize("signum", [None, signal.SIGTERM, KILL], ids=ids)
def test_a_gpu_is_given_on_when_its_server_is_gone(
    signum: signal.Signals | None, launch: Launch, second: Callable[[], Trial], place: str, tell: Tell
) -> None:
    slowly = ("fault=ignore_term", "runtime.stop_grace_s=2") if place == "local" else ()  # the second looks meanwhile
    first = launch(*slowly, faults={"bench": "pause"}, env=HANGING_BENCH if signum else {})
    first.await_step("bench")
    other = second()
    assert process.wait_until(lambda: is_waiting(other), timeout_s=180), other.stderr
    assert not other.run_dir.lease.exists(), "it has not even begun to deploy"
    first.strike(signum, group=True) if signum else first.go_on("bench")
    first.wait()
    if slowly:
        assert process.wait_until(other.run_dir.lease.exists, timeout_s=180), other.stderr
        assert first.lease is not None
        assert first.lease.released, "its server still ran when the second got the GPU"
    assert other.wait() == 0, other.stderr
    assert first.remains() == other.remains() == []
    tell("slots", f"{signum.name if signum else 'the end'}, one waits", "the second had its turn, nothing left")


def test_memory_that_a_gpu_keeps_is_named(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drivers have kept memory of processes that were gone: the next trial would fail for it."""
    monkeypatch.setattr(gpus, "GIVEN_BACK_S", 0.2)
    machine.has(1, {"used_mib": 30720})
    (tmp_path / "run").mkdir()
    owned = replace(make_lease(tmp_path / "run"), gpu_used_mib={"GPU-00000000": 500})
    assert teardown.run(owned, by="trial").remaining == ("GPU 0 still holds 29.5 GiB",)
    machine.has(1)
    assert teardown.run(owned, by="trial").is_clean
