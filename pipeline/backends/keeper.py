"""The keeper: outlives its trial's process only to remove what that left behind.

It holds the read end of a pipe. A byte means "torn down, go home"; the end of the pipe without one means that the
owner vanished (SIGKILL, OOM killer, crash). Started before the deployment, in a session of its own.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline import process
from pipeline.backends import teardown
from pipeline.backends.lease import Lease
from pipeline.record import RunDir
from pipeline.values import load

DONE = b"."


@contextmanager
def watch(lease: Lease, *, wanted: bool) -> Iterator[None]:
    """A keeper stands by in this scope.

    When the lease's own file does not say at the end that all is removed, the keeper tries too, and is waited for.

    Raises:
        OSError: it cannot be started.
    """
    keeper = _start(lease) if wanted else None
    try:
        yield
    finally:
        if keeper:
            _dismiss(keeper, lease)


def _start(lease: Lease) -> subprocess.Popen[bytes]:
    command = (*process.python("pipeline.backends.keeper"), str(RunDir(lease.run_dir).lease))
    return process.spawn_piped(command, log=RunDir(lease.run_dir).keeper_log, env=dict(os.environ))


def _dismiss(keeper: subprocess.Popen[bytes], lease: Lease) -> None:
    outcome = load(Lease, RunDir(lease.run_dir).lease).released
    with keeper:  # closes the pipes and waits
        if outcome and outcome.is_clean and keeper.stdin:
            with suppress(BrokenPipeError):
                keeper.stdin.write(DONE)


def main(path: Path) -> int:
    """Wait for the byte or the end of the pipe; in the second case tear the lease down. 3: something remains."""
    if os.read(sys.stdin.fileno(), 1) == DONE:
        return 0
    outcome = teardown.run(load(Lease, path), by="keeper")
    return 0 if outcome.is_clean else 3


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
