"""The keeper: a process that outlives its trial's process, only to remove what the trial left behind.

It holds the read end of a pipe. A byte means "torn down, go home"; the end of the pipe without one means that the
owner vanished (SIGKILL, OOM killer, crash) or could not clean up. Started before the deployment, in a session of its
own. It goes by the lease in the state directory: the run directory may be deleted meanwhile. Until it has something to
note or to remove it is machine/waiting.py, which takes a quarter of its memory.
"""

import os
import select
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.backends import belongings, lease, teardown
from pipeline.core.files import RunDir
from pipeline.core.values import load
from pipeline.machine import process, shared_memory, signals, waiting

DONE = b"."
PATIENCE_S = 30.0  # beyond the engine's own time to stop
REMAINS = 3
WATCH_S = waiting.LOOK_S  # between two looks at /dev/shm
EARLIER_S = 1.0  # what the clock of files may be behind


def start(owned: lease.Lease, files: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """A keeper for the lease, which must be on disk. It holds the locks of these open files too, while it lives.

    Raises:
        OSError: it cannot be started.
    """
    since = int((owned.created_at.timestamp() - EARLIER_S) * 1e9)
    quick = (sys.executable, "-I", "-S", waiting.__file__, str(since), str(shared_memory.PLACE))
    command = (*quick, *process.python("pipeline.backends.keeper"), str(lease.registered(owned.label)))
    return process.spawn_piped(command, log=RunDir(owned.run_dir).keeper_log, env=dict(os.environ), files=files)


def dismiss(keeper: subprocess.Popen[bytes], owned: lease.Lease, *, is_clean: bool) -> None:
    """Send it home if all is removed; else it tries too, and is waited for, though not for ever."""
    for pipe in (keeper.stdin, keeper.stdout):
        if pipe:
            with pipe, suppress(OSError):  # it may be dead already
                if is_clean and pipe is keeper.stdin:
                    pipe.write(DONE)
    with suppress(subprocess.TimeoutExpired):
        keeper.wait(timeout=owned.stop_grace_s + PATIENCE_S + 5)


def main(path: Path, *, is_alone: bool) -> int:
    """Wait for the byte or the end of the pipe; in the second case tear the lease down. 3: something remains.

    `is_alone`: the pipe has ended.
    """
    owned = load(lease.Lease, path)
    if not is_alone and _word(owned) == DONE:
        return 0
    owned = lease.current(owned)
    if owned.released and owned.released.is_clean:
        return 0
    with signals.deadline(owned.stop_grace_s + PATIENCE_S, "Teardown by the keeper"):
        return 0 if teardown.run(owned, by="keeper").is_clean else REMAINS


def _word(owned: lease.Lease) -> bytes:
    """The owner's last word, empty if it vanished. Meanwhile it is noted what the engine makes in /dev/shm."""
    watch, door = belongings.Watch(owned), sys.stdin.fileno()
    while not select.select([door], [], [], WATCH_S)[0]:
        with suppress(Exception):  # what cannot be noted now may be later; the owner's end must be noticed in any case
            watch.look()
    return os.read(door, 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), is_alone=sys.argv[2:] == [waiting.GONE]))
