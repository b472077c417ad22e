"""Subprocesses by label, with real processes."""

import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.backends import ports
from pipeline.machine import identity, process

LABEL = f"test-label-{os.getpid()}"  # of this worker
OTHER = f"other-{LABEL}"
SLEEP = "import time; time.sleep(60)"
IGNORE_TERM = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
EXIT = {"x86_64": 60, "aarch64": 93}[platform.machine()]  # the system call that ends one thread only
THREAD_OUTLIVES_LEADER = (
    "import ctypes, signal, socket, threading, time; door = socket.create_server(('127.0.0.1', 0)); "
    f"signal.signal(15, lambda *_: ctypes.CDLL(None).syscall({EXIT}, 0)); "
    "threading.Thread(target=time.sleep, args=(60,)).start(); print(door.getsockname()[1], flush=True); time.sleep(60)"
)
CHILD = (  # it says when it hears TERM, and then does the given
    "import signal, sys, time; signal.signal(15, lambda *_: {}); print('child', flush=True); time.sleep(60)"
)
CHILD = (  # it says when it hears TERM, and then does the given
    "import signal, sys, time; signal.signal(15, lambda *_: {}); print('child', flush=True); time.sleep(60)"
)
CHILD_OF_ITS_OWN_SESSION = (  # its parent ends at once
    f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True); "
    "print(child.pid, flush=True)"
)
CHILD_WITHOUT_ENVIRONMENT = (
    CHILD_OF_ITS_OWN_SESSION.replace("start_new_session=True", "start_new_session=True, env={}") + "; child.wait()"
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def start(script: str, log: Path, label: str = LABEL) -> int:
    return process.spawn([sys.executable, "-c", script], log=log, env={**os.environ, process.LABEL: label})


def test_spawn_tells_the_exit_code(log: Path) -> None:
    pid = start("raise SystemExit('words')", log)
    assert process.wait_until(lambda: process.exit_code(pid) == 1, timeout_s=180)
    assert log.read_text() == "words\n"


def test_spawned_processes_lead_a_session_and_read_nothing(log: Path) -> None:
    pid = start("import os, sys; print(os.getsid(0) == os.getpid(), repr(sys.stdin.read()))", log)
    assert process.wait_until(lambda: process.exit_code(pid) == 0, timeout_s=180)
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
    assert process.wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, timeout_s=180)
    assert process.labelled(LABEL) == ()
    assert process.stop_labelled(LABEL, grace_s=0) == ()


def test_a_zombie_whose_threads_go_on_counts(log: Path) -> None:
    """A killed engine is one until its last thread is gone, and only then is its port free."""
    pid = start(THREAD_OUTLIVES_LEADER, log)
    assert process.wait_until(lambda: log.read_text().endswith("\n"), timeout_s=180)
    port = int(log.read_text())
    assert process.stop_labelled(LABEL, grace_s=0.5) == ()
    assert ports.is_free("127.0.0.1", port)
    assert process.exit_code(pid) == -signal.SIGKILL


@pytest.mark.parametrize("said", ["ended last", "was left"])
def test_the_root_ends_its_children_itself(said: str, log: Path) -> None:
    """A child that gets its TERM beside the root is a crash to it; one that the root leaves gets it after the root."""
    child = CHILD.format("sys.exit(7)")
    end = "child.terminate(); print('told to end', child.wait(), flush=True)" if said == "ended last" else "pass"
    root = (
        f"import signal, subprocess, sys, time\nchild = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "signal.signal(15, lambda *_: print('root', child.poll(), flush=True) or sys.exit())\n"
        f"try:\n    time.sleep(60)\nfinally:\n    time.sleep(0.3)\n    print('after', child.poll())\n    {end}\n"
    )
    start(root, log)
    assert process.wait_until(lambda: "child" in log.read_text(), timeout_s=180)
    begun = time.monotonic()
    assert process.stop_labelled(LABEL, grace_s=30) == ()
    assert time.monotonic() - begun < 15
    words = log.read_text().split("\n")
    assert words[1:3] == ["root None", "after None"]
    assert ("told to end 7" in words) is (said == "ended last")


def test_a_root_that_does_not_end_leaves_its_children_a_share_of_the_time(log: Path) -> None:
    child = CHILD.format("print('ended', flush=True) or sys.exit()")
    root = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {child!r}])\n{IGNORE_TERM}"
    pid = start(root, log)
    assert process.wait_until(lambda: {"deaf", "child"} <= {*log.read_text().split()}, timeout_s=180)
    assert process.stop_labelled(LABEL, grace_s=3) == ()
    assert process.exit_code(pid) == -signal.SIGKILL
    assert "ended" in log.read_text()


def test_what_ignores_term_is_killed_after_its_grace(log: Path) -> None:
    pid = start(IGNORE_TERM, log)
    assert process.wait_until(lambda: log.read_text() == "deaf\n", timeout_s=180)
    begun = time.monotonic()
    assert process.stop_labelled(LABEL, grace_s=0.3) == ()
    assert time.monotonic() - begun > 0.3
    assert process.exit_code(pid) == -signal.SIGKILL


@pytest.mark.parametrize(
    "script", [CHILD_OF_ITS_OWN_SESSION, CHILD_WITHOUT_ENVIRONMENT], ids=["left-the-session", "wiped-its-environment"]
)
def test_stops_a_child_that(script: str, log: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    parent = psutil.Process(start(script, log))
    assert process.wait_until(lambda: log.read_text().endswith("\n"), timeout_s=180)
    child = psutil.Process(int(log.read_text()))
    assert process.wait_until(lambda: SLEEP in child.cmdline(), timeout_s=180)
    assert process.stop_labelled(LABEL, grace_s=2) == ()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert set(psutil.Process().children(recursive=True)) <= before | {parent}


def test_never_stops_itself() -> None:
    script = (
        "from pipeline.machine import process\n"
        f"print(process.labelled({LABEL!r}), process.stop_labelled({LABEL!r}, grace_s=0))"
    )
    env = {**os.environ, process.LABEL: LABEL}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "() ()\n")


def test_kills_a_group_with_all_that_is_in_it(log: Path) -> None:
    pid = start(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])", log)
    assert process.wait_until(lambda: len(process.labelled(LABEL)) == 2, timeout_s=180)
    process.kill_group(pid)
    assert process.wait_until(lambda: not process.labelled(LABEL), timeout_s=180)
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
        assert process.wait_until(lambda: not identity.is_alive(who), timeout_s=180)
    assert not identity.is_alive(who)
    with pytest.raises(psutil.NoSuchProcess):
        identity.of(child.pid)
