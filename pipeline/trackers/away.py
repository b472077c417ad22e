"""Whether a tracker's server is away: known to all processes of one command, so that each does not wait for it anew."""

import os
from pathlib import Path

from pipeline.machine import owner
from pipeline.trackers.wandb_content import write_once


def is_marked(file: Path) -> bool:
    """Whether the server has not answered this command. Another command, which goes on with the sweep, asks again."""
    try:
        return file.read_text("utf-8") == _command()
    except OSError:
        return False


def mark(file: Path) -> bool:
    """The server has not answered: ask it no more. Whether we are the first one of the command to find that."""
    try:
        if is_marked(file):
            return False
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)  # another command's
        return write_once(file, _command())
    except OSError:
        return True


def _command() -> str:
    """The process that the command is, as all of its processes know it."""
    return os.environ.get(owner.OWNER, "")
