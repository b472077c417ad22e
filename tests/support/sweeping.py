"""A sweep that runs, as a shell starts it: it can be watched, told, and is gone at the end of a scope."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from pipeline.backends.lease import Lease
from pipeline.core.values import load
from pipeline.machine import process
from support.cli import Result
from support.places import ROOT

PATIENCE_S = 240.0


class Running:
    """A sweep that runs, with the whole of what it started in sight: its trials are in `out` below `home`."""

    def __init__(self, child: "subprocess.Popen[str]", home: Path) -> None:
        self.child, self.home, self.folder = child, home, home / "out"

    def processes(self, *modules: str) -> list[psutil.Process]:
        """Every living process of the sweep, or those that run one of these modules, wherever they are in the tree."""
        found = []
        for one in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                words = one.cmdline()
                is_ours = str(self.home) in " ".join([*words, *one.environ().values()])
                is_meant = not modules or not {*modules}.isdisjoint(words)
                if is_ours and is_meant and one.pid != os.getpid() and process.is_running(one):
                    found.append(one)
        return found

    def await_that(self, check: Callable[[], bool]) -> None:
        """Wait for something that must happen."""
        assert process.wait_until(check, timeout_s=PATIENCE_S, interval_s=0.05), self.child.poll()

    def await_levels(self, *trials: int) -> None:
        """Wait until these trials are being measured."""
        self.await_that(lambda: all(list(self.folder.glob(f"{one}/bench/*/*/console.log")) for one in trials))

    def worker_of(self, trial: int) -> psutil.Process:
        """The process that runs a trial."""
        return psutil.Process(load(Lease, self.folder / str(trial) / "lease.json").owner.pid)

    def end(self, timeout_s: float = PATIENCE_S) -> Result:
        """Wait until it has ended by itself."""
        out, err = self.child.communicate(timeout=timeout_s)
        return Result(code=self.child.returncode, out=out, err=err, folder=self.folder)


@contextmanager
def running(argv: Sequence[str], home: Path, env: Mapping[str, str]) -> Iterator[Running]:
    """Start a sweep in a session of its own; whatever is left of it at the end is killed."""
    with subprocess.Popen(
        argv,
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        seen = Running(child, home)
        try:
            yield seen
        finally:
            for one in seen.processes():
                with suppress(psutil.NoSuchProcess):
                    one.kill()
