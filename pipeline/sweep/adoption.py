"""A trial that another process began: its result is kept, or its files are moved aside before the trial runs again."""

import sys

from hydra.core.utils import JobReturn
from pydantic import ValidationError

from pipeline.backends import lease
from pipeline.core import readable
from pipeline.core.errors import ConfigError, FailureKind
from pipeline.core.files import RunDir, SweepDir
from pipeline.core.record import Record
from pipeline.core.values import load
from pipeline.machine import identity, process
from pipeline.trial import postmortem

TEARDOWN_S = 300.0  # for a trial that is at its teardown, because its sweep was killed
NO_RECORD = "no record"  # of a combination that is refused before its trial begins


def finished(run_dir: RunDir) -> Record | None:
    """The record of a trial that had come to its end before its process did."""
    found = record_of(run_dir)
    return None if found is None or found.is_unfinished or is_for_lack_of_space(found) else found


def is_final(found: Record | None) -> bool:
    """Whether a trial whose job is run again need not be: one that has failed may only have felt the job's end."""
    return found is not None and found.status in {"ok", "refused"}


def is_for_lack_of_space(found: Record) -> bool:
    """Whether a trial failed because a disk was full: with space, the same trial may be another one."""
    return found.failure is not None and found.failure.kind == FailureKind.DISK_FULL


def record_of(run_dir: RunDir) -> Record | None:
    """The record that a trial has left, if it has."""
    try:
        return readable.read(Record, run_dir.record)
    except (OSError, ValidationError):
        return None


def unrecorded(number: int, result: JobReturn) -> str:
    """The kind of failure of a trial that left no record; said where it is the user's to mend: nobody else would."""
    why = result._return_value  # noqa: SLF001 - `return_value` would raise it
    if isinstance(why, ConfigError):
        sys.stderr.write(f"Trial {number} did not run: {why}\n")
        return NO_RECORD
    return str(FailureKind.WORKER_DIED)


def put_aside(sweep: SweepDir, number: int) -> None:
    """Tear down what is left of the trial, and keep its folder as an earlier attempt.

    Raises:
        OSError: the folder cannot be moved.
    """
    run_dir = sweep.trial(number)
    if not run_dir.path.exists():
        return
    process.wait_until(lambda: not _is_owned(run_dir), timeout_s=TEARDOWN_S)
    postmortem.tear_down(run_dir)
    sweep.attempts.mkdir(exist_ok=True)
    had = sum(1 for _ in sweep.attempts.glob(f"{number}-*"))
    run_dir.path.rename(sweep.attempts / f"{number}-{had}")


def _is_owned(run_dir: RunDir) -> bool:
    """Whether a process is still at the trial."""
    try:
        owned = load(lease.Lease, run_dir.lease)
    except (OSError, ValidationError):
        return False
    here = identity.of().host == owned.owner.host
    return owned.released is None and here and identity.is_alive(owned.owner)
