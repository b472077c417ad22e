"""What a server of the tests' own needs in order to be gone with all its traces, however the tests end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.machine import process
from support.places import ROOT, TESTS

END_S = 60.0
CGROUPS = Path("/sys/fs/cgroup")


@contextmanager
def guarded(program: str, root: Path) -> Iterator[None]:
    """Beside us runs `program root`, which removes what is known by that folder: at the end of the scope, or of us."""
    guard = subprocess.Popen(
        [sys.executable, program, str(root)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{TESTS}"},
        start_new_session=True,
    )
    try:
        yield
    finally:
        _, said = guard.communicate(timeout=END_S)  # the end of its stdin is its signal
        assert guard.returncode == 0, said


def until_the_end() -> None:
    """In the guard: wait for the end of whoever started it. A signal to the guard means no less that all has to go."""
    asking = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in asking:
        signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        sys.stdin.read()
    for number in asking:  # removing must not be broken off
        signal.signal(number, signal.SIG_IGN)


def cgroups(name: str) -> list[Path]:
    """The folders of a cgroup, the inner ones first: one in each hierarchy of cgroup v1, one with v2."""
    tops = [folder for place in (CGROUPS, *CGROUPS.iterdir()) if (folder := place / name).is_dir()]
    return [Path(path) for top in tops for path, _, _ in os.walk(top, topdown=False)]


def remove_cgroups(folders: Iterable[Path], *, timeout_s: float) -> None:
    """Remove each; that takes until its last process is reaped."""
    for folder in folders:
        process.wait_until(lambda folder=folder: _is_removed(folder), timeout_s=timeout_s)  # type: ignore[misc]


def _is_removed(cgroup: Path) -> bool:
    with suppress(OSError):
        cgroup.rmdir()
    return not cgroup.exists()
