"""The engine's other processes: they do nothing but be there, die when told, and never outlive the engine."""

import os
import signal
import sys
from collections.abc import Callable, Sequence

OneRank = Callable[[str], None]  # what a process does when it is told to die: its name is given, it does not return


class Ranks:
    """Forked before the engine has threads; all wait on one pipe, whose other end only the engine holds.

    However the engine ends, the kernel closes that end, they read nothing and go.
    """

    def __init__(self, names: Sequence[str], dies: OneRank) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._read, self._write = os.pipe()
        self.pids = [self._fork(name, dies) for name in names]
        os.close(self._read)

    def _fork(self, name: str, dies: OneRank) -> int:
        pid = os.fork()
        if pid:
            return pid
        os.close(self._write)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if os.read(self._read, 1):
            dies(name)
        os._exit(0)

    def kill_one(self) -> int:
        """Tell one to die; its wait status, when it has."""
        os.write(self._write, b"x")
        _, status = os.wait()
        return os.waitstatus_to_exitcode(status)

    def tell_one_to_die(self) -> None:
        """Without waiting: it will say so itself."""
        os.write(self._write, b"x")

    def kill(self) -> None:
        """All of them, and wait for their ends."""
        for pid in self.pids:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                continue
