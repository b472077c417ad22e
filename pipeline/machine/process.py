"""The only module that starts subprocesses.

Local processes carry their lease's id in their environment (LABEL): teardown finds them by that label, not by
memory, so children that left the group or the session are found too. Those that have also wiped their environment are
found below the engine's foster parent, whoever of the engine's own processes has died (foster.py).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from pipeline.machine import foster

LABEL, FOSTER = foster.LABEL, foster.FOSTER
FIRST = 2 / 3  # of the time to stop, for the root to end its children
ORDERLY_S = 1.0  # for what its end brings about
KILLED_WITHIN_S = 15.0  # the kernel takes its time with a process of many gigabytes
DYING_S = 5.0  # a process that was killed before anybody looked has its port for a while, and no label any more
_children: dict[int, subprocess.Popen[bytes]] = {}


def spawn(
    argv: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path | None = None, cores: Sequence[int] = ()
) -> int:
    """Start `argv` in a session of its own, stdout and stderr to `log`, no stdin. Returns the pid.

    With `cores`, it and what it starts run on these only.

    Raises:
        OSError: the program cannot be started.
    """
    with log.open("ab") as out, on_cores(cores):
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=cwd, start_new_session=True
        )
    _children[child.pid] = child
    return child.pid


@contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    """What this thread starts inherits the cores that it runs on."""
    before = os.sched_getaffinity(0)
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, before)


def spawn_piped(
    argv: Sequence[str], *, log: Path, env: Mapping[str, str], files: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start `argv` in a session of its own with pipes to its stdin and from its stdout; stderr to `log`.

    It inherits the open `files`.

    Raises:
        OSError: the program cannot be started.
    """
    with log.open("ab") as err:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=err, env=env, start_new_session=True, bufsize=0, pass_fds=files
        )


def ask(argv: Sequence[str], *, env: Mapping[str, str], timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a short program to its end; what it said.

    Raises:
        OSError: the program cannot be started.
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    return subprocess.run(
        argv, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout_s, check=False, env=env
    )


def show(argv: Sequence[str], *, env: Mapping[str, str]) -> int:
    """Run a program to its end in front of the user, who sees what it says; its exit code.

    Raises:
        OSError: the program cannot be started.
    """
    return subprocess.run(argv, stdin=subprocess.DEVNULL, check=False, env=env).returncode


def exit_code(pid: int) -> int | None:
    """How a child started by `spawn` ended (negative: by that signal), None while it runs or if it is not ours."""
    child = _children.get(pid)
    return child.poll() if child else None


def python(module: str) -> tuple[str, ...]:
    """The command that runs a module of this project in this environment."""
    return (sys.executable, "-m", module)


def labelled(label: str) -> tuple[psutil.Process, ...]:
    """Every living process whose environment carries the lease id `label`, and all below its foster parent.

    Neither zombies nor we ourselves nor the foster parent count.
    """
    found, parents = _carrying(label)
    for parent in parents:
        with suppress(psutil.NoSuchProcess):
            found |= dict.fromkeys(filter(is_running, parent.children(recursive=True)))
    return tuple(found)


def _carrying(label: str) -> tuple[dict[psutil.Process, None], tuple[psutil.Process, ...]]:
    """The processes with the label in their environment; the foster parents with it."""
    found: dict[str, dict[psutil.Process, None]] = {LABEL: {}, FOSTER: {}}
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            told = process.environ()
            name = FOSTER if FOSTER in told else LABEL
            if told.get(name) == label and is_running(process) and process.pid != os.getpid():
                found[name][process] = None
    return found[LABEL], tuple(found[FOSTER])


def is_running(process: psutil.Process) -> bool:
    """Whether it still holds anything: a zombie whose threads are ending has its ports and memory until the last."""
    try:
        return process.is_running() and (process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    except psutil.NoSuchProcess:
        return False


def _with_descendants(known: Iterable[psutil.Process]) -> set[psutil.Process]:
    """The processes and all that they started, even those that have wiped their environment."""
    found = set(known)
    for process in known:
        with suppress(psutil.NoSuchProcess):
            found.update(process.children(recursive=True))
    return set(filter(is_running, found))


def stop_labelled(label: str, *, grace_s: float, settle_s: float = 0.1) -> tuple[str, ...]:
    """TERM the root of the processes with the label, then the rest; KILL what is left after `grace_s`.

    An engine ends its own children in order; where they end beside it, it reports a crash and leaks what it shares
    with them. So they get their TERM when it is gone, or after FIRST of the time. The end is when no process was seen
    for `settle_s`: one caught between fork and exec does not carry the label yet.

    Returns:
        what is still there, in words; empty when all is gone.
    """
    known: set[psutil.Process] = set()

    def left() -> set[psutil.Process]:
        nonlocal known
        known = _with_descendants({*known, *labelled(label)})
        return known

    roots, start = _roots(left()), time.monotonic()
    _each(roots, psutil.Process.terminate)
    wait_until(lambda: not any(map(is_running, roots)), timeout_s=FIRST * grace_s)
    wait_until(lambda: not left(), timeout_s=min(ORDERLY_S, (1 - FIRST) / 2 * grace_s))
    _each(left() - roots, psutil.Process.terminate)
    wait_until(lambda: not left(), timeout_s=start + grace_s - time.monotonic())
    begun = time.monotonic()
    while time.monotonic() < begun + KILLED_WITHIN_S:
        rest = left()
        _each(rest, psutil.Process.kill)
        _reap()
        time.sleep(settle_s)
        if not rest and not left() and not _foster_parents(label, is_late=time.monotonic() > begun + ORDERLY_S):
            return ()
    return tuple(_name(process) for process in left())


def _foster_parents(label: str, *, is_late: bool) -> bool:
    """Whether there is one: then something is below it that we did not see, or it has yet to start the engine.

    It ends by itself when the kernel tells it that nothing is left. One that was suspended does not, and is killed.
    """
    _, parents = _carrying(label)
    _each(parents if is_late else (), psutil.Process.kill)
    return bool(parents)


def _roots(processes: set[psutil.Process]) -> set[psutil.Process]:
    """Those that none of the others has started."""
    pids = {process.pid for process in processes}
    roots = set()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.ppid() not in pids:
                roots.add(process)
    return roots


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
