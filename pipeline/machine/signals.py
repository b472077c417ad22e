"""Stop signals and deadlines, as exceptions that no library swallows and that do not interrupt cleanup.

A launcher's or a library's own handlers are replaced inside `interruptible`. Within it signals are either heard
(Interrupted is raised at once) or held (they wait).
"""

import contextlib
import inspect
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

from pipeline.core.errors import Interrupted, StepTimedOut, Stopped

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)  # USR2: Slurm, before a job's time limit
WAKE = signal.SIGURG  # look whether somebody wants the end of the trial alone; does nothing to whoever has no handler
IGNORABLE = (signal.SIGINT, signal.SIGHUP)  # what `nohup` and the background jobs of a script have ignored
ALARM_AGAIN_S, ALARM_SOON_S = 2.0, 0.01


def _is_handling(kind: type[BaseException]) -> bool:
    """Whether this runs, however deep, in an `except` or `finally` that an exception of that kind has led to."""
    error = sys.exception()
    while error is not None and not isinstance(error, kind):
        error = error.__context__
    return error is not None


def _never() -> bool:
    return False


class _Signals:
    """Turns a stop signal into Interrupted where signals are heard; elsewhere only remembers it.

    `pending` stays set until someone who catches Interrupted says so by `acknowledge`: an extension module may swallow
    what a handler raises (pydantic's serializer does), and a Ctrl-C must not be lost there. What cleans up after the
    first signal is not broken off by a second. What ends everything takes the place of WAKE, which ends one trial.
    """

    def __init__(self) -> None:
        self.is_heard = False
        self.pending: int | None = None
        self.is_asked: Callable[[], bool] = _never

    def __call__(self, signum: int, _frame: FrameType | None) -> None:
        if signum != WAKE:
            self.pending = signum if self.pending in {None, WAKE} else self.pending
        elif self.pending is None and self.is_asked():
            self.pending = WAKE
        if not _is_handling(Interrupted):
            self.check()

    def check(self) -> None:
        if self.pending is not None and self.is_heard:
            raise Stopped if self.pending == WAKE else Interrupted(self.pending)


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


def _stays_ignored(number: signal.Signals) -> bool:
    """TERM and USR2 never do: a scheduler must be able to stop us. What we start inherits what we ignore."""
    return number in IGNORABLE and signal.getsignal(number) is signal.SIG_IGN


@contextmanager
def interruptible() -> Iterator[None]:
    """INT, TERM, HUP and USR2 raise Interrupted in here, whatever handlers a launcher installed before.

    INT and HUP stay ignored where whoever started us had them ignored: what runs under `nohup` outlives its terminal.
    Entered again inside a trial, because submitit replaces the handlers in its workers. Does nothing outside
    the main thread, where Python allows no handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = (*STOP_SIGNALS, WAKE)
    before = {number: signal.signal(number, _signals) for number in heard if not _stays_ignored(number)}
    try:
        with _hearing(True):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def held() -> AbstractContextManager[None]:
    """Stop signals wait until the end of this scope: teardown is not interrupted by a second Ctrl-C."""
    return _hearing(False)


def heard() -> AbstractContextManager[None]:
    """Inside `held`: in this scope stop signals, one that has come already too, raise Interrupted again."""
    return _hearing(True)


def check() -> None:
    """Raise Interrupted if a signal came that nobody has answered yet; not where signals are held.

    Raises:
        Interrupted: with that signal.
    """
    _signals.check()


def unanswered() -> int | None:
    """The signal that came and that nobody has answered yet: what was raised for it may have been lost on its way."""
    return _signals.pending


def acknowledge() -> None:
    """The signal is being answered: later code may run to its end."""
    _signals.pending = None


@contextmanager
def ends_alone(is_asked: Callable[[], bool]) -> Iterator[None]:
    """In this scope a WAKE raises Stopped, where signals are heard, if `is_asked` says that it is meant. Once."""
    _signals.is_asked = is_asked
    try:
        yield
    finally:
        acknowledge_alone()


def acknowledge_alone() -> None:
    """The wish for the end of this trial is being answered, and is no more; a signal that ends everything stays."""
    _signals.is_asked = _never
    if _signals.pending == WAKE:
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
