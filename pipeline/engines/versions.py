"""Which versions of an engine there is a catalogue of. Light, so that a shell can complete them at once."""

import difflib
import json
from collections.abc import Sequence
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


def unknown(engine: str, version: str | None) -> str | None:
    """That a version has no catalogue, with the nearest that have one; None: it has, or no version of the engine has.

    Without one its flags are not known: nothing stands in for it.
    """
    known = versions(engine)
    if version is None or not known or version in known:
        return None
    near = nearest(version, known)
    return (
        f"there is no flag catalogue for {engine} {version}; the nearest known version{'s' * (len(near) > 1)}: "
        f"{', '.join(near)}"
    )


def nearest(version: str, known: Sequence[str]) -> tuple[str, ...]:
    """Of these versions, oldest first, those below and above; for what is no version, the most alike, or the newest."""
    try:
        wanted = Version(version)
    except InvalidVersion:
        return tuple(difflib.get_close_matches(version, known, n=1)) or tuple(known[-1:])
    below = [one for one in known if Version(one) <= wanted]
    return (*below[-1:], *known[len(below) : len(below) + 1])


def is_version(text: str) -> bool:
    """Whether it is spelled as Python's packages spell versions. Source: PEP 440."""
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def is_same_release(seen: str, wanted: str) -> bool:
    """Whether two versions have the same flags: a build's own suffix (+cpu, +cu129) changes none."""
    try:
        return Version(seen).public == Version(wanted).public
    except InvalidVersion:
        return seen == wanted
