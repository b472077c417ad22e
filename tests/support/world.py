"""The near end of the fault injection: start a broken pipeline, strike it, and look at what is left in the world."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pipeline.backends.lease import Lease, state_dir
from pipeline.core.files import RunDir
from pipeline.core.record import Record
from pipeline.core.values import load
from pipeline.machine import locks, process
from support.cli import stub_overrides
from support.homes import Home
from support.places import ROOT

BROKEN = Path(__file__).with_name("broken.py")
PATIENCE_S = 150.0
GONE_WITHIN_S = 45.0  # on a busy machine, a keeper takes seconds to become one
QUICK = (
    "traffic.concurrencies=[1]",
    "runtime.stop_grace_s=0.5",
    "runtime.health.interval_s=0.02",
    "hardware.gpu_count=1",  # which is not there, and given to one trial at a time all the same
)


class Zygote:
    """Imports the pipeline once; every trial is a fork of it."""

    def __init__(self) -> None:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.server = subprocess.Popen(
            [sys.executable, str(BROKEN)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=env, text=True
        )

    def ask(self, **request: Any) -> int:
        """One request, one answer."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        answer: dict[str, int] = json.loads(self.server.stdout.readline())
        return next(iter(answer.values()))

    def close(self) -> None:
        """It ends with its stdin."""
        with self.server:
            pass


@dataclass
class Trial:
    """A pipeline that runs, or ran, with faults in it."""

    zygote: Zygote
    home: Home
    pid: int
    folder: Path
    struck_at: float = field(default_factory=time.monotonic)

    @property
    def run_dir(self) -> RunDir:
        """Where its only trial writes."""
        return RunDir(self.folder / "out" / "0")

    @property
    def lease(self) -> Lease | None:
        """What its lease says; None if it never came to one."""
        return load(Lease, self.run_dir.lease) if self.run_dir.lease.exists() else None

    @property
    def record(self) -> Record | None:
        """Its record; None if it could not leave one."""
        return load(Record, self.run_dir.record) if self.run_dir.record.exists() else None

    @property
    def stderr(self) -> str:
        """What it told the user."""
        return (self.folder / "stderr").read_text()

    def await_step(self, step: str) -> None:
        """Wait until it pauses there."""
        reached = self.folder / f"{step}.reached"
        ok = process.wait_until(reached.exists, timeout_s=PATIENCE_S, interval_s=0.01)
        assert ok, f"{step} was not reached: {self.stderr}"

    def go_on(self, step: str) -> None:
        """End the pause."""
        (self.folder / f"{step}.go").touch()

    def strike(self, signum: signal.Signals, *, group: bool = False) -> None:
        """Send it a signal."""
        self.struck_at = time.monotonic()
        (os.killpg if group else os.kill)(self.pid, signum)

    def kill_engine(self) -> None:
        """The engine's own death."""
        assert self.lease is not None
        self.home.kill_engine(self.lease)

    def wait(self) -> int:
        """Its exit code, negative for a signal."""
        me = psutil.Process(self.pid)
        ended = process.wait_until(lambda: me.status() == psutil.STATUS_ZOMBIE, timeout_s=PATIENCE_S, interval_s=0.01)
        if not ended:
            os.killpg(self.pid, signal.SIGKILL)
        code = self.zygote.ask(wait=self.pid)
        assert ended, f"it did not end: {self.stderr}"
        return code

    def remains(self) -> list[str]:
        """What is left of it in the world, in words, once that does not change any more."""
        process.wait_until(lambda: not self._remains(), timeout_s=GONE_WITHIN_S, interval_s=0.1)
        return self._remains()

    def settle(self) -> None:
        """Wait until none of its processes is left; a lease may be."""
        process.wait_until(lambda: not processes_of(self.folder), timeout_s=GONE_WITHIN_S, interval_s=0.1)

    def _remains(self) -> list[str]:
        left = [f"process {p.pid}" for p in processes_of(self.folder)]
        left += self.home.left(self.lease)
        if self.lease and self.lease.port and not is_free(self.lease.port):
            left += [f"port {self.lease.port}"]
        notes = (state_dir() / "leases").glob("*.shared")
        return [
            *left,
            *(f"lease {path.name}" for path in (*registered(), *notes)),
            *(f"lock {name}" for name in locked()),
        ]

    def reaction_s(self) -> float:
        """Seconds since the last strike."""
        return time.monotonic() - self.struck_at


Launch = Callable[..., Trial]
Tell = Callable[[str, str, str], None]


def begin(
    zygote: Zygote,
    home: Home,
    folder: Path,
    gguf: Path,
    *overrides: str,
    faults: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    constants: Mapping[str, float] | None = None,
) -> Trial:
    """Start a broken trial."""
    own = {name: text for name, text in os.environ.items() if name.startswith("SERVETUNE_")}
    argv: Sequence[str] = [*stub_overrides(folder / "out", gguf), *QUICK, *home.overrides, *overrides]
    pid = zygote.ask(
        argv=argv,
        env={**own, **(env or {})},
        faults=dict(faults or {}),
        constants=dict(constants or {}),
        folder=str(folder),
    )
    return Trial(zygote, home, pid, folder)


def processes_of(folder: Path, *, module: str | None = None) -> list[psutil.Process]:
    """Every living process, or those of a module, with the test's own folder in its command line or environment."""
    mark = str(folder)
    found = []
    for one in psutil.process_iter():
        try:
            if one.status() == psutil.STATUS_ZOMBIE or one.pid == os.getpid():
                continue
            command = one.cmdline()
            is_ours = mark in " ".join([*command, *one.environ().values()])
            if is_ours and (module is None or module in command):
                found.append(one)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def registered() -> list[Path]:
    """The leases in the state directory."""
    return sorted((state_dir() / "leases").glob("*.json"))


def locked() -> list[str]:
    """The GPUs and cores that somebody still has."""
    files = {path.name: locks.take(path.name) for path in locks.folder().glob("*.lock")}
    locks.give_back(file for file in files.values() if file is not None)
    return [name for name, file in files.items() if file is None]


def is_free(port: int) -> bool:
    """Whether one can listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True
