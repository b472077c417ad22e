"""Trials that differ in their load alone share a server; whatever happens between them, it is gone at the end."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from parts.nvml import Machine
from pipeline.backends import lease
from pipeline.machine import process
from support.cli import Result, command, pipeline, stub_overrides
from support.places import ROOT, TESTS

LOADS = "traffic.concurrencies=[1],[2],[4]"
TUNER = "hydra/sweeper=tuner"


@pytest.fixture
def sweep(tmp_path: Path, tiny_gguf: Path) -> Callable[..., Result]:
    def go(*overrides: str, **env: str) -> Result:
        return pipeline(*overrides, folder=tmp_path / "out", gguf=tiny_gguf, sweep=True, env=env)

    return go


def servers(result: Result) -> list[int]:
    """The trial that deployed the server of each trial."""
    shared = (record.deployment.get("server_of", f"trial {record.number}") for record in result.records)
    return [int(word.removeprefix("trial ")) for word in shared]


def deployed(result: Result) -> int:
    return sum(step.step == "deploy" for record in result.records for step in record.steps)


def ended(result: Result) -> list[int]:
    """The trials that a server ended with."""
    return [record.number for record in result.records if record.teardown and record.teardown.is_clean]


@pytest.mark.parametrize("sweeper", ["hydra/sweeper=basic", TUNER])
def test_a_sweep_over_the_load_alone_deploys_once(sweep: Callable[..., Result], sweeper: str) -> None:
    result = sweep(sweeper, LOADS)
    assert result.code == 0, result.err
    assert [record.status for record in result.records] == ["ok"] * 3
    assert (deployed(result), servers(result), ended(result)) == (1, [0, 0, 0], [2])
    assert [[level.concurrency for level in record.levels] for record in result.records] == [[1], [2], [4]]
    assert "requests" not in result.err
    logs = {(result.folder / str(number) / "server.log").read_text() for number in range(3)}
    assert len(logs) == 1


def test_the_server_keeps_its_gpu(
    sweep: Callable[..., Result], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.has(1)
    monkeypatch.setenv("PATH", str(TESTS / "fakes" / "bin"), prepend=os.pathsep)  # nvidia-smi
    result = sweep(LOADS, "hardware=l4", "hardware.gpu_count=1")
    assert (deployed(result), servers(result), ended(result)) == (1, [0, 0, 0], [2]), result
    assert {record.deployment["gpus"] for record in result.records} == {"0"}


def test_a_server_for_each_configuration_whatever_the_order_was_typed_in(sweep: Callable[..., Result]) -> None:
    result = sweep(TUNER, LOADS, "parallel=2,4", "hydra.sweeper.baseline=false")
    assert (deployed(result), servers(result), ended(result)) == (2, [0, 0, 0, 3, 3, 3], [2, 5])


def test_another_server_is_not_shared(sweep: Callable[..., Result]) -> None:
    result = sweep("traffic.seed=1,2", "parallel=2,4")  # basic: the order is the one that was typed
    assert (deployed(result), servers(result), ended(result)) == (4, [0, 1, 2, 3], [0, 1, 2, 3])


def test_a_repeat_has_a_server_of_its_own(sweep: Callable[..., Result]) -> None:
    words = ("parallel=null,4", "traffic.seed=1,2", "hydra.sweeper.confirm=1")
    result = sweep(TUNER, *words, STUB_BENCH_RATE="slots")
    assert [record.phase for record in result.records][4:] == ["confirm", "confirm"]
    assert servers(result) == [0, 0, 2, 2, 4, 5]
    assert ended(result) == [1, 3, 4, 5]


def test_a_trial_that_went_wrong_leaves_no_server(sweep: Callable[..., Result]) -> None:
    result = sweep(LOADS, STUB_BENCH="all_fail", STUB_BENCH_AT="1")
    assert [record.status for record in result.records] == ["failed", "ok", "ok"]
    assert servers(result) == [0, 1, 1]


def test_a_refused_trial_between_two_costs_nothing(sweep: Callable[..., Result]) -> None:
    result = sweep("traffic.seed=1,2", "parallel=2,13")
    assert [record.status for record in result.records] == ["ok", "refused", "ok", "refused"]
    assert (deployed(result), servers(result)[2]) == (1, 0)


def test_workers_do_not_hold_what_others_wait_for(sweep: Callable[..., Result]) -> None:
    result = sweep("hydra/launcher=parallel", "hydra.launcher.n_jobs=2", LOADS)
    assert (deployed(result), ended(result)) == (3, [0, 1, 2])


@contextmanager
def running(folder: Path, gguf: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    words = [*command(sweep=True), *stub_overrides(folder, gguf), LOADS]
    pipe: Any = subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, env={**os.environ, **env}, stdout=pipe, stderr=pipe, text=True) as us:
        try:
            yield us
        finally:
            us.kill()


def engine(folder: Path) -> psutil.Process:
    pid = Result(code=0, out="", err="", folder=folder).lease()["pid"]
    return psutil.Process(pid)


def test_a_server_that_dies_between_two_trials_costs_none(tmp_path: Path, tiny_gguf: Path) -> None:
    folder = tmp_path / "out"
    with running(folder, tiny_gguf) as us:
        assert process.wait_until((folder / "0" / "record.json").exists, timeout_s=240, interval_s=0.002)
        engine(folder).kill()
        out, err = us.communicate(timeout=240)
    result = Result(code=us.returncode, out=out, err=err, folder=folder)
    assert [record.status for record in result.records] == ["ok"] * 3, err
    assert servers(result) == [0, 1, 1]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_a_sweep_that_is_stopped_in_its_second_trial(
    tmp_path: Path, tiny_gguf: Path, signum: signal.Signals
) -> None:
    folder = tmp_path / "out"
    with running(folder, tiny_gguf, STUB_BENCH="hang", STUB_BENCH_AT="2") as us:
        assert process.wait_until((folder / "1" / "bench").exists, timeout_s=240)
        server = engine(folder)
        assert server.is_running()
        us.send_signal(signum)
        us.communicate(timeout=240)
    assert process.wait_until(lambda: not server.is_running(), timeout_s=180)
    assert process.wait_until(lambda: not [*lease.all_registered()], timeout_s=180)
    records = Result(code=0, out="", err="", folder=folder).records
    if signum != signal.SIGKILL:
        assert [record.status for record in records] == ["ok", "interrupted"]
        assert records[1].teardown
        assert records[1].teardown.is_clean
