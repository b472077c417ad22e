"""Whole trials of runtime=sglang backend=docker on a real dockerd; the engine is the stand-in, genai-bench as well."""

import os
import signal
import subprocess
import sysconfig
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from docker import DockerClient

from fakes.tiny_hf import write_tiny_hf
from parts.dockerd import Dockerd
from pipeline.core.errors import FailureKind
from pipeline.core.record import Record
from pipeline.machine import process
from support import forked
from support.cli import Result, command, stub_overrides
from support.places import ROOT, TESTS

pytestmark = pytest.mark.live
PACKAGES = sysconfig.get_paths()["purelib"]
Command = Callable[..., Sequence[str]]


@pytest.fixture
def argv(dockerd: Dockerd, image: str, tmp_path: Path) -> Command:
    """The command of a trial or a sweep in containers; the stand-in reads this project and its packages."""

    def make(*overrides: str, sweep: bool = False) -> Sequence[str]:
        return [
            *command(sweep=sweep),
            *stub_overrides(tmp_path / "out", write_tiny_hf(tmp_path / "tiny")),
            "runtime=sglang",
            "model=local",
            "hardware=h100",
            "hardware.vendor=null",
            "backend=docker",
            f"backend.container.image={image}",
            f"backend.container.socket={dockerd.host}",
            "backend.container.pull=never",
            "backend.container.ulimits={memlock:null,stack:null}",  # a machine may not be allowed to raise them
            "backend.container.shm_size_gib=0.1",
            f"backend.container.mounts=[{ROOT},{PACKAGES}]",
            f"+runtime.env.PYTHONPATH={TESTS}/fakes/site:{ROOT}:{PACKAGES}",
            "runtime.stop_grace_s=2",
            *overrides,
        ]

    return make


@pytest.fixture
def run(argv: Command, tmp_path: Path) -> Callable[..., Result]:
    """Run it to its end."""

    def go(*overrides: str, sweep: bool = False) -> Result:
        done = forked.run(argv(*overrides, sweep=sweep), timeout_s=120)
        return Result(code=done.returncode, out=done.stdout, err=done.stderr, folder=tmp_path / "out")

    return go


def test_a_sweep_in_containers_leaves_results_and_nothing_else(
    run: Callable[..., Result], client: DockerClient
) -> None:
    result = run("attention_backend=flashinfer,fa3", "page_size=32,64", sweep=True)
    assert result.code == 0, result.err + result.out
    assert [record.status for record in result.records] == ["ok"] * 4
    for record in result.records:
        assert record.settings is not None
        assert record.settings["page_size"] == record.config.knobs["page_size"]
        assert record.deployment["image_id"].startswith("sha256:")
        assert record.deployment["docker_run"].startswith("docker run --name servetune-")
        assert record.teardown is not None
        assert record.teardown.is_clean
    assert (result.folder / "0" / "server.log").read_text()
    assert client.containers.list(all=True, ignore_removed=True) == []


def test_trials_in_parallel_share_two_slots_and_nothing_else(run: Callable[..., Result], client: DockerClient) -> None:
    """Three workers, two GPUs: the third worker's trial waits for one, whoever gives it back."""
    knobs = ("attention_backend=flashinfer,fa3", "page_size=32,64")
    long = ("+runtime.env.STANDIN_FAULT=slow_start:8", "runtime.health.timeout_s=60")  # longer than a worker's start
    parallel = ("hydra/launcher=parallel", "hydra.launcher.n_jobs=3", "hardware.gpu_count=2")
    result = run(*knobs, *long, *parallel, sweep=True)
    assert result.code == 0, result.err + result.out
    records = result.records
    assert [record.status for record in records] == ["ok"] * 4
    assert {record.deployment["gpus"] for record in records} == {"0", "1"}
    by_gpu = [[record for record in records if record.deployment["gpus"] == gpu] for gpu in ("0", "1")]
    for served in by_gpu:
        spans = sorted(served_from_to(record) for record in served)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans)), spans
    (first, *_), (other, *_) = (sorted(map(served_from_to, served)) for served in by_gpu)
    assert max(first[0], other[0]) < min(first[1], other[1]), "two at once"
    assert len({result.lease(number)["port"] for number in range(4)}) == 4
    assert any("ran on this machine meanwhile" in note for record in records for note in record.notes)
    assert "waiting for 1 GPU" in result.out
    assert client.containers.list(all=True, ignore_removed=True) == []


def served_from_to(record: Record) -> tuple[float, float]:
    """When the trial had its GPU, by its own clock: after it waited for it, until its server was gone."""
    begin = record.started_at.timestamp()
    ends = {}
    for step in record.steps:
        begin += step.seconds
        ends[step.step] = begin
    return ends["slots"], ends["teardown"]


def test_gpus_that_docker_cannot_give_are_told_before_anything_is_made(
    run: Callable[..., Result], client: DockerClient
) -> None:
    result = run("hardware.vendor=nvidia")
    assert (result.code, result.records) == (2, [])
    assert "cannot run here: The trial needs 1 GPU, but this Docker has no NVIDIA runtime." in result.err
    assert not result.folder.exists()
    assert client.containers.list(all=True, ignore_removed=True) == []


def test_an_engine_that_dies_in_its_container_is_diagnosed(run: Callable[..., Result], client: DockerClient) -> None:
    failure = run("+runtime.env.STANDIN_FAULT=oom_at_load").record.failure
    assert failure is not None
    assert failure.kind == FailureKind.OOM_GPU
    assert client.containers.list(all=True, ignore_removed=True) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill-9"])
def test_nothing_outlives_a_trial_that_is_stopped(
    argv: Command, tmp_path: Path, client: DockerClient, signum: signal.Signals
) -> None:
    """After kill -9 it is the keeper that removes the container."""
    words = argv("+runtime.env.STANDIN_FAULT=hang_at_start", "runtime.health.timeout_s=60")
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as us:
        is_up = lambda: any(one.status == "running" for one in client.containers.list(ignore_removed=True))  # noqa: E731
        assert process.wait_until(is_up, timeout_s=180)
        (os.killpg if signum == signal.SIGINT else os.kill)(us.pid, signum)
        us.communicate(timeout=40)
    assert process.wait_until(lambda: client.containers.list(all=True, ignore_removed=True) == [], timeout_s=180)
    leases = list((tmp_path / "state" / "leases").glob("*.json"))
    assert process.wait_until(lambda: not any(path.exists() for path in leases), timeout_s=180)
