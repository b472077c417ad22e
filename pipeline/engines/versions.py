"""Which versions of an engine there is a catalogue of. Light, so that a shell can complete them at once."""

from functools import cache

from packaging.version import InvalidVersion, Version

from pipeline.core.places import PACKAGE

FOLDER = PACKAGE / "engines" / "catalogues"


@cache
def versions(engine: str) -> tuple[str, ...]:
    """The versions of an engine that have a catalogue, oldest first; none for an engine without."""
    folder = FOLDER / engine
    if not folder.is_dir():
        return ()
    names = (item.name.removesuffix(".json") for item in folder.iterdir() if item.name.endswith(".json"))
    return tuple(sorted(names, key=Version))


def is_same_release(seen: str, wanted: str) -> bool:
    """Whether two versions have the same flags: a build's own suffix (+cpu, +cu129) changes none."""
    try:
        return Version(seen).public == Version(wanted).public
    except InvalidVersion:
        return seen == wanted
