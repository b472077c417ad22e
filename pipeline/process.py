"""The only door to subprocesses, signals and deadlines.

Local processes carry their lease's id in their environment (LABEL): teardown finds them by that label, not by
memory, so children that left the group or the session are found too.
"""

import contextlib
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from pipeline.errors import Interrupted, StepTimedOut

LABEL = "SERVETUNE_LEASE"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KILLED_WITHIN_S = 15.0  # the kernel takes its time with a process of many gigabytes
ALARM_AGAIN_S, ALARM_SOON_S = 2.0, 0.01
_children: dict[int, subprocess.Popen[bytes]] = {}


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
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=err, env=env, start_new_session=True, bufsize=0)


def output(argv: Sequence[str], *, timeout_s: float = 60) -> str:
    """What a short program says on stderr when it fails; empty when it ends well."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
    return (done.stderr or f"exit code {done.returncode}") if done.returncode else ""


def exit_code(pid: int) -> int | None:
    """How a child started by `spawn` ended (negative: by that signal), None while it runs or if it is not ours."""
    child = _children.get(pid)
    return child.poll() if child else None


def python(module: str) -> tuple[str, ...]:
    """The command that runs a module of this project in this environment."""
    return (sys.executable, "-m", module)


def labelled(label: str) -> tuple[psutil.Process, ...]:
    """Every living process whose environment carries the lease id `label`; neither zombies nor we ourselves count."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            if process.environ().get(LABEL) == label and _is_running(process) and process.pid != os.getpid():
                found.append(process)
    return tuple(found)


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _with_descendants(known: Iterable[psutil.Process]) -> set[psutil.Process]:
    """Also those that have wiped their environment: what a process of ours starts is ours."""
    found = set(known)
    for process in known:
        with suppress(psutil.NoSuchProcess):
            found.update(process.children(recursive=True))
    return set(filter(_is_running, found))


def stop_labelled(label: str, *, grace_s: float, settle_s: float = 0.1) -> tuple[str, ...]:
    """TERM every process with the label, KILL after `grace_s`, until none was seen for `settle_s`.

    A process caught between fork and exec does not carry the label yet: hence the second look.

    Returns:
        what is still there, in words; empty when all is gone.
    """
    known: set[psutil.Process] = set()

    def left() -> set[psutil.Process]:
        nonlocal known
        known = _with_descendants({*known, *labelled(label)})
        return known

    _each(left(), psutil.Process.terminate)
    wait_until(lambda: not left(), timeout_s=grace_s)
    end = time.monotonic() + KILLED_WITHIN_S
    while time.monotonic() < end:
        rest = left()
        _each(rest, psutil.Process.kill)
        _reap()
        time.sleep(settle_s)
        if not rest and not left():
            return ()
    return tuple(_name(process) for process in left())


def _name(process: psutil.Process) -> str:
    words = [f"process {process.pid}"]
    with suppress(psutil.Error):
        words += process.cmdline()[:3]
    return " ".join(words)


def _each(processes: Iterable[psutil.Process], act: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # one that is not ours to stop is named at the end
            act(process)


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


def _is_handling(kind: type[BaseException]) -> bool:
    """Whether this runs, however deep, in an `except` or `finally` that an exception of that kind has led to."""
    error = sys.exception()
    while error is not None and not isinstance(error, kind):
        error = error.__context__
    return error is not None


class _Signals:
    """Turns a stop signal into Interrupted where signals are heard; elsewhere only remembers it.

    `pending` stays set until someone who catches Interrupted says so by `acknowledge`: an extension module may swallow
    what a handler raises (pydantic's serializer does), and a Ctrl-C must not be lost there. What cleans up after the
    first signal is not broken off by a second.
    """

    def __init__(self) -> None:
        self.is_heard = False
        self.pending: int | None = None

    def __call__(self, signum: int, _frame: FrameType | None) -> None:
        self.pending = self.pending or signum
        if not _is_handling(Interrupted):
            self.check()

    def check(self) -> None:
        if self.pending is not None and self.is_heard:
            raise Interrupted(self.pending)


_signals = _Signals()


@contextmanager
def _hearing(is_heard: bool) -> Iterator[None]:
    before, _signals.is_heard = _signals.is_heard, is_heard
    try:
        _signals.check()
        yield
        _signals.check()
    finally:
        _signals.is_heard = before
    _signals.check()


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
        with _hearing(True):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def signals_held() -> AbstractContextManager[None]:
    """Stop signals wait until the end of this scope: teardown is not interrupted by a second Ctrl-C."""
    return _hearing(False)


def signals_heard() -> AbstractContextManager[None]:
    """Inside `signals_held`: in this scope stop signals, one that has come already too, raise Interrupted again."""
    return _hearing(True)


def check_interrupted() -> None:
    """Raise Interrupted if a signal came that nobody has answered yet; not where signals are held.

    Raises:
        Interrupted: with that signal.
    """
    _signals.check()


def acknowledge() -> None:
    """The signal is being answered: later code may run to its end."""
    _signals.pending = None


def _is_between_scopes(frame: FrameType | None) -> bool:
    """Whether that is contextlib on its way into or out of a scope: what is raised there, no scope's `finally` sees."""
    code = frame.f_code if frame else None
    return code is not None and (code.co_filename == contextlib.__file__ or code is inspect.unwrap(_hearing).__code__)


class _Expired(BaseException):
    """Raised by the alarm; a BaseException, so that no library swallows it."""


@contextmanager
def deadline(timeout_s: float | None, what: str) -> Iterator[None]:
    """Work in this scope is broken off after `timeout_s` (None: never; main thread only). Scopes do not nest.

    The alarm comes again for whoever swallowed it; it does not disturb those who clean up after it.

    Raises:
        StepTimedOut: `what` took longer.
    """
    if timeout_s is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    has_expired = False

    def expire(_signum: int, frame: FrameType | None) -> None:
        nonlocal has_expired
        has_expired = True
        if _is_between_scopes(frame):
            signal.setitimer(signal.ITIMER_REAL, ALARM_SOON_S, ALARM_AGAIN_S)
        elif not _is_handling(_Expired):
            raise _Expired

    before = signal.signal(signal.SIGALRM, expire)
    cause: BaseException | None = None
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, timeout_s, ALARM_AGAIN_S)
            yield
        finally:  # an alarm in here is caught below
            signal.setitimer(signal.ITIMER_REAL, 0)
    except BaseException as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if not has_expired or isinstance(error, Interrupted):
            raise
        cause = error
    finally:
        signal.signal(signal.SIGALRM, before)
    if has_expired:
        raise StepTimedOut(f"{what} did not end within {timeout_s:g} s.") from cause


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
