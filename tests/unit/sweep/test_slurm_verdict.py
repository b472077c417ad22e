"""What Slurm's words mean for a trial."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.core.errors import FailureKind
from pipeline.sweep.launchers import slurm, slurm_verdict
from pipeline.sweep.launchers.slurm import Seen


@dataclass(frozen=True)
class Terms:
    signal_delay_s: int = 120


HOUR = 3600
ENDS = {
    "cancelled": (Seen(job="1", state="CANCELLED"), set(), "SIGTERM", FailureKind.CANCELLED),
    "killed-at-its-limit": (Seen(job="1", state="TIMEOUT"), set(), None, FailureKind.TIME_LIMIT),
    "told-of-its-limit": (
        Seen(job="1", state="FAILED", elapsed_s=HOUR - 170, limit_s=HOUR), set(), "SIGUSR2", FailureKind.TIME_LIMIT,
    ),
    "told-to-go-early": (
        Seen(job="1", state="FAILED", elapsed_s=600, limit_s=HOUR), set(), "SIGUSR2", FailureKind.PREEMPTED,
    ),
    "told-in-its-grace-time": (Seen(job="1", state="FAILED"), set(), "SIGTERM", FailureKind.PREEMPTED),
    "died-before-it-heard-of-its-limit": (
        Seen(job="1", state="FAILED", elapsed_s=9, limit_s=60, exit_code="140:0"), set(), None, FailureKind.TIME_LIMIT,
    ),
    "died-before-it-heard-of-its-end": (
        Seen(job="1", state="FAILED", exit_code="0:15"), set(), None, FailureKind.PREEMPTED,
    ),
    "killed": (Seen(job="1", state="FAILED", exit_code="137:0"), set(), None, FailureKind.WORKER_DIED),
    "preempted-for-good": (Seen(job="1", state="PREEMPTED"), set(), None, FailureKind.PREEMPTED),
    "node-lost": (Seen(job="1", state="NODE_FAIL"), set(), None, FailureKind.NODE_FAILED),
    "out-of-memory": (Seen(job="1", state="OUT_OF_MEMORY"), set(), None, FailureKind.OOM_HOST),
    "a-step-out-of-memory": (Seen(job="1", state="FAILED"), {"FAILED", "OUT_OF_MEMORY"}, None, FailureKind.OOM_HOST),
    "told-in-other-words": (Seen(job="1", state="FAILED", exit_code="N/A"), set(), None, FailureKind.WORKER_DIED),
    "crashed": (Seen(job="1", state="FAILED"), {"FAILED"}, None, FailureKind.WORKER_DIED),
    "forgotten": (Seen(job="1", state="UNKNOWN"), set(), None, FailureKind.WORKER_DIED),
}  # fmt: skip


@pytest.mark.parametrize(("seen", "past", "stopped_by", "kind"), ENDS.values(), ids=ENDS)
def test_an_end_has_its_kind(seen: Seen, past: set[str], stopped_by: str | None, kind: FailureKind) -> None:
    error = slurm_verdict.of(seen, past, stopped_by, Terms())
    assert error.kind == kind
    assert f"Slurm job 1 ended as {seen.state}" in str(error)


REASONS = {
    "PartitionTimeLimit": True,
    "BadConstraints": True,
    "JobHeldUser": True,
    "JobHeldAdmin": True,
    "QOSMaxGRESPerJob": True,
    "AssocMaxWallDurationPerJobLimit": True,
    "launch failed requeued held": True,
    "Resources": False,
    "Priority": False,
    "BeginTime": False,
    "QOSMaxJobsPerUserLimit": False,
    "ReqNodeNotAvail": False,
}


@pytest.mark.parametrize(("reason", "is_hopeless"), REASONS.items(), ids=REASONS)
def test_a_reason_passes_by_waiting_or_does_not(reason: str, is_hopeless: bool) -> None:
    assert Seen(job="1", state="PENDING", reason=reason).is_hopeless == is_hopeless


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("1-02:03:04", 93784), ("02:03:04", 7384), ("3:04", 184), ("0:05", 5), ("UNLIMITED", None), ("", None)],
)
def test_times_are_read(told: str, seconds: int | None) -> None:
    assert slurm.seconds(told) == seconds


@pytest.mark.parametrize(
    ("line", "states"),
    [
        ("slurmstepd-n1: error: Detected 1 oom-kill event(s) in StepId=7.0. Some of your processes", {"OUT_OF_MEMORY"}),
        ("slurmstepd: error: Detected 2 oom_kill events in StepId=7.batch. Some of the step", {"OUT_OF_MEMORY"}),
        ("Traceback (most recent call last): oom", set()),
    ],
)
def test_what_slurm_wrote_into_a_job_s_log_counts(tmp_path: Path, line: str, states: set[str]) -> None:
    (tmp_path / "7_0_log.out").write_text("measuring\n")
    (tmp_path / "7_0_log.err").write_text(f"{line}\n")
    assert slurm.logged(tmp_path) == states
