"""An engine below its foster parent, with real processes: nothing that it leaves is lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.machine import fostered, process

LABEL = f"test-foster-{os.getpid()}"  # of this worker
SLEEP = "import time; time.sleep(60)"
ORPHAN = (  # nothing tells whose it is: neither environment nor session, and its parent ends at once
    f"import os, subprocess, sys; one = subprocess.Popen([sys.executable, '-c', {SLEEP!r}], env={{}}, "
    "start_new_session=True); print('orphan', one.pid, os.getpid(), flush=True)"
)
LEAVES_ONE = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {ORPHAN!r}]); time.sleep(60)"
WORDS = (
    "import os, signal, sys; print(os.getsid(0) == os.getpid(), repr(sys.stdin.read()), os.environ.get({label!r}), "
    "os.environ.get({foster!r}), signal.getsignal(15) == signal.SIG_DFL)"
)
STARTS_ONE = (
    "import os, sys; from pathlib import Path; from pipeline.machine import fostered; "
    f"fostered.spawn([sys.executable, '-c', {LEAVES_ONE!r}], log=Path(sys.argv[1]), env=os.environ); {SLEEP}"
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


started: list[int] = []


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    process.stop_labelled(LABEL, grace_s=0)
    while started:
        fostered.let_go(started.pop())


def start(script: str, log: Path) -> int:
    env = {**os.environ, process.LABEL: LABEL}
    started.append(fostered.spawn([sys.executable, "-c", script], log=log, env=env))
    return started[-1]


def orphan(log: Path) -> psutil.Process:
    """The one that was left, once it is on its own: its parent is still there for a while after it has said so."""
    assert process.wait_until(lambda: log.exists() and "\n" in log.read_text(), timeout_s=180)
    pid, parent = map(int, log.read_text().split()[1:])
    found = psutil.Process(pid)
    assert process.wait_until(lambda: SLEEP in found.cmdline() and found.environ() == {}, timeout_s=180)
    assert process.wait_until(lambda: not psutil.pid_exists(parent), timeout_s=180)
    return found


def is_gone(one: psutil.Process) -> bool:
    return not process.is_running(one)


def test_tells_the_pid_and_the_exit_code_of_the_engine_itself(log: Path) -> None:
    pid = start("import os; print(os.getpid()); raise SystemExit(7)", log)
    assert process.wait_until(lambda: fostered.exit_code(pid) == 7, timeout_s=180)
    assert log.read_text() == f"{pid}\n"
    pid = start(SLEEP, log)
    assert fostered.exit_code(pid) is None
    os.kill(pid, signal.SIGKILL)
    assert process.wait_until(lambda: fostered.exit_code(pid) == -signal.SIGKILL, timeout_s=180)


def test_an_engine_is_started_as_if_nobody_were_between(log: Path) -> None:
    pid = start(WORDS.format(label=process.LABEL, foster=process.FOSTER), log)
    assert process.wait_until(lambda: fostered.exit_code(pid) == 0, timeout_s=180)
    assert log.read_text() == f"True '' {LABEL} None True\n"


def test_what_cannot_be_started_is_told_by_the_system(log: Path) -> None:
    env = {**os.environ, process.LABEL: LABEL}
    with pytest.raises(FileNotFoundError, match="No such file or directory: '/none/engine'"):
        fostered.spawn(["/none/engine"], log=log, env=env)
    with pytest.raises(PermissionError):
        fostered.spawn([str(log.parent)], log=log, env=env)


@pytest.mark.parametrize("is_dead", [False, True], ids=["while-it-runs", "after-its-crash"])
def test_finds_and_stops_an_orphan_of_an_engine(is_dead: bool, log: Path) -> None:
    pid = start(LEAVES_ONE, log)
    left = orphan(log)
    if is_dead:
        os.kill(pid, signal.SIGKILL)
        assert process.wait_until(lambda: fostered.exit_code(pid) is not None, timeout_s=180)
    assert left in process.labelled(LABEL)
    assert process.stop_labelled(LABEL, grace_s=1) == ()
    assert is_gone(left)


def test_finds_an_orphan_after_our_own_death(log: Path) -> None:
    env = {**os.environ, process.LABEL: LABEL}
    with subprocess.Popen([sys.executable, "-c", STARTS_ONE, log], env=env, start_new_session=True) as us:
        left = orphan(log)
        os.killpg(us.pid, signal.SIGKILL)
    for engine in process.labelled(LABEL):
        if engine != left:
            engine.kill()
    assert process.stop_labelled(LABEL, grace_s=1) == ()
    assert is_gone(left)


def test_the_foster_parent_hears_no_signal_but_kill_and_ends_with_the_last_child(log: Path) -> None:
    pid = start(LEAVES_ONE, log)
    left, parent = orphan(log), psutil.Process(psutil.Process(pid).ppid())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        parent.send_signal(number)
    os.kill(pid, signal.SIGTERM)
    assert process.wait_until(lambda: fostered.exit_code(pid) == -signal.SIGTERM, timeout_s=180)
    assert process.is_running(parent)
    left.kill()
    assert process.wait_until(lambda: is_gone(parent), timeout_s=180)


def test_an_engine_whose_foster_parent_is_killed_is_still_found(log: Path) -> None:
    pid = start(SLEEP, log)
    engine = psutil.Process(pid)
    psutil.Process(engine.ppid()).kill()
    assert not process.wait_until(lambda: fostered.is_lost(pid), timeout_s=0.3)
    assert process.labelled(LABEL) == (engine,)
    assert process.stop_labelled(LABEL, grace_s=1) == ()
    assert (fostered.is_lost(pid), fostered.exit_code(pid)) == (True, None)


def test_a_foster_parent_that_was_stopped_does_not_remain(log: Path) -> None:
    pid = start(SLEEP, log)
    parent = psutil.Process(psutil.Process(pid).ppid())
    parent.suspend()
    assert process.stop_labelled(LABEL, grace_s=1) == ()
    assert is_gone(parent)
