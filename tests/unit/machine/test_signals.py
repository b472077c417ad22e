"""Signals and deadlines, with real signals."""
# ruff: noqa: PT012 - the scopes under test raise at their ends

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from pipeline.core.errors import Interrupted, StepTimedOut, Stopped
from pipeline.machine import signals


@pytest.fixture(autouse=True)
def nothing_pending() -> Iterator[None]:
    before = handlers()
    yield
    signals.acknowledge()
    assert handlers() == before


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in (*signals.STOP_SIGNALS, signals.WAKE)]


def me(signum: signal.Signals = signal.SIGTERM) -> None:
    os.kill(os.getpid(), signum)


@contextmanager
def ignoring(signum: signal.Signals) -> Iterator[None]:
    """As `nohup` starts us."""
    before = signal.signal(signum, signal.SIG_IGN)
    try:
        yield
        assert signal.getsignal(signum) is signal.SIG_IGN
    finally:
        signal.signal(signum, before)


@pytest.mark.parametrize("signum", signals.STOP_SIGNALS)
def test_a_stop_signal_becomes_interrupted(signum: signal.Signals) -> None:
    with pytest.raises(Interrupted) as caught, signals.interruptible():
        me(signum)
    assert caught.value.signum == signum


def test_handlers_are_as_before_afterwards() -> None:
    before = handlers()
    with signals.interruptible(), signals.interruptible():
        pass
    assert handlers() == before


@pytest.mark.parametrize("signum", signals.IGNORABLE)
def test_what_was_ignored_stays_ignored(signum: signal.Signals) -> None:
    with ignoring(signum), signals.interruptible(), signals.interruptible(), signals.held(), signals.heard():
        me(signum)
        assert signal.getsignal(signum) is signal.SIG_IGN
        assert signals.unanswered() is None


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR2])
def test_what_a_scheduler_sends_is_heard_even_if_it_was_ignored(signum: signal.Signals) -> None:
    with pytest.raises(Interrupted) as caught, ignoring(signum), signals.interruptible():
        me(signum)
    assert caught.value.signum == signum


def test_what_was_not_ignored_is_heard_beside_what_was() -> None:
    with pytest.raises(Interrupted) as caught, ignoring(signal.SIGHUP), signals.interruptible():
        me(signal.SIGHUP)
        me(signal.SIGINT)
    assert caught.value.signum == signal.SIGINT


def test_a_held_signal_is_told_at_the_end() -> None:
    reached = False
    with pytest.raises(Interrupted), signals.interruptible(), signals.held():
        me()
        reached = True
    assert reached


def test_a_held_signal_is_told_where_signals_are_heard_again() -> None:
    reached = False
    with pytest.raises(Interrupted), signals.interruptible(), signals.held():
        me()
        with signals.heard():
            reached = True
    assert not reached


def test_the_first_signal_counts() -> None:
    with pytest.raises(Interrupted) as caught, signals.interruptible(), signals.held():
        me(signal.SIGHUP)
        me(signal.SIGINT)
    assert caught.value.signum == signal.SIGHUP


def test_a_second_signal_does_not_break_off_what_cleans_up_after_the_first() -> None:
    cleaned = False

    def clean() -> None:
        nonlocal cleaned
        with suppress(KeyError):
            raise KeyError
        me(signal.SIGINT)
        cleaned = True

    with pytest.raises(Interrupted) as caught, signals.interruptible():
        try:
            me(signal.SIGTERM)
        finally:
            clean()
    assert cleaned
    assert caught.value.signum == signal.SIGTERM


def test_a_swallowed_signal_is_told_at_the_next_check() -> None:
    with pytest.raises(Interrupted), signals.interruptible():
        with suppress(BaseException):
            me()
        signals.check()
        pytest.fail("not told")


def test_a_signal_after_a_swallowed_one_is_told_at_once() -> None:
    with pytest.raises(Interrupted), signals.interruptible():
        with suppress(BaseException):
            me()
        me()
        pytest.fail("not told")


def test_an_acknowledged_signal_is_not_told_again() -> None:
    with signals.interruptible():
        with pytest.raises(Interrupted):
            me()
        signals.acknowledge()
        signals.check()


