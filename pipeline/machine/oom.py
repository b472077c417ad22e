"""Counts what the kernel's out-of-memory killer has ended in the memory cgroup of this process, and of what it starts.

Sources: Linux Documentation/admin-guide/cgroup-v2.rst, `oom_kill` of memory.events and memory.events.local;
cgroup-v1/memory.rst, `oom_kill` of memory.oom_control. Both count kills at any limit, also the machine's.
"""

import re
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")
_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_NAMES = (  # the file, the kind of its mount, and the controller that a mount of version 1 has
    ("memory.oom_control", "cgroup", "memory"),
    ("memory.events.local", "cgroup2", ""),  # since Linux 5.2; the other one counts what is in cgroups below ours, too
    ("memory.events", "cgroup2", ""),
)
_before: dict[str, int] = {}


def watch(label: str, root: Path = _ROOT) -> None:
    """Remember the count before what has that lease's label is started."""
    seen = kills(root)
    if seen is not None:
        _before[label] = seen


def since(label: str, root: Path = _ROOT) -> int | None:
    """How many processes of the cgroup were ended since `watch`; None where nobody watched or nobody can tell.

    Others may be in the same cgroup: the count alone does not say that it was the engine's.
    """
    before, now = _before.get(label), kills(root)
    return None if before is None or now is None else max(0, now - before)


def kills(root: Path = _ROOT) -> int | None:
    """Processes of our memory cgroup that the OOM killer has ended since the cgroup is there; None if nothing tells."""
    for file in _files(root):
        try:
            found = _COUNT.search(file.read_text("ascii"))
        except (OSError, ValueError):
            continue
        if found:
            return int(found[1])
    return None


def _files(root: Path) -> Iterator[Path]:
    """Where the count may be: version 1 where it has the memory controller, else version 2."""
    try:
        own = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
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
