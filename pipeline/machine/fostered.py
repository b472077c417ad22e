"""Starts an engine below a foster parent (foster.py), and hears from it how the engine ended."""

import errno
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.machine import foster, process


@dataclass
class _Child:
    """An engine, and the process between it and us."""

    parent: subprocess.Popen[bytes]
    engine: psutil.Process | None  # None: it ended at once
    code: int | None = None
    said: bytes = b""

    def poll(self) -> int | None:
        """How it ended; None while it runs, or if nobody can tell."""
        self.parent.poll()
        if self.code is None and self.parent.stdout:
            with suppress(BlockingIOError):
                self.said += os.read(self.parent.stdout.fileno(), 64)
            word, _, number = self.said.decode().partition(" ")
            if word == "ended" and number.endswith("\n"):
                self.code = int(number)
                self.parent.stdout.close()
        return self.code


_children: dict[int, _Child] = {}


def spawn(argv: Sequence[str], *, log: Path, env: Mapping[str, str], cores: Sequence[int] = ()) -> int:
    """Start `argv` as `process.spawn` does, with the label that is in `env`, below a foster parent with the same label.

    Returns the pid of the program itself.

    Raises:
        OSError: the program cannot be started.
    """
    own = {name: text for name, text in env.items() if name != process.LABEL}
    command = (sys.executable, "-I", "-S", foster.__file__, *argv)
    with process.on_cores(cores):
        parent = process.spawn_piped(command, log=log, env={**own, process.FOSTER: env[process.LABEL]})
    pid = _started(parent, argv[0])
    try:
        engine = psutil.Process(pid)
    except psutil.NoSuchProcess:
        engine = None
    _children[pid] = _Child(parent, engine)
    return pid


def _started(parent: subprocess.Popen[bytes], program: str) -> int:
    """The engine's pid, by the parent's word.

    Raises:
        OSError: it could not be started.
    """
    if parent.stdin is None or parent.stdout is None:
        raise OSError(errno.EPIPE, os.strerror(errno.EPIPE), program)
    parent.stdin.close()
    word, _, number = parent.stdout.readline().decode().partition(" ")
    if word != "started":
        parent.stdout.close()
        parent.wait()
        error = int(number or errno.EAGAIN)
        raise OSError(error, os.strerror(error), program)
    os.set_blocking(parent.stdout.fileno(), False)
    return int(number)


def exit_code(pid: int) -> int | None:
    """How an engine that we started ended (negative: by that signal), None while it runs or if it is not ours."""
    child = _children.get(pid)
    return child.poll() if child else None


def is_lost(pid: int) -> bool:
    """Whether it has ended and nobody can tell how: its foster parent was killed before."""
    child = _children.get(pid)
    if child is None or child.parent.poll() is None:
        return False
    return child.poll() is None and not (child.engine and process.is_running(child.engine))


def let_go(pid: int | None) -> None:
    """Forget a child that has ended, with all that was below its foster parent; nothing if one of them lives."""
    child = _children.get(pid or 0)
    if child and child.parent.poll() is not None:
        del _children[pid or 0]
        if child.parent.stdout:
            child.parent.stdout.close()