def yes() -> bool:
    return True


def test_a_wake_that_is_meant_stops_the_trial_alone() -> None:
    with signals.interruptible(), signals.ends_alone(yes):
        with pytest.raises(Stopped, match="servetune stop"):
            me(signals.WAKE)
        signals.acknowledge_alone()
        me(signals.WAKE)  # it was answered


@pytest.mark.parametrize("is_meant", [False, True], ids=["for-the-trial-before", "between-trials"])
def test_a_wake_that_is_not_meant_does_nothing(is_meant: bool) -> None:
    with signals.interruptible():
        with signals.ends_alone(lambda: is_meant):
            if not is_meant:
                me(signals.WAKE)
        me(signals.WAKE)
        signals.check()
    me(signals.WAKE)  # nobody has a handler, and it ends nobody


def test_a_wake_that_came_at_the_end_of_a_trial_is_not_told_to_the_next() -> None:
    with signals.interruptible(), signals.held():
        with signals.ends_alone(yes):
            me(signals.WAKE)
        with signals.heard():
            signals.check()


@pytest.mark.parametrize("numbers", [(signals.WAKE, signal.SIGTERM), (signal.SIGTERM, signals.WAKE)])
def test_what_ends_everything_is_not_lost_beside_a_wake(numbers: tuple[signal.Signals, ...]) -> None:
    with pytest.raises(Interrupted) as caught, signals.interruptible(), signals.held(), signals.ends_alone(yes):
        for number in numbers:
            me(number)
        signals.acknowledge_alone()
    assert (type(caught.value), caught.value.signum) == (Interrupted, signal.SIGTERM)


def test_a_deadline_breaks_off() -> None:
    begun = time.monotonic()
    with pytest.raises(StepTimedOut, match=r"Step x did not end within 0\.1 s"), signals.deadline(0.1, "Step x"):
        time.sleep(60)
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("timeout_s", [None, 5.0], ids=["none", "in-time"])
def test_a_deadline_that_is_kept_does_nothing(timeout_s: float | None) -> None:
    with signals.deadline(timeout_s, "Step x"):
        time.sleep(0.01)


def test_an_error_within_the_deadline_comes_through() -> None:
    with pytest.raises(KeyError), signals.deadline(5, "Step x"):
        raise KeyError


def test_a_deadline_that_a_library_swallows_is_told_at_the_end() -> None:
    with pytest.raises(StepTimedOut), signals.deadline(0.05, "Step x"), suppress(BaseException):
        time.sleep(5)


def test_the_alarm_comes_again_for_who_swallowed_it() -> None:
    begun = time.monotonic()
    with pytest.raises(StepTimedOut), signals.deadline(0.05, "Step x"):
        with suppress(BaseException):
            time.sleep(30)
        time.sleep(30)
    assert time.monotonic() - begun < 30


def test_the_alarm_does_not_disturb_who_cleans_up_after_it() -> None:
    cleaned = False
    with pytest.raises(StepTimedOut), signals.deadline(0.05, "Step x"):
        try:
            time.sleep(30)
        finally:
            time.sleep(signals.ALARM_AGAIN_S + 0.2)
            cleaned = True
    assert cleaned


def test_an_error_raised_instead_of_the_alarm_is_a_timeout() -> None:
    with pytest.raises(StepTimedOut), signals.deadline(0.05, "Step x"):
        try:
            time.sleep(5)
        except BaseException:  # noqa: BLE001 - as libraries do
            raise ValueError from None


def test_an_interrupt_after_the_deadline_stays_an_interrupt() -> None:
    with pytest.raises(Interrupted), signals.interruptible(), signals.deadline(0.05, "Step x"):
        with suppress(BaseException):
            time.sleep(5)
        me()


def test_an_alarm_at_the_very_end_is_never_lost_nor_raw() -> None:
    for _ in range(300):
        with suppress(StepTimedOut), signals.deadline(0.0005, "Step x"):
            end = time.perf_counter() + 0.00045
            while time.perf_counter() < end:
                pass
