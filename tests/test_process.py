"""Subprocesses by label, signals and deadlines, with real processes and real signals."""
# ruff: noqa: PT012 - the scopes under test raise at their ends

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import identity, process
from pipeline.errors import Interrupted, StepTimedOut

LABEL = f"test-label-{os.getpid()}"  # of this worker
OTHER = f"other-{LABEL}"
SLEEP = "import time; time.sleep(60)"
IGNORE_TERM = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
CHILD_WITHOUT_ENVIRONMENT = (
    f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}], env={{}}, start_new_session=True)"
)
CHILD_OF_ITS_OWN_SESSION = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)"
)


@pytest.fixture(autouse=True)
def nothing_pending() -> Iterator[None]:
    yield
    process.acknowledge()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def start(script: str, log: Path, label: str = LABEL) -> int:
    return process.spawn([sys.executable, "-c", script], log=log, env={**os.environ, process.LABEL: label})


def me(signum: signal.Signals = signal.SIGTERM) -> None:
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", process.STOP_SIGNALS)
def test_a_stop_signal_becomes_interrupted(signum: signal.Signals) -> None:
    with pytest.raises(Interrupted) as caught, process.interruptible():
        me(signum)
    assert caught.value.signum == signum


def test_handlers_are_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in process.STOP_SIGNALS]
    with process.interruptible(), process.interruptible():
        pass
    assert [signal.getsignal(number) for number in process.STOP_SIGNALS] == before


def test_a_held_signal_is_told_at_the_end() -> None:
    reached = False
    with pytest.raises(Interrupted), process.interruptible(), process.signals_held():
        me()
        reached = True
    assert reached


def test_a_held_signal_is_told_where_signals_are_heard_again() -> None:
    reached = False
    with pytest.raises(Interrupted), process.interruptible(), process.signals_held():
        me()
        with process.signals_heard():
            reached = True
    assert not reached


def test_the_first_signal_counts() -> None:
    with pytest.raises(Interrupted) as caught, process.interruptible(), process.signals_held():
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

    with pytest.raises(Interrupted) as caught, process.interruptible():
        try:
            me(signal.SIGTERM)
        finally:
            clean()
    assert cleaned
    assert caught.value.signum == signal.SIGTERM


def test_a_swallowed_signal_is_told_at_the_next_check() -> None:
    with pytest.raises(Interrupted), process.interruptible():
        with suppress(BaseException):
            me()
        process.check_interrupted()
        pytest.fail("not told")


def test_a_signal_after_a_swallowed_one_is_told_at_once() -> None:
    with pytest.raises(Interrupted), process.interruptible():
        with suppress(BaseException):
            me()
        me()
        pytest.fail("not told")


def test_an_acknowledged_signal_is_not_told_again() -> None:
    with process.interruptible():
        with pytest.raises(Interrupted):
            me()
        process.acknowledge()
        process.check_interrupted()


def test_a_deadline_breaks_off() -> None:
    begun = time.monotonic()
    with pytest.raises(StepTimedOut, match=r"Step x did not end within 0\.1 s"), process.deadline(0.1, "Step x"):
        time.sleep(5)
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("timeout_s", [None, 5.0], ids=["none", "in-time"])
def test_a_deadline_that_is_kept_does_nothing(timeout_s: float | None) -> None:
    with process.deadline(timeout_s, "Step x"):
        time.sleep(0.01)


def test_an_error_within_the_deadline_comes_through() -> None:
    with pytest.raises(KeyError), process.deadline(5, "Step x"):
        raise KeyError


def test_a_deadline_that_a_library_swallows_is_told_at_the_end() -> None:
    with pytest.raises(StepTimedOut), process.deadline(0.05, "Step x"), suppress(BaseException):
        time.sleep(5)


def test_the_alarm_comes_again_for_who_swallowed_it() -> None:
    begun = time.monotonic()
    with pytest.raises(StepTimedOut), process.deadline(0.05, "Step x"):
        with suppress(BaseException):
            time.sleep(30)
        time.sleep(30)
    assert time.monotonic() - begun < 0.05 + 2 * process.ALARM_AGAIN_S


def test_the_alarm_does_not_disturb_who_cleans_up_after_it() -> None:
    cleaned = False
    with pytest.raises(StepTimedOut), process.deadline(0.05, "Step x"):
        try:
            time.sleep(30)
        finally:
            time.sleep(process.ALARM_AGAIN_S + 0.2)
            cleaned = True
    assert cleaned


def test_an_error_raised_instead_of_the_alarm_is_a_timeout() -> None:
    with pytest.raises(StepTimedOut), process.deadline(0.05, "Step x"):
        try:
            time.sleep(5)
        except BaseException:  # noqa: BLE001 - as libraries do
            raise ValueError from None


