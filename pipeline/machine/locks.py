"""Lock files of this machine, one trial at a time: flock, which the kernel releases when the last holder ends."""

import fcntl
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pipeline.core.errors import PreflightFailed

SHARED = Path("/run/lock")  # of all users of the machine


def folder() -> Path:
    """Where the files are: $SERVETUNE_SLOTS_DIR, else one folder for all users of this machine."""
    own = os.environ.get("SERVETUNE_SLOTS_DIR")
    base = SHARED if os.access(SHARED, os.W_OK) else Path(tempfile.gettempdir())
    return Path(own) if own else base / "servetune"


def take(name: str) -> int | None:
    """The open file whose lock is ours until it is closed; None while another has it.

    Raises:
        PreflightFailed: the folder cannot be used.
    """
    file = _open(name)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def give_back(files: Iterable[int]) -> None:
    """Close them; a lock lasts as long as another process holds the same open file."""
    for file in files:
        os.close(file)


def sign(file: int, holder: str) -> None:
    """Write into the file who has it."""
    os.truncate(file, 0)
    os.pwrite(file, holder.encode(), 0)


def holder(name: str) -> str:
    """Who wrote into the file last."""
    with suppress(OSError):
        return (folder() / name).read_text("utf-8", errors="replace") or "another trial"
    return "another trial"


def _open(name: str) -> int:
    """The file, made if it is missing; anybody may lock it."""
    place = folder()
    try:
        if not place.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o1777)
        with suppress(FileExistsError):  # no O_CREAT on what exists: fs.protected_regular forbids that to other users
            file = os.open(place / name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            os.fchmod(file, 0o666)  # the umask has taken rights away
            return file
        return os.open(place / name, os.O_RDWR)
    except OSError as error:
        raise PreflightFailed(
            f"The folder {place}, with the locks of GPUs and cores, cannot be used: {error.strerror or error}.",
            hint="Make it writable for all users, or have all of them set SERVETUNE_SLOTS_DIR to another folder.",
        ) from error
