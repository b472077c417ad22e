"""Runs Slurm's commands: where jobs are in the queue, how they ended, and how to stop them."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.core.values import value
from pipeline.machine import process

FIELDS = ("JobID", "State", "Reason", "NodeList", "TimeUsed", "TimeLimit", "RestartCnt", "exit_code")
WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
AT_WORK = frozenset(
    {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
)
NEVER = re.compile(  # reasons that do not pass by waiting. Source: squeue(1), JOB REASON CODES
    r"BadConstraints|PartitionTimeLimit|PartitionNodeLimit|PartitionInactive|AccountNotAllowed|QOSNotAllowed|"
    r"InvalidAccount|InvalidQOS|DependencyNeverSatisfied|JobHeld(User|Admin)|launch[ _]failed[ _]requeued[ _]held|"
    r"MaxMemPerLimit|(Assoc|QOS)\w*PerJob\w*",
    re.IGNORECASE,
)
OOM = re.compile(rb"Detected \d+ oom[-_]kill event")  # Source: slurmd/slurmstepd/mgr.c
TIMEOUT_S = 60.0


class SlurmSilent(PipelineError):
    """Slurm does not answer. Its jobs continue without it."""

    hint = "Check `scontrol ping`. Jobs of the sweep that are still in the queue: squeue --me"


@value
class Seen:
    """A job as Slurm tells it. `elapsed_s` and `limit_s`: None where it has none."""

    job: str
    state: str  # RUNNING, PENDING, OUT_OF_MEMORY, ...; squeue(1), JOB STATE CODES
    reason: str = ""
    node: str = ""
    elapsed_s: int | None = None
    limit_s: int | None = None
    restarts: int = 0
    exit_code: str = ""  # code:signal, as sacct(1) has it

    @property
    def died_of(self) -> str | None:
        """The signal that ended it unheard, by its own status or by its shell's."""
        found = re.fullmatch(r"(\d+):(\d+)", self.exit_code)
        number = int(found[2]) or int(found[1]) - 128 if found else 0
        return signal.Signals(number).name if number in set(signal.Signals) else None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state not in WAITING | AT_WORK

    @property
    def is_hopeless(self) -> bool:
        """Whether it waits for something that does not come by waiting."""
        return self.state in WAITING and NEVER.search(self.reason) is not None


def has_accounting() -> bool:
    """Whether Slurm remembers jobs that have left its queue.

    Raises:
        SlurmSilent: it does not answer.
    """
    return re.search(r"AccountingStorageType\s*=\s*\S*slurmdbd", _ask("scontrol", "show", "config")) is not None


def look(jobs: Sequence[str]) -> dict[str, Seen]:
    """The jobs by their ids, from the queue, or from the accounting where they have left it; unknown ones are missing.

    Raises:
        SlurmSilent: it does not answer.
    """
    wanted = f"--jobs={','.join(jobs)}"
    fields = ",".join(f"{name}:|" for name in FIELDS)
    found = {
        seen.job: seen for seen in _queued(_ask("squeue", "--noheader", "--states=all", wanted, f"--Format={fields}"))
    }
    if gone := [job for job in jobs if job not in found]:
        found |= {seen.job: seen for seen in _accounted(gone)}
    return found


def past(job: str) -> frozenset[str]:
    """Every state that its steps and its earlier attempts ended in; nothing without accounting."""
    try:
        rows = _sacct([job], "State", "--duplicates")
    except SlurmSilent:
        return frozenset()
    return frozenset(row[0].split()[0] for row in rows if row[0])


def logged(folder: Path) -> frozenset[str]:
    """The same, of what Slurm wrote into a job's logs: the accounting may hear of it later, or there is none."""
    texts = (path.read_bytes() for path in folder.glob("*log.*"))
    return frozenset({"OUT_OF_MEMORY"}) if any(OOM.search(text) for text in texts) else frozenset()


def cancel(jobs: Sequence[str]) -> None:
    """Have the jobs ended: a running one is told by SIGTERM, and killed after Slurm's KillWait.

    Raises:
        SlurmSilent: it does not answer.
    """
    if jobs:
        _ask("scancel", *jobs)


def tell_to_stop(jobs: Sequence[str]) -> None:
    """Cancel those that wait; send SIGTERM to those that run, and leave them the time that they need.

    Raises:
        SlurmSilent: it does not answer.
    """
    if jobs:
        _ask("scancel", "--state=PENDING", *jobs)
        _ask("scancel", "--state=RUNNING", "--signal=TERM", *jobs)


def left_in(folder: str) -> list[str]:
    """The jobs in the queue whose scripts lie below this folder.

    Raises:
        SlurmSilent: it does not answer.
    """
    rows = (line.split("|") for line in _ask("squeue", "--noheader", "--me", "--Format=JobID:|,Command:|").splitlines())
    return [row[0].strip() for row in rows if row[1].strip().startswith(f"{folder}/")]


def seconds(told: str) -> int | None:
    """`1-02:03:04`, `02:03:04` or `03:04` in seconds; None for UNLIMITED and the like."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", told.strip())
    if found is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def _queued(said: str) -> Iterator[Seen]:
    for line in said.splitlines():
        parts = [part.strip() for part in line.split("|")]
        if len(parts) < len(FIELDS):
            continue
        job, state, reason, node, elapsed, limit, restarts, code = parts[: len(FIELDS)]
        yield Seen(
            job=job,
            state=state,
            reason=reason,
            node=node,
            elapsed_s=seconds(elapsed),
            limit_s=seconds(limit),
            restarts=int(restarts) if restarts.isdigit() else 0,
            exit_code=f"{int(code) >> 8}:{int(code) & 127}" if code.isdigit() else code,  # as wait(2) has it
        )


def _accounted(jobs: Sequence[str]) -> Iterator[Seen]:
    try:
        rows = _sacct(jobs, "JobID,State,NodeList,Elapsed,Timelimit,ExitCode", "--allocations")
    except SlurmSilent:  # no accounting
        return
    for job, state, node, elapsed, limit, code in rows:
        yield Seen(
            job=job,
            state=state.split()[0] if state else "UNKNOWN",  # CANCELLED by 1000
            node=node,
            elapsed_s=seconds(elapsed),
            limit_s=seconds(limit),
            exit_code=code,
        )


def _sacct(jobs: Sequence[str], fields: str, *flags: str) -> list[list[str]]:
    said = _ask("sacct", "--noheader", "--parsable2", f"--format={fields}", f"--jobs={','.join(jobs)}", *flags)
    return [line.split("|") for line in said.splitlines() if line]


def _ask(*argv: str) -> str:
    try:
        done = process.ask(argv, env=os.environ, timeout_s=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmSilent(f"{argv[0]} did not answer: {error}.") from error
    if done.returncode and not re.search(r"[Ii]nvalid job id", done.stderr):
        said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise SlurmSilent(f"{argv[0]} failed: {said[0].rstrip('.')}.")
    return done.stdout
