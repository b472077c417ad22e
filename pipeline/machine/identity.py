"""The identity of a process, so that a later process can tell whether exactly that one still runs."""

import os
import platform
from pathlib import Path

import psutil

from pipeline.core.values import value


@value
class Identity:
    """A process that cannot be confused with a later one of the same number."""

    pid: int
    start_ticks: int  # kernel clock ticks from boot to its start: a clock that is set does not change them
    boot_id: str
    pid_namespace: str  # a container's pids are not ours
    host: str


def of(pid: int | None = None) -> Identity:
    """The Identity of `pid`, of ourselves by default.

    Raises:
        psutil.NoSuchProcess: it is already gone.
    """
    number = pid or os.getpid()
    seen = _state_and_start(number)
    if seen is None:
        raise psutil.NoSuchProcess(number)
    return Identity(
        pid=number,
        start_ticks=seen[1],
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip(),
        pid_namespace=str(Path("/proc/self/ns/pid").readlink()),
        host=platform.node(),
    )


def _state_and_start(pid: int) -> tuple[str, int] | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[19])  # proc(5): fields 3 and 22


def is_alive(who: Identity) -> bool:
    """Whether that very process still runs; a zombie does not. True where we cannot look: another host or container."""
    here = of()
    if who.host != here.host:
        return True
    if who.boot_id != here.boot_id:
        return False
    if who.pid_namespace != here.pid_namespace:
        return True
    state, start = _state_and_start(who.pid) or ("gone", 0)
    return start == who.start_ticks and state not in {"Z", "X"}
