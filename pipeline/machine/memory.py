"""How much memory processes of this machine may use, in GiB."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

GIB = 2**30
V2, V1 = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")  # Linux, admin-guide/cgroup-v2, cgroup-v1/memory
OURS = Path("/proc/self/cgroup")


def total_gib() -> float:
    """All that this process may use: the machine's, or what a container or a batch job leaves of it."""
    return min([psutil.virtual_memory().total, *_limits()]) / GIB


def available_gib() -> float:
    """What of it is free at this moment, or is given back by caches."""
    return min([psutil.virtual_memory().available, *_limits()]) / GIB


def _limits() -> Iterator[int]:
    """Of our cgroup and those around it; a number near 2**63 means none."""
    for line in _read(OURS).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in {"", "memory"}:
            root, name = (V1, "memory.limit_in_bytes") if controllers else (V2, "memory.max")
            folder = Path(os.path.normpath(f"{root}/{path}"))
            for where in (folder, *folder.parents):
                if where.is_relative_to(root) and (text := _read(where / name).strip()).isdigit():
                    yield int(text)


def _read(file: Path) -> str:
    with suppress(OSError):
        return file.read_text("ascii")
    return ""
