"""The content of a W&B run, before it is sent."""

import os
import re
import secrets as random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pipeline.core.files import SweepDir
from pipeline.core.redact import Secrets

MAX_NAME, MAX_TAG = 128, 64  # W&B's limits
MAX_KEY = 40  # characters of a sweep's name in the ids of its runs
UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")  # in an artifact's name, and in ids

Fill = Callable[[ModuleType, Any, Secrets], None]  # wandb, the run


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A run. Nothing in here is redacted yet, but the id."""

    run_id: str
    job_type: Literal["trial", "sweep"]
    group: str
    name: str
    tags: tuple[str, ...]
    config: Mapping[str, Any]
    artifact: str  # its name; its type is the job's
    files: tuple[tuple[Path, str], ...]  # where they are, and their names in the artifact
    fill: Fill  # logs tables, series and the summary
    exit_code: int

    def identity(self, secrets: Secrets) -> dict[str, Any]:
        """What W&B is told when the run begins."""
        told: dict[str, Any] = secrets.hide({"group": self.group, "name": self.name, "config": self.config})
        told["tags"] = [tag[:MAX_TAG] for tag in secrets.hide(self.tags)]
        return {**told, "name": told["name"][:MAX_NAME], "id": self.run_id, "job_type": self.job_type}

    def artifact_name(self, secrets: Secrets) -> str:
        """The artifact's name, in the characters that W&B allows."""
        return UNSAFE.sub("-", str(secrets.hide(self.artifact)))[:MAX_NAME]


def sweep_key(sweep: SweepDir, secrets: Secrets) -> str:
    """The id of a sweep among all of the W&B project: its name and what is drawn when its first trial is published.

    The name alone would let two sweeps of one name, of other people or machines, write into each other's runs.
    """
    sweep.tracker_key.parent.mkdir(parents=True, exist_ok=True)
    if not sweep.tracker_key.exists():
        name = UNSAFE.sub("-", str(secrets.hide(sweep.path.name)))[:MAX_KEY]
        write_once(sweep.tracker_key, f"{name}-{random.token_hex(4)}")
    return sweep.tracker_key.read_text("utf-8")


def write_once(path: Path, text: str) -> bool:
    """Write a file that several processes may write at once: the first one's stays, and is never seen half.

    Returns:
        whether it is ours.
    """
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.link(name, path)
    except FileExistsError:
        return False
    finally:
        Path(name).unlink()
    return True
