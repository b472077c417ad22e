"""Shared memory and named semaphores in /dev/shm: which objects there are, and which processes use them.

An object is known by its inode: names are the same in every mount namespace, the objects behind them are not. It may be
in a folder.
Source: proc(5), maps and fd; shm_overview(7); sem_overview(7).
"""

import os
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.core.values import value

PLACE = Path("/dev/shm")  # noqa: S108 - where the C library makes them


@value
class Thing:
    """An object of ours that lies in /dev/shm, or a folder."""

    inode: int
    name: str  # its path below /dev/shm
    size: int  # bytes; what is not written takes no memory
    changed_s: float  # seconds since the epoch
    is_folder: bool = False

    @property
    def path(self) -> Path:
        """Where it is."""
        return PLACE / self.name


def changed(folders: Iterable[Path] = ()) -> tuple[int, ...]:
    """When an object was last made or removed there and in these folders, in ns; 0 for a folder that is not there."""
    return tuple(map(_changed, (PLACE, *folders)))


def _changed(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def inodes() -> tuple[int, ...]:
    """Of every object and folder of this user, without what is in the folders."""
    return tuple(one.inode for one in _listed(PLACE))


def things(before: Container[int] = ()) -> dict[int, Thing]:
    """Every object of this user but these, by its inode; folders, and what is in them."""
    found = {}
    folders = [PLACE]
    while folders:
        for one in _listed(folders.pop()):
            if one.inode not in before:
                found[one.inode] = one
                folders += [one.path] if one.is_folder else []
    return found


def _listed(folder: Path) -> Iterator[Thing]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                seen = entry.stat(follow_symlinks=False)
                is_folder = entry.is_dir(follow_symlinks=False)
                if seen.st_uid == os.geteuid() and (is_folder or entry.is_file(follow_symlinks=False)):
                    yield Thing(
                        inode=seen.st_ino,
                        name=str(Path(entry.path).relative_to(PLACE)),
                        size=0 if is_folder else seen.st_size,
                        changed_s=seen.st_ctime,
                        is_folder=is_folder,
                    )


def written_by(pids: Iterable[int]) -> set[int]:
    """The objects that one of the processes may write to. Who only reads has not made it: weights that lie there."""
    return {inode for pid in pids for inode, is_written in _used(pid) if is_written}


def users(wanted: set[int]) -> dict[int, int]:
    """Of these objects, those that a living process still has, each with one such process."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()] if wanted else []
    return {inode: pid for pid in pids for inode, _ in _used(pid) if inode in wanted}


def _used(pid: int) -> Iterator[tuple[int, bool]]:
    """Each object that a process has mapped or open, and whether for writing; nothing of one that is gone."""
    try:
        device = PLACE.stat().st_dev
    except OSError:
        return
    with suppress(OSError):
        yield from _mapped(Path(f"/proc/{pid}/maps"), f"{os.major(device):02x}:{os.minor(device):02x}")
    with suppress(OSError):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError, ValueError):
                if str(file.readlink()).startswith(f"{PLACE}/"):
                    yield from _open(file, device)


def _mapped(maps: Path, device: str) -> Iterator[tuple[int, bool]]:
    """E.g. `7f01-7f02 rw-s 00000000 00:18 93 /dev/shm/psm_93`."""
    with maps.open("rb") as lines:
        for line in lines:
            if b" /dev/shm/" in line:
                _, rights, _, on, inode = line.split(maxsplit=5)[:5]
                if on.decode() == device:
                    yield int(inode), rights[1:2] == b"w" and rights[3:4] == b"s"


def _open(file: Path, device: int) -> Iterator[tuple[int, bool]]:
    seen = file.stat()
    if seen.st_dev == device:
        told = (file.parent.parent / "fdinfo" / file.name).read_text("ascii")
        flags = next(line for line in told.splitlines() if line.startswith("flags:")).split()[1]
        yield seen.st_ino, int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
