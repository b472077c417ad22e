"""A child process that serves this one: started once, talks in JSON lines, ends when we end."""

import ctypes
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from pydantic import ValidationError

from pipeline.core.files import save
from pipeline.core.values import load
from pipeline.machine import identity, process
from pipeline.machine.identity import Identity

TICK_S = 0.1
CLOSE_S = 1.0
PREFIX, OWNER = "servetune-", ".owner.json"  # of the temporary folder: its name, and the file that says whose it is
PR_SET_PDEATHSIG = 1  # <sys/prctl.h>

Watch = Callable[[], None]  # asked while we wait; what it raises ends the waiting


class Companion:
    """`python -m <module>` in a session of its own: commands on its stdin, answers on its stdout, words to `log`.

    It and all that it starts carry a label and have a temporary folder of their own, so that nothing outlives `close`.
    """

    def __init__(self, module: str, *, log: Path, env: Mapping[str, str]) -> None:
        self.label = f"{module.rpartition('.')[2]}-{secrets.token_hex(6)}"
        self.log = log
        self.buffer = b""
        self.scratch = scratch()
        own = {process.LABEL: self.label, "TMPDIR": self.scratch.name}
        try:
            self.child: subprocess.Popen[bytes] = process.spawn_piped(
                process.python(module), log=log, env={**env, **own}
            )
        except OSError:
            self.scratch.cleanup()
            raise

    @property
    def is_alive(self) -> bool:
        """Whether it can still answer."""
        return self.child.poll() is None

    def send(self, command: Mapping[str, Any]) -> None:
        """Give it a command, however long; one that is gone is noticed by the missing answer."""
        if self.child.stdin:
            left = memoryview(json.dumps(command).encode() + b"\n")
            try:
                while left:  # a signal, as of a terminal that suspends us, ends a write in the middle
                    left = left[self.child.stdin.write(left) :]
            except BrokenPipeError:
                return

    def answer(self, *, timeout_s: float, watch: Watch = lambda: None) -> dict[str, Any] | None:
        """Its next answer; None when it is silent for `timeout_s` or gone."""
        end = time.monotonic() + timeout_s
        while b"\n" not in self.buffer:
            if self.child.stdout is None or self.child.stdout.closed or time.monotonic() >= end:
                return None
            watch()
            ready, _, _ = select.select([self.child.stdout], [], [], TICK_S)
            if ready:
                data = os.read(self.child.stdout.fileno(), 65536)
                if not data:
                    return None
                self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it, gently if it is waiting for a command; then whatever it started."""
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe:
                pipe.close()
        if not process.wait_until(lambda: not self.is_alive, timeout_s=CLOSE_S, interval_s=0.01):
            self.child.kill()
        self.child.wait()
        process.stop_labelled(self.label, grace_s=0)
        self.scratch.cleanup()


def scratch(kind: str = "") -> TemporaryDirectory[str]:
    """A temporary folder that says whose it is: if we are killed, the next start removes it."""
    made = TemporaryDirectory(prefix=f"{PREFIX}{kind}", ignore_cleanup_errors=True)
    save(Path(made.name, OWNER), identity.of())
    return made


def tidy() -> None:
    """Remove the temporary folders whose owner was killed; folders of other users are left alone."""
    for path in Path(gettempdir()).glob(f"{PREFIX}*/{OWNER}"):
        with suppress(OSError, ValidationError):
            seen = path.parent.lstat()
            if S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid() and not identity.is_alive(load(Identity, path)):
                shutil.rmtree(path.parent, ignore_errors=True)


def die_with_parent() -> None:
    """In the child: let the kernel kill it when the parent is gone (Linux; elsewhere the end of stdin must suffice)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
