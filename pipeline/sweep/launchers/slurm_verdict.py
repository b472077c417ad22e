"""What the end of a Slurm job means for its trial. Pure."""

from collections.abc import Collection, Mapping
from typing import Protocol

from pipeline.core.errors import FailureKind, JobEnded
from pipeline.sweep.launchers.slurm import Seen, SlurmSilent

EARLY_S = 60  # Slurm may send the signal of a time limit so much earlier than asked for. Source: sbatch(1), --signal


class Terms(Protocol):
    """The settings of hydra.launcher that matter here."""

    @property
    def signal_delay_s(self) -> int:
        """How long before the time limit Slurm sends its signal."""


def of(seen: Seen, past: Collection[str], stopped_by: str | None, terms: Terms) -> JobEnded:
    """Why a job has ended, should its trial not know better. `past`: states of its steps and earlier attempts.

    `stopped_by`: the signal that the trial has heard; before it hears any, the job dies of one. One that nobody of ours
    has sent is a preemption.
    """
    stopped_by = stopped_by or seen.died_of
    if seen.state == "CANCELLED":
        return _error(
            seen, FailureKind.CANCELLED, "A user or an administrator cancelled the job: `sacct -j` shows who."
        )
    if seen.state in {"TIMEOUT", "DEADLINE"} or (stopped_by == "SIGUSR2" and _is_late(seen, terms)):
        return _error(seen, FailureKind.TIME_LIMIT, "Raise hydra.launcher.timeout_min, or measure fewer levels.")
    if seen.state in {"NODE_FAIL", "BOOT_FAIL"}:
        return node_failed(seen)
    if "OUT_OF_MEMORY" in {seen.state, *past}:
        return _error(seen, FailureKind.OOM_HOST, "Request more memory: hydra.launcher.mem_gb.")
    if seen.state == "PREEMPTED" or stopped_by in {"SIGTERM", "SIGUSR2"}:
        return preempted(seen, 1)
    return _error(
        seen, FailureKind.WORKER_DIED, "Read the end of the job's logs; `sacct -j` shows the states of its steps."
    )


def never_started(seen: Seen, after_min: float | None) -> JobEnded:
    """The failure of a job that waits for something that will not come, or has waited for `after_min`."""
    why = "which waiting does not change" if after_min is None else f"for {after_min:g} min"
    return JobEnded(
        f"Slurm job {seen.job} never started: pending ({seen.reason}), {why}. It was cancelled.",
        kind=FailureKind.NEVER_STARTED,
        hint="Request what the partition's nodes offer (hydra.launcher.*, `scontrol show partition`), or raise "
        "hydra.launcher.pending_timeout_min.",
    )


def gone(error: SlurmSilent, after_min: float, jobs: Mapping[str, int]) -> SlurmSilent:
    """Slurm has not answered for `after_min`. `jobs`: the trials of those that it may still have, by their ids."""
    there = ", ".join(f"{job} (trial {number})" for job, number in jobs.items())
    left = f"Jobs that it may still run: {there}. They end by themselves." if jobs else "It has no job of the sweep."
    return SlurmSilent(
        f"Slurm has not answered for {after_min:g} min: {error} {left}",
        hint="When `scontrol ping` answers, give the same command again: it counts the trials that have ended, ends "
        "jobs that are left, and goes on. To wait longer, raise hydra.launcher.silent_timeout_min (null: no limit).",
    )


def node_failed(seen: Seen) -> JobEnded:
    """Its node went down: not run again, because a trial that ends a node would go on to the next one."""
    return _error(
        seen, FailureKind.NODE_FAILED, "Check the reason with `sinfo -R`; the node's log may show a GPU error."
    )


def preempted(seen: Seen, times: int) -> JobEnded:
    """Others came first, once too often."""
    return _error(
        seen,
        FailureKind.PREEMPTED,
        f"Preempted {times} times: use another qos or partition, or raise hydra.launcher.max_requeues.",
    )


def _is_late(seen: Seen, terms: Terms) -> bool:
    if seen.elapsed_s is None or seen.limit_s is None:
        return True
    return seen.elapsed_s >= seen.limit_s - terms.signal_delay_s - EARLY_S


def _error(seen: Seen, kind: FailureKind, hint: str) -> JobEnded:
    where = f" on {seen.node}" if seen.node else ""
    code = f", exit code {seen.exit_code}" if seen.exit_code else ""
    return JobEnded(f"Slurm job {seen.job} ended as {seen.state}{where}{code}.", kind=kind, hint=hint)
