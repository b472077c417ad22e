"""What a trial's processes leave beside themselves on this machine: a temporary folder, shared memory, semaphores.

The folder is the trial's own: its TMPDIR. Objects in /dev/shm have random names; one is the trial's if it was not there
before and one of the trial's processes had it for writing. That is noted while they run, because nobody can tell any
more when they are gone. An object that any living process has is never removed. Folders that were not there before are
looked into; one goes when nothing is left in it that held something of the trial's.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pipeline.backends import lease
from pipeline.backends.lease import Lease
from pipeline.core.errors import DeployFailed, FailureKind
from pipeline.core.values import printable, value
from pipeline.machine import process, shared_memory
from pipeline.machine.shared_memory import Thing

PREFIX = "servetune-"
LONGEST = 70  # characters: a socket's path has at most 107, and vLLM's are called as a UUID. Source: unix(7)
SHORT = Path("/tmp")  # noqa: S108 - where the user's own is too long for sockets
SHOWN = 5  # names of what was in the folder
TRIES = 3  # to find out whose a new object is


@value
class Swept:
    """What was found when the processes were gone, in words."""

    remaining: tuple[str, ...] = ()  # the trial's, and not removed
    removed: tuple[str, ...] = ()
    unclaimed: tuple[str, ...] = ()  # made meanwhile, used by nobody, not known to be the trial's: left alone


def make(owned: Lease, env: Mapping[str, str]) -> Lease:
    """Make the trial's temporary folder, unless the runtime's variables name one; the lease that says so, on disk.

    Raises:
        DeployFailed: the folder cannot be made.
        OSError: the lease cannot be written.
    """
    folder = None if "TMPDIR" in env else _base() / f"{PREFIX}{owned.label[-8:]}"
    owned = replace(owned, scratch=folder, shared_before=shared_memory.inodes())
    lease.update(owned)
    lease.notes(owned.label).touch()
    if folder:
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise DeployFailed(
                f"Cannot make the trial's temporary folder {folder}: {error.strerror or error}.",
                kind=FailureKind.LOAD_FAILED,
                hint="Set TMPDIR to a folder that can be written and has space.",
            ) from error
    return owned


def _base() -> Path:
    """The user's folder for temporary files, or a shorter one where sockets would not fit."""
    usual = Path(tempfile.gettempdir())
    is_long = len(f"{usual}/{PREFIX}12345678") > LONGEST
    return SHORT if is_long and os.access(SHORT, os.W_OK) else usual


def environment(owned: Lease) -> dict[str, str]:
    """The variables that keep temporary files in the trial's folder, and compiled kernels for the next trial.

    Source: torch 2.13, _inductor/runtime/cache_dir_utils.py: else kernels are in the folder for temporary files.
    """
    from pipeline.core.places import cache_dir  # not for the keeper, which starts with every trial

    if owned.scratch is None:
        return {}
    kept = os.environ.get("TORCHINDUCTOR_CACHE_DIR") or str(cache_dir() / "torchinductor")
    return {"TMPDIR": str(owned.scratch), "TORCHINDUCTOR_CACHE_DIR": kept}


class Watch:
    """Notes which objects of /dev/shm are a trial's. Cheap while none is made: one look at the folders' clocks."""

    def __init__(self, owned: Lease) -> None:
        self.owned = owned
        self.clock: tuple[int, ...] = ()
        self.folders: tuple[Path, ...] = ()  # in /dev/shm, new
        self.tries: dict[int, int] = {}

    def look(self) -> None:
        """Note what the trial's processes have made since the last look."""
        clock = shared_memory.changed(self.folders)
        path = lease.notes(self.owned.label)
        if not path.exists() or (clock == self.clock and not self._open()):
            return
        self.clock = clock
        found, noted = shared_memory.things({*lease.current(self.owned).shared_before}), _noted(path)
        folders = tuple(one.path for one in found.values() if one.is_folder)
        if folders != self.folders:  # their clocks are looked at from now on
            self.folders, self.clock = folders, ()
        new = {inode: one for inode, one in found.items() if inode not in noted and not one.is_folder}
        self.tries = {inode: self.tries.get(inode, 0) for inode in new}
        if self._open():
            _note(path, new, self.owned.label)
            self.tries = {inode: tried + 1 for inode, tried in self.tries.items()}

    def _open(self) -> bool:
        return any(tried < TRIES for tried in self.tries.values())


def look(owned: Lease) -> None:
    """Note what the trial's processes have now; before they are stopped."""
    Watch(owned).look()


