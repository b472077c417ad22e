"""Resumes a search when the same command is given again: finds the folder of the earlier run."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from pipeline.core.files import SweepDir, save
from pipeline.core.values import load, value
from pipeline.machine import identity
from pipeline.machine.identity import Identity

LIMITS = ("n_trials", "timeout_s", "gpu_hours", "repeats", "confirm", "held_out", "n_jobs")  # may change on the way
COMMAND = "SERVETUNE_COMMAND"  # the key of this process's command


@value
class Mark:
    """What a sweep's folder says of the search in it."""

    command: str  # the key of the command that began it
    owner: Identity  # of the process that was last at it
    is_done: bool
    study: str | None = None  # the search's name: the folder's, when it was begun. None: an older mark


_command = ""


def begin(overrides: Sequence[str], root: Path, *, is_placed: bool) -> Path | None:
    """Remember the command; the folder below `root` in which it was broken off, if the newest one of it was.

    `is_placed`: the command names its folder itself.
    """
    global _command  # noqa: PLW0603 - a process has one command
    _command = key("\n".join(sorted(word for word in overrides if not _is_limit(word))))
    return None if is_placed else _broken_off(root)


def key(text: str) -> str:
    """A short name for a long text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def marked(sweep: SweepDir, study: str) -> Iterator[None]:
    """The folder says that a search is going on in it; after this scope, unless it was broken off, that it is done."""
    mark = Mark(command=_command, owner=identity.of(), is_done=False, study=study)
    save(sweep.mark, mark)
    yield
    save(sweep.mark, replace(mark, is_done=True))


def study_in(sweep: SweepDir) -> str | None:
    """The name of the search that was begun in a folder, which may have had another place and name then."""
    mark = _load(sweep.mark)
    return mark.study if mark else None


def _broken_off(root: Path) -> Path | None:
    found = [(path.stat().st_mtime, path) for path in root.glob(f"*/{SweepDir(root).mark.name}")]
    for _, path in sorted(found, reverse=True):
        mark = _load(path)
        if mark and mark.command == _command:
            is_free = not mark.is_done and not identity.is_alive(mark.owner)
            return path.parent if is_free else None
    return None


def _load(path: Path) -> Mark | None:
    try:
        return load(Mark, path)
    except (OSError, ValidationError):
        return None


def _is_limit(word: str) -> bool:
    name = word.lstrip("+").split("=", 1)[0]
    return name in {f"hydra.sweeper.{limit}" for limit in LIMITS} or name == "hydra.sweep.dir"
