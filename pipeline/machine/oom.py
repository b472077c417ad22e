"""Counts what the kernel's out-of-memory killer has ended in the memory cgroups in which an engine has lived.

It starts in ours. systemd, a batch system or a person may move it, or us, to another one while it runs: that one
has a count of its own, and may be gone when its last process ends.

Sources: Linux Documentation/admin-guide/cgroup-v2.rst, `oom_kill` of memory.events and memory.events.local;
cgroup-v1/memory.rst, `oom_kill` of memory.oom_control. Both count kills at any limit, also the machine's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_ROOT = Path("/")
_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_NAMES = (  # the file, the kind of its mount, and the controller that a mount of version 1 has
    ("memory.oom_control", "cgroup", "memory"),
    ("memory.events.local", "cgroup2", ""),  # since Linux 5.2; the other one counts what is in cgroups below ours, too
    ("memory.events", "cgroup2", ""),
)
SELF = "self"


@dataclass
class _Homes:
    """Where one engine has lived: the files with the counts, and what they said when it came; None: nothing tells."""

    counts: dict[Path | None, int] = field(default_factory=dict)
    where: str | None = None  # /proc/PID/cgroup, as it was last


_homes: dict[str, _Homes] = {}


def watch(label: str, root: Path = _ROOT) -> None:
    """Remember the count before what has that lease's label is started."""
    homes = _homes[label] = _Homes()
    _enter(homes, SELF, root)


def follow(label: str, pid: int, root: Path = _ROOT) -> None:
    """Look where the engine lives now; cheap: called several times a second."""
    homes = _homes.get(label)
    if homes:
        _enter(homes, str(pid), root)


def since(label: str) -> int | None:
    """How many processes of its cgroups were ended while the engine lived there; None where nobody can tell.

    Where one of the cgroups does not tell (any more), kills that others counted are told, but no kill is not. Others
    may be in the same cgroup: the count alone does not say that it was the engine's.
    """
    homes = _homes.get(label)
    if homes is None:
        return None
    now = {file: _read(file) if file else None for file in homes.counts}
    more = [max(0, count - homes.counts[file]) for file, count in now.items() if count is not None]
    return sum(more) if more and (any(more) or None not in now.values()) else None


def kills(root: Path = _ROOT, who: str = SELF) -> int | None:
    """Processes of its memory cgroup that the OOM killer has ended since the cgroup is there; None if nothing tells.

    `who`: a process, by its name below /proc.
    """
    return _home(who, root)[1]


def _enter(homes: _Homes, who: str, root: Path) -> None:
    """Note the cgroup where that process lives, with its count, unless it is known."""
    try:
        where = (root / "proc" / who / "cgroup").read_text("utf-8")
    except (OSError, ValueError):
        where = ""
    if where == homes.where or (not where and who != SELF):  # a process that is gone says nothing new
        return
    homes.where = where
    file, count = _home(who, root)
    homes.counts.setdefault(file, count or 0)


def _home(who: str, root: Path) -> tuple[Path | None, int | None]:
    for file in _files(root, who):
        if (count := _read(file)) is not None:
            return file, count
    return None, None


def _read(file: Path) -> int | None:
    try:
        found = _COUNT.search(file.read_text("ascii"))
    except (OSError, ValueError):
        return None
    return int(found[1]) if found else None


def _files(root: Path, who: str) -> Iterator[Path]:
    """Where the count may be: version 1 where it has the memory controller, else version 2."""
    try:
        own = (root / "proc" / who / "cgroup").read_text("utf-8").splitlines()
        mounts = (root / "proc/self/mountinfo").read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return
    paths = dict(_path(line) for line in own if line.count(":") >= 2)
    for name, kind, option in _NAMES:
        for line in mounts:
            where = _mount(line, kind, option)
            if where and option in paths:
                inner = paths[option].removeprefix(where[0].rstrip("/")).lstrip("/")
                yield root / where[1].lstrip("/") / inner / name


def _path(line: str) -> tuple[str, str]:
    """`4:memory:/a` -> (memory, /a); `0::/a` -> ("", /a)."""
    _, controllers, path = line.split(":", 2)
    names = controllers.split(",")
    return ("memory" if "memory" in names else controllers), path


def _mount(line: str, kind: str, option: str) -> tuple[str, str] | None:
    """Which cgroup is mounted where, if the line of mountinfo is of such a mount."""
    head, _, tail = line.partition(" - ")
    fields, after = head.split(), tail.split()
    if len(fields) < 5 or len(after) < 3 or after[0] != kind or (option and option not in after[2].split(",")):
        return None
    return fields[3], fields[4]
