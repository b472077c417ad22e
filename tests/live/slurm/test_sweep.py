"""Sweeps on a real Slurm, by the command line: what Slurm does to a job costs its trial at most, never the sweep."""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from parts.nvml import Machine
from parts.slurm import Cluster
from pipeline import stop
from pipeline.core.errors import FailureKind
from pipeline.core.record import Record
from support.cli import command, real_overrides, stub_overrides
from support.places import STUB_ENGINE, TESTS
from support.sweeping import Running, running

pytestmark = pytest.mark.live
LONG = "traffic.max_time_per_level_s=120"  # a level that hangs must not end before its node does
SLURM = (
    "hydra/launcher=submitit_slurm",
    "hydra.launcher.array_parallelism=2",
    "hydra.launcher.poll_s=0.2",
    "hydra.launcher.timeout_min=5",
    "runtime.stop_grace_s=0.5",
    "runtime.health.interval_s=0.02",
)


@contextmanager
def sweep(folder: Path, gguf: Path, *overrides: str, bench: str | None) -> Iterator[Running]:
    """Start a sweep as a shell does: in a process group of its own. `bench` says what genai-bench's stand-in does."""
    stubs = [*stub_overrides(folder / "out", gguf), "traffic.concurrencies=[1]"]
    argv = [*command(sweep=True), *(stubs if bench else real_overrides(folder / "out", gguf)), *SLURM, *overrides]
    with running(argv, folder, {"STUB_BENCH": bench or ""}) as started:
        yield started


def failure(record: Record) -> tuple[FailureKind, str]:
    assert record.status == "failed"
    assert record.failure is not None
    return record.failure.kind, record.failure.message


def overlap(one: Record, other: Record) -> bool:
    return one.started_at < other.ended_at and other.started_at < one.ended_at


def job_of(slurm: Cluster, trial: int) -> str:
    """The job of a trial: the first test's first job has Slurm's lowest number."""
    jobs = sorted(int(line.split()[0]) for line in slurm.jobs)
    return str(jobs[trial])


def test_trials_are_jobs_two_at_a_time(tmp_path: Path, tiny_gguf: Path, slurm: Cluster) -> None:
    with sweep(tmp_path, tiny_gguf, "parallel=2,4,6,8", bench="sleep:1") as us:
        result = us.end()
    assert (result.code, [record.status for record in result.records]) == (0, ["ok"] * 4), result
    starts = [sum(one.started_at <= two.started_at < one.ended_at for one in result.records) for two in result.records]
    assert max(starts) == 2
    assert "[0] trial 1/4: parallel=2" in result.out
    assert f"running on {slurm.node}" in result.out
    assert result.err == ""