def test_an_interrupt_after_the_deadline_stays_an_interrupt() -> None:
    with pytest.raises(Interrupted), process.interruptible(), process.deadline(0.05, "Step x"):
        with suppress(BaseException):
            time.sleep(5)
        me()


def test_an_alarm_at_the_very_end_is_never_lost_nor_raw() -> None:
    for _ in range(300):
        with suppress(StepTimedOut), process.deadline(0.0005, "Step x"):
            end = time.perf_counter() + 0.00045
            while time.perf_counter() < end:
                pass


def test_spawn_tells_the_exit_code(log: Path) -> None:
    pid = start("raise SystemExit('words')", log)
    assert process.wait_until(lambda: process.exit_code(pid) == 1, timeout_s=5)
    assert log.read_text() == "words\n"


def test_spawned_processes_lead_a_session_and_read_nothing(log: Path) -> None:
    pid = start("import os, sys; print(os.getsid(0) == os.getpid(), repr(sys.stdin.read()))", log)
    assert process.wait_until(lambda: process.exit_code(pid) == 0, timeout_s=5)
    assert log.read_text() == "True ''\n"


def test_finds_processes_by_label_alone(log: Path) -> None:
    pid = start(SLEEP, log)
    other = start(SLEEP, log, OTHER)
    assert [found.pid for found in process.labelled(LABEL)] == [pid]
    assert process.stop_labelled(LABEL, grace_s=2) == ()
    assert process.exit_code(other) is None
    assert process.stop_labelled(OTHER, grace_s=2) == ()
    assert (process.exit_code(pid), process.exit_code(other)) == (-signal.SIGTERM, -signal.SIGTERM)


def test_a_zombie_does_not_count(log: Path) -> None:
    pid = start("pass", log)
    assert process.wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, timeout_s=5)
    assert process.labelled(LABEL) == ()
    assert process.stop_labelled(LABEL, grace_s=0) == ()


def test_what_ignores_term_is_killed_after_its_grace(log: Path) -> None:
    pid = start(IGNORE_TERM, log)
    assert process.wait_until(lambda: log.read_text() == "deaf\n", timeout_s=5)
    begun = time.monotonic()
    assert process.stop_labelled(LABEL, grace_s=0.3) == ()
    assert 0.3 < time.monotonic() - begun < 3
    assert process.exit_code(pid) == -signal.SIGKILL


@pytest.mark.parametrize(
    "script", [CHILD_OF_ITS_OWN_SESSION, CHILD_WITHOUT_ENVIRONMENT], ids=["left-the-session", "wiped-its-environment"]
)
def test_stops_a_child_that(script: str, log: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    parent = psutil.Process(start(script, log))
    child = None
    while child is None:
        child = next(iter(parent.children()), None)
    assert process.wait_until(lambda: SLEEP in child.cmdline(), timeout_s=5)
    assert process.stop_labelled(LABEL, grace_s=2) == ()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert set(psutil.Process().children(recursive=True)) <= before | {parent}


def test_never_stops_itself() -> None:
    script = (
        f"from pipeline import process; print(process.labelled({LABEL!r}), process.stop_labelled({LABEL!r}, grace_s=0))"
    )
    env = {**os.environ, process.LABEL: LABEL}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "() ()\n")


def test_kills_a_group_with_all_that_is_in_it(log: Path) -> None:
    pid = start(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])", log)
    assert process.wait_until(lambda: len(process.labelled(LABEL)) == 2, timeout_s=5)
    process.kill_group(pid)
    assert process.wait_until(lambda: not process.labelled(LABEL), timeout_s=5)
    process.kill_group(pid)


@pytest.mark.parametrize(("answers", "said"), [([False, True], True), ([False] * 9, False)], ids=["yes", "never"])
def test_wait_until_tells_what_was_said_last(answers: list[bool], said: bool) -> None:
    assert process.wait_until(lambda: answers.pop(0), timeout_s=0.1, interval_s=0.05) is said


@pytest.mark.parametrize(
    ("change", "alive"),
    [
        ({}, True),
        ({"start_ticks": 1}, False),
        ({"boot_id": "x"}, False),
        ({"host": "x"}, True),
        ({"pid_namespace": "x"}, True),
    ],
    ids=["ourselves", "another-start", "another-boot", "another-host", "another-container"],
)
def test_a_process_is_alive_only_where_we_can_deny_it(change: dict[str, Any], alive: bool) -> None:
    assert identity.is_alive(replace(identity.of(), **change)) is alive


def test_neither_a_zombie_nor_what_is_gone_is_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        who = identity.of(child.pid)
        assert identity.is_alive(who)
        child.kill()
        assert process.wait_until(lambda: not identity.is_alive(who), timeout_s=5)
    assert not identity.is_alive(who)
    with pytest.raises(psutil.NoSuchProcess):
        identity.of(child.pid)
