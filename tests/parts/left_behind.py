"""What a real engine leaves on this machine, for the tests that start one."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.machine import process, shared_memory

GONE_S = 60.0


def lying() -> dict[str, int]:
    """What lies in /dev/shm and is used by nobody, with its inode: what runs beside us does not count."""
    things = shared_memory.things()
    used = [things[inode].name for inode in shared_memory.users(set(things))]
    around = {str(folder) for name in used for folder in Path(name).parents}
    return {one.name: one.inode for one in things.values() if one.name not in {*used, *around}}


@contextmanager
def nothing_left() -> Iterator[Path]:
    """A short folder to set as TMPDIR of the pipeline. In the end it is empty, and /dev/shm holds nothing more."""
    before = lying()
    with tempfile.TemporaryDirectory(prefix="st-", dir="/tmp") as folder:
        yield Path(folder)
        left = sorted(path.name for path in Path(folder).iterdir())
        assert left == [], f"left in the folder for temporary files: {left}"
    # What others beside us have just left is gone in a moment
    gone = process.wait_until(lambda: not lying().keys() - before.keys(), timeout_s=GONE_S)
    assert gone, f"left in {shared_memory.PLACE}: {sorted(lying().keys() - before.keys())}"
