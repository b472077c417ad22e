"""Whether a disk has room for a trial."""

import errno
import os
from contextlib import suppress
from pathlib import Path

from pipeline.core.errors import DiskFull

MINIMUM_FREE_BYTES = 64 * 1024 * 1024


def full(folder: Path) -> DiskFull:
    """The error of a disk that is full, with what is free on it."""
    free = _free_bytes(folder)
    told = "" if free is None else f"{free / 1e6:.1f} MB free; "
    return DiskFull(f"The disk of {folder} is full: {told}a trial needs {MINIMUM_FREE_BYTES / 1e6:.0f} MB.")


def is_full(folder: Path) -> bool:
    """Whether there is too little space for a trial."""
    free = _free_bytes(folder)
    return free is not None and free < MINIMUM_FREE_BYTES


def insist(folder: Path) -> None:
    """Check that there is room for a trial in a folder, which need not be there yet.

    Raises:
        DiskFull: with what is free.
    """
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    if is_full(there):
        raise full(there)


def is_about_it(error: OSError) -> bool:
    """Whether it says that a disk is full, or a user's share of it."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def _free_bytes(folder: Path) -> int | None:
    with suppress(OSError):
        state = os.statvfs(folder)
        return state.f_bavail * state.f_frsize if state.f_blocks else None  # /proc and its kind have no room to tell of
    return None
