"""The only door to subprocesses, signals and deadlines.

Local processes carry their lease's id in their environment (LABEL): teardown finds them by that label, not by
memory, so children that left the group or the session are found too.
"""

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

from pipeline.errors import Interrupted, StepTimedOut
from pipeline.values import value

LABEL = "SERVETUNE_LEASE"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_children: dict[int, subprocess.Popen[bytes]] = {}


@value
class Identity:
    """A process that cannot be confused with a later one of the same number."""

    pid: int
    start_time: float  # seconds since the epoch, as psutil gives it
    boot_time: float
    host: str


def identity(pid: int | None = None) -> Identity:
    """The Identity of `pid`, of ourselves by default.

    Raises:
        psutil.NoSuchProcess: it is already gone.
    """
    process = psutil.Process(pid)
    return Identity(
        pid=process.pid,
        start_time=process.create_time(),
        boot_time=psutil.boot_time(),
        host=platform.node(),
    )


def is_alive(who: Identity) -> bool:
    """Whether that very process still runs; a zombie does not. True for another host's: we cannot look there."""
    if who.host != platform.node():
        return True
    try:
        process = psutil.Process(who.pid)
        same = abs(process.create_time() - who.start_time) < 0.05 and abs(psutil.boot_time() - who.boot_time) < 5
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def spawn(argv: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path | None = None) -> int:
    """Start `argv` in a session of its own, stdout and stderr to `log`, no stdin. Returns the pid.

    Raises:
        OSError: the program cannot be started.
    """
    with log.open("ab") as out:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=cwd, start_new_session=True
        )
    _children[child.pid] = child
    return child.pid


def spawn_piped(argv: Sequence[str], *, log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `argv` in a session of its own with pipes to its stdin and from its stdout; stderr to `log`.

    Raises:
        OSError: the program cannot be started.
    """
    with log.open("ab") as err:
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=err,
            env=env,
            start_new_session=True,
            bufsize=0,
        )


def exit_code(pid: int) -> int | None:
    """How a child started by `spawn` ended (negative: by that signal), None while it runs or if it is not ours."""
    child = _children.get(pid)
    return child.poll() if child else None


def python(module: str) -> tuple[str, ...]:
    """The command that runs a module of this project in this environment."""
    return (sys.executable, "-m", module)


def labelled(label: str) -> tuple[psutil.Process, ...]:
    """Every living process whose environment carries the lease id `label`; zombies do not count."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(LABEL) == label and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
    return tuple(found)


def stop_labelled(label: str, *, grace_s: float, settle_s: float = 0.1) -> tuple[str, ...]:
    """TERM every process with the label, KILL after `grace_s`, until none was seen for `settle_s`.

    A process caught between fork and exec does not carry the label yet: hence the second look.

    Returns:
        what is still there, in words; empty when all is gone.
    """
    _each(labelled(label), psutil.Process.terminate)
    wait_until(lambda: not labelled(label), timeout_s=grace_s)
    for _ in range(20):
        rest = labelled(label)
        _each(rest, psutil.Process.kill)
        _reap()
        time.sleep(settle_s)
        if not rest and not labelled(label):
            return ()
    return tuple(f"process {left.pid} ({' '.join(left.cmdline()[:3])})" for left in labelled(label))


def _each(processes: Sequence[psutil.Process], act: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        try:
            act(process)
        except psutil.NoSuchProcess:
            continue


def _reap() -> None:
    for child in _children.values():
        child.poll()


def wait_until(check: Callable[[], bool], *, timeout_s: float, interval_s: float = 0.05) -> bool:
    """Ask `check` until it says yes or `timeout_s` is over; what it said last."""
    end = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() >= end:
            return False
        time.sleep(interval_s)
    return True


class _Signals:
    """Turns stop signals into Interrupted; while held, only remembers the first one.

    `pending` stays set until someone who catches Interrupted says so by `acknowledge`: an extension module may swallow
    what a handler raises (pydantic's serializer does), and a Ctrl-C must not be lost there.
    """

    def __init__(self) -> None:
        self.holds = 0
        self.pending: int | None = None

    def __call__(self, signum: int, _frame: FrameType | None) -> None:
        self.pending = self.pending or signum
        self.check()

    def check(self) -> None:
        if self.pending is not None and not self.holds:
            raise Interrupted(self.pending)


_signals = _Signals()


@contextmanager
def interruptible() -> Iterator[None]:
    """INT, TERM and HUP raise Interrupted in here, whatever handlers a launcher installed before.

    Entered again inside a trial, because submitit replaces the handlers in its workers. Does nothing outside
    the main thread, where Python allows no handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _signals) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def signals_held() -> Iterator[None]:
    """Stop signals wait until the end of this scope: teardown is not interrupted by a second Ctrl-C."""
    _signals.holds += 1
    try:
        yield
    finally:
        _signals.holds -= 1
    _signals.check()


def check_interrupted() -> None:
    """Raise Interrupted if a signal came that nobody has answered yet.

    Raises:
        Interrupted: with that signal.
    """
    _signals.check()


def acknowledge() -> None:
    """The signal is being answered: later code may run to its end."""
    _signals.pending = None


class _Expired(BaseException):
    """Raised by the alarm; a BaseException, so that no library swallows it."""


@contextmanager
def deadline(timeout_s: float, what: str) -> Iterator[None]:
    """Work in this scope is broken off after `timeout_s` (main thread only). Scopes do not nest.

    Raises:
        StepTimedOut: `what` took longer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    has_expired = False

    def expire(_signum: int, _frame: FrameType | None) -> None:
        nonlocal has_expired
        has_expired = True
        raise _Expired

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        yield
    except BaseException as error:
        if not has_expired or isinstance(error, Interrupted):
            raise
        raise StepTimedOut(f"{what} did not end within {timeout_s:g} s.") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def signal_name(number: int) -> str:
    """`killed by SIGKILL`."""
    return f"killed by {signal.Signals(number).name}"


def kill_group(pid: int) -> None:
    """KILL the session of a child that was started in one of its own; nothing if it is gone."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    if child := _children.get(pid):
        child.wait()
