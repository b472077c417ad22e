"""The foster parent of an engine: starts it, and adopts what its processes leave behind when they end.

`python -I -S foster.py ARGV`, started by fostered.py alone. An engine's child whose own parent has died would be given
to the machine's first process, and a child that has also wiped its environment and left the session could not be found
any more. As a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER, Linux 3.4) we are given such children, so that all that
comes of an engine stays below one process. We outlive whoever started us and end with the last process below.

Its variable FOSTER names the lease; the engine gets LABEL in its place. Our words, a line each: `started PID`, or
`failed ERRNO`; then `ended STATUS`. Imports nothing of the pipeline: it must start in no time.
"""

import ctypes
import os
import signal
import sys
from contextlib import suppress

LABEL, FOSTER = "SERVETUNE_LEASE", "SERVETUNE_FOSTER"
PR_SET_CHILD_SUBREAPER = 36  # <sys/prctl.h>
DEAF = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
PYTHONS_OWN = (signal.SIGPIPE, signal.SIGXFSZ)  # ignored by the interpreter; subprocess gives them back likewise


def main(argv: list[str]) -> int:
    """Start it, say so, and wait until nothing is left below us."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    heard = [number for number in DEAF if signal.getsignal(number) is not signal.SIG_IGN]
    for number in DEAF:  # who stops everything of a job would leave the children to nobody
        signal.signal(number, signal.SIG_IGN)
    env = {name: text for name, text in os.environ.items() if name != FOSTER}
    env[LABEL] = os.environ[FOSTER]
    try:
        engine = os.posix_spawnp(
            argv[0],
            argv,
            env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, 2, 1),  # our own stdout is for our words
            ],
            setsid=True,
            setsigdef=[*heard, *PYTHONS_OWN],
        )
    except OSError as error:
        tell("failed", error.errno or 0)
        return 1
    tell("started", engine)
    with suppress(ChildProcessError):  # there are no more
        while True:
            pid, status = os.wait()
            if pid == engine:
                tell("ended", os.waitstatus_to_exitcode(status))
    return 0


def tell(word: str, number: int) -> None:
    """To whoever started us, if it still lives."""
    with suppress(OSError):
        os.write(1, f"{word} {number}\n".encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