def test_a_trial_takes_the_gpu_that_its_job_was_given(
    tmp_path: Path, tiny_gguf: Path, slurm: Cluster, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.has(4)  # Slurm gives out the first two
    monkeypatch.setenv("PATH", str(TESTS / "fakes" / "bin"), prepend=os.pathsep)  # nvidia-smi
    box = ("hardware=l4", "hydra.launcher.array_parallelism=3")
    with sweep(tmp_path, tiny_gguf, *box, "parallel=2,4,6", bench="sleep:2") as us:
        result = us.end()
    assert (result.code, [record.status for record in result.records]) == (0, ["ok"] * 3), result
    assert {record.deployment["gpus"] for record in result.records} == {"0", "1"}
    assert not overlap(result.records[0], result.records[2]) or not overlap(result.records[1], result.records[2])


def test_a_cancelled_job_is_one_failed_trial(tmp_path: Path, tiny_gguf: Path, slurm: Cluster) -> None:
    go = tmp_path / "go"
    with sweep(tmp_path, tiny_gguf, "parallel=2,4", bench=f"until:{go}") as us:
        us.await_levels(0, 1)
        job = job_of(slurm, 0)
        slurm.ask("scancel", job)
        go.touch()
        result = us.end()
        assert us.processes() == []
    kind, message = failure(result.records[0])
    assert kind == FailureKind.CANCELLED
    assert f"Slurm job {job} ended as CANCELLED on {slurm.node}" in message
    assert f".submitit/{job}" in message
    assert result.records[0].teardown is not None
    assert result.records[0].teardown.by == "trial"
    assert (result.records[1].status, result.code) == ("ok", 0)


def test_a_job_without_memory_is_one_failed_trial(tmp_path: Path, tiny_gguf: Path, slurm: Cluster) -> None:
    with sweep(tmp_path, tiny_gguf, "hydra.launcher.mem_gb=0.03", "parallel=2,4", bench="ok") as us:
        result = us.end()
    assert [failure(record)[0] for record in result.records] == [FailureKind.OOM_HOST] * 2
    assert result.code == 1


def test_a_job_whose_node_dies_is_one_failed_trial(tmp_path: Path, tiny_gguf: Path, slurm: Cluster) -> None:
    with sweep(tmp_path, tiny_gguf, "parallel=2", LONG, bench="hang") as us:
        us.await_levels(0)
        slurm.kill_node()
        result = us.end()
    assert failure(result.record)[0] == FailureKind.NODE_FAILED
    assert result.code == 1


def test_a_node_s_death_that_is_accounted_late_is_told_all_the_same(
    tmp_path: Path, tiny_gguf: Path, slurm: Cluster
) -> None:
    with sweep(tmp_path, tiny_gguf, "parallel=2", LONG, bench="hang") as us:
        us.await_levels(0)
        with slurm.unaccounted():
            slurm.kill_node()
            us.await_that(lambda: any(" PENDING " in line for line in slurm.jobs))
            time.sleep(2)  # many looks at it
            assert us.child.poll() is None
        result = us.end()
    assert failure(result.record)[0] == FailureKind.NODE_FAILED


NEVER = {
    "longer-than-its-partition": ["hydra.launcher.timeout_min=60"],
    "refused-at-once": ["hydra.launcher.constraint=none_has_it"],
    "waits-too-long": [
        "+hydra.launcher.additional_parameters.begin=now+1hour",
        "hydra.launcher.pending_timeout_min=0.02",
    ],
    "held": ["+hydra.launcher.additional_parameters.hold=true"],
}


@pytest.mark.parametrize("overrides", NEVER.values(), ids=NEVER)
def test_a_job_that_never_starts_is_one_failed_trial(
    tmp_path: Path, tiny_gguf: Path, slurm: Cluster, overrides: list[str]
) -> None:
    with sweep(tmp_path, tiny_gguf, *overrides, "parallel=2,4", bench="ok") as us:
        result = us.end()
    assert [failure(record)[0] for record in result.records] == [FailureKind.NEVER_STARTED] * 2
    assert result.code == 1


@pytest.mark.parametrize(
    ("fault", "cause"),
    [("no engine there", "engine', which this user may not execute"), ("jobs do not start", " ended as FAILED on ")],
    ids=lambda item: item if item[0].isalpha() else "",
)
def test_what_the_first_job_lacks_ends_the_sweep(
    tmp_path: Path, tiny_gguf: Path, slurm: Cluster, fault: str, cause: str
) -> None:
    engine, is_there = tmp_path / "engine", fault != "no engine there"
    command = f"runtime.command=[{engine},--port,'{{port}}']"
    words = (command, f"hydra.launcher.setup=['. {tmp_path}/setup']", "parallel=2,4,6", "hydra/sweeper=tuner",
             "hydra.sweeper.confirm=0")  # fmt: skip
    (tmp_path / "setup").write_text("exit 3\n" if is_there else "")
    mended = f'#!/bin/sh\nexec {sys.executable} {STUB_ENGINE} "$@"\n'
    engine.write_text(mended)
    engine.chmod(0o755 if is_there else 0o600)
    before = len(slurm.jobs)
    with sweep(tmp_path, tiny_gguf, *words, bench="ok") as us:
        result = us.end()
    assert (result.code, result.records) == (2, [])
    assert result.err.startswith("error: No trial of this sweep can run where Slurm runs it: ")
    assert (result.err + result.out).count(cause) == 1, result
    assert "rank  trial" not in result.out
    assert len(slurm.jobs) - before <= 2  # array_parallelism
    (tmp_path / "setup").write_text("")
    engine.chmod(0o755)
    with sweep(tmp_path, tiny_gguf, *words, bench="ok") as us:  # trial 0, the baseline, runs again, too
        again = us.end()
    assert (again.code, [record.status for record in again.records]) == (0, ["ok"] * 4), again
    assert again.records[0].is_baseline


def test_a_model_that_only_some_jobs_want_costs_those_alone(tmp_path: Path, tiny_gguf: Path, slurm: Cluster) -> None:
    with sweep(tmp_path, tiny_gguf, f"model.path=/nope.gguf,{tiny_gguf}", bench="ok") as us:
        result = us.end()
    assert (result.code, [record.status for record in result.records]) == (0, ["failed", "ok"]), result


def test_before_its_time_limit_a_trial_tears_down(tmp_path: Path, tiny_gguf: Path, slurm: Cluster) -> None:
    """Slurm looks every 30 s and signals up to as much early: 29 s to 59 s after the job's start."""
    limit = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=1", LONG)
    with sweep(tmp_path, tiny_gguf, *limit, "parallel=2", bench="hang") as us:
        result = us.end()
        assert us.processes() == []
    assert failure(result.record)[0] == FailureKind.TIME_LIMIT
    assert result.record.teardown is not None
    assert (result.record.teardown.by, result.record.teardown.remaining) == ("trial", ())


def test_a_time_limit_before_the_trial_has_begun_is_told_as_one(
    tmp_path: Path, tiny_gguf: Path, slurm: Cluster
) -> None:
    with sweep(tmp_path, tiny_gguf, "hydra.launcher.timeout_min=1", "parallel=2", LONG, bench="hang") as us:
        us.await_that(lambda: any("RUNNING" in line for line in slurm.jobs))
        us.await_that(lambda: bool(us.processes("submitit.core._submit")))
        slurm.ask("scancel", "--signal=USR2", job_of(slurm, 0))
        result = us.end()
    assert failure(result.record)[0] == FailureKind.TIME_LIMIT, result


def requeue(slurm: Cluster) -> None:
    slurm.ask("scontrol", "requeue", job_of(slurm, 0))


def preempt(slurm: Cluster) -> None:
    slurm.ask("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true")


@pytest.mark.parametrize("act", [requeue, preempt])
def test_a_trial_whose_job_is_requeued_begins_anew(
    tmp_path: Path, tiny_gguf: Path, slurm: Cluster, act: Callable[[Cluster], None]
) -> None:
    go = tmp_path / "go"
    with sweep(tmp_path, tiny_gguf, "parallel=2", bench=f"until:{go}") as us:
        us.await_levels(0)
        act(slurm)
        us.await_that((us.folder / "attempts" / "0-0").exists)
        go.touch()
        result = us.end()
    assert (result.record.status, result.record.number, result.code) == ("ok", 0, 0), result
    assert (tmp_path / "out" / "attempts" / "0-0" / "lease.json").exists()


def test_a_killed_sweep_goes_on_without_the_jobs_it_left(tmp_path: Path, tiny_gguf: Path, slurm: Cluster) -> None:
    later = ("hydra/sweeper=tuner", "hydra.sweeper.baseline=false", "hydra.launcher.array_parallelism=3")
    with sweep(tmp_path, tiny_gguf, *later, "parallel=2,4,6", bench="sleep:100") as killed:
        killed.await_levels(0, 1)
        killed.await_that(lambda: len(slurm.jobs) == 3)
        slurm.ask("scontrol", "hold", job_of(slurm, 2))  # else it may start, and end, before the next sweep looks
        killed.child.kill()
        killed.end()
    with sweep(tmp_path, tiny_gguf, *later, "parallel=2,4,6", bench="ok") as us:
        result = us.end()
    assert "Cancelling jobs that an earlier run of this sweep left in the queue: " in result.out, result
    assert (result.code, [record.status for record in result.records]) == (0, ["ok"] * 3), result
    assert [record.number for record in result.records] == [0, 1, 2]


def test_a_ctrl_c_leaves_no_job(tmp_path: Path, tiny_gguf: Path, slurm: Cluster) -> None:
    waiting = ("hydra.launcher.array_parallelism=3", "parallel=2,4,6")  # the node has two cores
    with sweep(tmp_path, tiny_gguf, *waiting, bench="hang") as us:
        us.await_levels(0, 1)
        os.killpg(us.child.pid, signal.SIGINT)
        result = us.end()
        assert slurm.jobs == []
        assert us.processes() == []
    assert result.code == 128 + signal.SIGINT
    assert [record.status for record in result.records] == ["interrupted"] * 2
    assert [record.teardown.by for record in result.records if record.teardown] == ["trial"] * 2


def test_stop_ends_one_job_and_then_all(
    tmp_path: Path, tiny_gguf: Path, slurm: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    with sweep(tmp_path, tiny_gguf, "parallel=2,4", bench="hang") as us:
        us.await_levels(0, 1)
        first = stop.main([str(us.folder), "0"])
        us.await_that(lambda: len(slurm.jobs) == 1)
        then = stop.main([str(us.folder)])
        result = us.end()
        assert slurm.jobs == []
        assert us.processes() == []
    assert (first, then) == (0, 0), capsys.readouterr().out
    kinds = [(record.status, record.failure.kind) for record in result.records if record.failure]
    assert kinds == [("interrupted", FailureKind.STOPPED), ("interrupted", FailureKind.INTERRUPTED)], result


@pytest.mark.timeout(1200)
def test_a_real_sweep_outlives_all_of_it_and_ends_in_a_verdict(
    tmp_path: Path, tiny_gguf: Path, slurm: Cluster, needs: Callable[..., None]
) -> None:
    """One job cancelled, one without memory, one whose engine answers no more until its time is over."""
    needs("genai_bench", "xllamacpp")
    limits = ("hydra.launcher.timeout_min=20", "hydra.launcher.signal_delay_s=15", "hydra.launcher.array_parallelism=3")
    with sweep(tmp_path, tiny_gguf, *limits, "hydra.sweeper.confirm=2", bench=None) as us:
        us.await_that(lambda: len(slurm.jobs) == 3)  # the node has two cores: the third one waits
        cancelled, starved = (job_of(slurm, trial) for trial in (1, 2))
        slurm.ask("scontrol", "update", f"JobId={starved}", "MinMemoryNode=40")
        us.await_that((us.folder / "1" / "lease.json").exists)
        slurm.ask("scancel", cancelled)
        us.await_levels(3)
        hung = us.folder / "3" / "lease.json"
        os.kill(json.loads(hung.read_text())["pid"], signal.SIGSTOP)
        ends_min = 2 + int(time.time() - hung.stat().st_mtime) // 60  # the job is a little older
        job = us.worker_of(3).environ()["SLURM_JOB_ID"]
        slurm.ask("scontrol", "update", f"JobId={job}", f"TimeLimit={ends_min}")
        result = us.end(timeout_s=1000)
        assert us.processes() == []
    searched = [record for record in result.records if record.phase == "search"]
    failed = {record.number: failure(record)[0] for record in searched if record.status != "ok"}
    assert failed == {1: FailureKind.CANCELLED, 2: FailureKind.OOM_HOST, 3: FailureKind.TIME_LIMIT}, result
    assert len(searched) == 6
    assert result.code == 0
    assert re.search(r"by 2 alternating rounds: (better|worse|no difference)|Nothing was better", result.out), result
    assert (us.folder / "report.html").exists()
    assert slurm.jobs == []
