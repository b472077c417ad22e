"""Which versions of an engine there is a catalogue of. Light, so that a shell can complete them at once."""

import json
from functools import cache
from pathlib import Path

from packaging.version import InvalidVersion, Version

from pipeline.core.places import PACKAGE, cache_dir

FOLDER = PACKAGE / "engines" / "catalogues"
HISTORY = "history.jsonl"


def own_folder() -> Path:
    """Where `servetune catalogues` writes outside a checkout: catalogues of this user."""
    return cache_dir() / "catalogues"


@cache
def versions(engine: str) -> tuple[str, ...]:
    """The versions of an engine that have a catalogue, oldest first; none for an engine without."""
    found = {*listed(engine), *(path.stem for path in files(engine))}
    return tuple(sorted(found, key=Version))


def listed(engine: str) -> tuple[str, ...]:
    """The releases in the engine's history file."""
    try:
        with (FOLDER / engine / HISTORY).open(encoding="utf-8") as file:
            return tuple(json.loads(file.readline()))
    except (FileNotFoundError, NotADirectoryError):
        return ()


def files(engine: str) -> tuple[Path, ...]:
    """The catalogues of single versions, shipped and of this user."""
    return tuple(path for folder in (FOLDER, own_folder()) for path in sorted((folder / engine).glob("*.json")))


def is_same_release(seen: str, wanted: str) -> bool:
    """Whether two versions have the same flags: a build's own suffix (+cpu, +cu129) changes none."""
    try:
        return Version(seen).public == Version(wanted).public
    except InvalidVersion:
        return seen == wanted