def _note(path: Path, new: Mapping[int, Thing], label: str) -> None:
    """Append those that are the trial's: one line each, so that two who do it do not harm each other."""
    made = shared_memory.written_by(one.pid for one in process.labelled(label))
    lines = "".join(f"{inode} {printable(new[inode].name)}\n" for inode in made if inode in new)
    with suppress(FileNotFoundError):  # torn down meanwhile
        handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(handle, lines.encode())
        finally:
            os.close(handle)


def _noted(path: Path) -> dict[int, str]:
    try:
        rows = (line.partition(" ") for line in path.read_text("utf-8").splitlines())
    except OSError:
        return {}
    return {int(inode): name for inode, _, name in rows if inode.isdigit()}  # a full disk cuts a line off


def remove(owned: Lease) -> Swept:
    """Remove what the trial's processes have left, once they are gone; what was found. Idempotent."""
    folder, path = _folder(owned), lease.notes(owned.label)
    if not path.exists():
        return folder
    noted, before = _noted(path), set(owned.shared_before)
    seen = shared_memory.things(before).values()
    new = [one for one in seen if not one.is_folder]
    ours = [one for one in new if noted.get(one.inode) == printable(one.name)]
    mine = {one.inode for one in ours}
    process.wait_until(lambda: not shared_memory.users(mine), timeout_s=process.DYING_S, interval_s=0.2)
    used = shared_memory.users({one.inode for one in new})
    held = [f"{_called(one)}: process {used[one.inode]} still uses it" for one in ours if one.inode in used]
    kept = {one.inode: _unlink(one) for one in ours if one.inode not in used}
    since = owned.created_at.timestamp()
    made = [one for one in seen if one.is_folder and one.changed_s >= since]
    emptied, left = _folders(made, tuple(noted.values()))
    others = [one for one in new if one not in ours and one.inode not in used and one.changed_s >= since]
    return Swept(
        remaining=(
            *folder.remaining,
            *held,
            *(f"{_called(one)}: {why}" for one in ours if (why := kept.get(one.inode))),
        ),
        removed=(*folder.removed, *(_called(one) for one in ours if kept.get(one.inode) == ""), *emptied),
        unclaimed=(*_grouped(others), *left),
    )


def _folders(new: Sequence[Thing], noted: Sequence[str]) -> tuple[list[str], list[str]]:
    """Remove new folders that hold nothing more but have held something of the trial's; them, and the other empty ones.

    What is not empty has something of nobody known in it, which is told of itself.
    """
    removed: list[str] = []
    left: list[str] = []
    for one in sorted(new, key=lambda one: one.name.count("/"), reverse=True):
        is_ours = any(name.startswith(f"{printable(one.name)}/") for name in noted)
        with suppress(OSError):  # not empty, or gone
            if is_ours:
                one.path.rmdir()
            elif any(one.path.iterdir()):
                continue
            (removed if is_ours else left).append(f"{one.path} (folder)")
    return removed, left


def _grouped(others: Sequence[Thing]) -> Iterator[str]:
    """By name; those in a folder together."""
    inside: dict[str, list[Thing]] = {}
    for one in others:
        top, _, below = one.name.partition("/")
        if below:
            inside.setdefault(top, []).append(one)
        else:
            yield _called(one)
    for top, some in inside.items():
        megabytes = sum(one.size for one in some) / 1e6
        yield f"{shared_memory.PLACE / top} (folder with {len(some)} file{'s' * (len(some) > 1)}, {megabytes:.1f} MB)"


def _called(one: Thing) -> str:
    return f"{one.path} ({one.size / 1e6:.1f} MB)"


def _unlink(one: Thing) -> str:
    """Why it could not be removed; empty: it is gone."""
    try:
        one.path.unlink(missing_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _folder(owned: Lease) -> Swept:
    """The trial's temporary folder: by its name only, whatever the lease says, and no link."""
    folder = owned.scratch
    if folder is None or folder.name != f"{PREFIX}{owned.label[-8:]}" or not folder.is_dir() or folder.is_symlink():
        return Swept()
    left = _listed(folder)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        return Swept(remaining=(f"folder {folder} cannot be removed",))
    return Swept(removed=(f"{folder} ({left})",) if left else ())


def _listed(folder: Path) -> str:
    """What is in it, in words; sockets have no telling names."""
    there = sorted(folder.iterdir())
    sockets = sum(path.is_socket() for path in there)
    names = [path.name for path in there if not path.is_socket()]
    more = [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return ", ".join([*names[:SHOWN], *more, *([f"{sockets} sockets"] if sockets else [])])
