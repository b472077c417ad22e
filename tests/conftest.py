"""Every test: an environment of its own, no secrets, no state outside tmp_path, nothing left running."""

import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from fakes.tiny_gguf import write_tiny_gguf
from parts.nvml import Machine
from pipeline.machine import process
from support import forked
from support.places import FAKES, TESTS

pytest_plugins = [
    "parts.one_worker",  # first: others import it
    "parts.docker_fixtures",
    "parts.kube_fixtures",
    "parts.slurm_fixtures",
    "support.matrix",
    "support.surroundings",
]
# Hundreds of processes import the same packages: without their bytecode on disk each compiles them anew, for a second
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State, cache and outputs of the pipeline under tmp_path; no key of the user's in sight."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_", "SERVETUNE_", "HF_", "STUB_", "STANDIN_", "HYDRA_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SERVETUNE_TESTS", str(TESTS))
    monkeypatch.setenv("SERVETUNE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SERVETUNE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SERVETUNE_SLOTS_DIR", str(tmp_path / "slots"))
    monkeypatch.setenv("SERVETUNE_CROWDED", "ignore")  # as in support/surroundings.py
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture(autouse=True)
def room_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on how much is free here: a model of the hub could be downloaded, an image pulled."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=2**41))


@pytest.fixture(autouse=True)
def hub_in_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on a way to the hub: it is believed to be there, and never asked."""
    monkeypatch.setattr("pipeline.models.hub.unreachable", lambda: None)


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """A test that leaves a process of ours behind fails."""
    before = set(_descendants(os.getpid()))
    yield
    before |= forked.servers()
    process.wait_until(lambda: not _left(before), timeout_s=60)  # on a busy machine, what ends takes its time
    left = _left(before)
    for child in left:
        child.kill()
    assert not left, f"left running: {[child.cmdline() for child in left]}"


def _left(before: set[int]) -> list[psutil.Process]:
    found = []
    for pid in _descendants(os.getpid()):
        with suppress(psutil.NoSuchProcess):
            child = psutil.Process(pid)
            if pid not in before and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


def _descendants(pid: int) -> Iterator[int]:
    """As psutil's children(recursive=True), which reads about every process of the machine: three times a test."""
    if not Path(f"/proc/{pid}/task/{pid}/children").exists():  # a kernel without CONFIG_PROC_CHILDREN, or it has ended
        with suppress(psutil.NoSuchProcess):
            yield from (child.pid for child in psutil.Process(pid).children(recursive=True))
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in file.read_text("ascii").split():
                yield int(child)
                yield from _descendants(int(child))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with GPUs, as far as NVML can be asked: by this process and those that it starts."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("STANDIN_NVML", str(tmp_path / "nvml.json"))
    monkeypatch.setenv("PYTHONPATH", str(FAKES / "nvml"), prepend=os.pathsep)
    monkeypatch.syspath_prepend(FAKES / "nvml")
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", importlib.import_module("pynvml"))
    return Machine(tmp_path / "nvml.json")


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model that llama.cpp serves within a second."""
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")
