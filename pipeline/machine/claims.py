"""Who is at work in a folder: a file that names the living processes, written before anything else is.

A folder belongs to one process, or to several with the same key: those of one shared search. A process that has ended
without a word is found out by its identity, one of another machine is taken to live.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from pipeline.core.errors import ConfigError
from pipeline.core.files import write_atomically
from pipeline.core.values import load, to_json, value
from pipeline.machine import identity
from pipeline.machine.identity import Identity


@value
class Claim:
    """The processes at work in a folder. `key`: what a process must want to join them; None: it is one's alone."""

    key: str | None
    owners: tuple[Identity, ...]


def take(path: Path, key: str | None = None) -> None:
    """Write into `path`, a file of the folder, that the folder is ours.

    Raises:
        ConfigError: a process that lives has it, and does not share it with us.
        OSError: the file cannot be written.
    """
    us = identity.of()
    with _locked(path.parent):
        found, owners = _load(path), [one for one in owners_of(path) if one != us]
        if found and owners and (key is None or found.key != key):
            raise in_use(path.parent, owners[0])
        _write(path, Claim(key=key, owners=(*owners, us)), is_new=found is None and not path.exists())


def give_back(path: Path) -> None:
    """The folder is no longer ours; the file of the last one is removed."""
    us = identity.of()
    with suppress(OSError), _locked(path.parent):
        found = _load(path)
        left = tuple(one for one in found.owners if one != us) if found else ()
        if found and left:
            _write(path, Claim(key=found.key, owners=left), is_new=False)
        elif found:
            path.unlink(missing_ok=True)


def owners_of(path: Path) -> list[Identity]:
    """The processes that the file names and that live."""
    found = _load(path)
    return [one for one in found.owners if identity.is_alive(one)] if found else []


def in_use(folder: Path, owner: Identity | None) -> ConfigError:
    """The error of a folder that belongs to a process that lives."""
    who = f"process {owner.pid} on {owner.host}" if owner else "another process"
    return ConfigError(
        f"{folder} is in use by {who}: wait for its end, or set another folder with hydra.run.dir=... or "
        f"hydra.sweep.dir=... (if that process is gone, remove owners.json in it)."
    )


def _load(path: Path) -> Claim | None:
    try:
        return load(Claim, path)
    except (OSError, ValidationError):
        return None


def _write(path: Path, claim: Claim, *, is_new: bool) -> None:
    if not is_new:
        write_atomically(path, to_json(claim))
    elif not _created(path, to_json(claim)):  # by another machine, which does not know our locks
        owners = owners_of(path)
        raise in_use(path.parent, owners[0] if owners else None)


def _created(path: Path, text: str) -> bool:
    """Make the file with its text at once, unless there is one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        path.hardlink_to(name)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        write_atomically(path, text)
    finally:
        Path(name).unlink(missing_ok=True)
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """No other process of this machine asks for the folder meanwhile, where its file system has locks."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # NFS locks no folder: there, making the file decides
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
