"""The catalogues of every release of an engine in one file: each flag once, with the releases that have it.

engines/catalogues/<engine>/history.jsonl. Its first line lists the releases; every other one is a flag as some
releases have it, and `in`: which, as "first..last". Most flags stay as they are for many releases: all of vLLM's since
0.14 take as much space as two catalogues on their own.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.version import Version

from pipeline.core.values import parse, plain
from pipeline.engines.flags import Catalogue, Flag
from pipeline.engines.versions import FOLDER, HISTORY

_OMITTED: Mapping[str, Any] = {"choices": [], "default": None, "off": None, "many": False, "deprecated": None}


def read(engine: str, version: str, folder: Path = FOLDER) -> Catalogue:
    """The catalogue of a release that the file has.

    Raises:
        KeyError: it does not have it.
    """
    first, *lines = (folder / engine / HISTORY).read_text("utf-8").splitlines()
    releases = json.loads(first)
    places = {name: place for place, name in enumerate(releases)}
    found = (json.loads(line) for line in lines)
    flags = tuple(parse(Flag, _without_spans(item)) for item in found if places[version] in _places(item["in"], places))
    return Catalogue(engine=engine, version=version, flags=flags, **releases[version])


def merged(engine: str, found: Iterable[Catalogue], folder: Path = FOLDER) -> str:
    """The text of the file with these releases added or replaced."""
    releases, lines = _known(engine, folder)
    for catalogue in found:
        releases[catalogue.version] = {"source": catalogue.source, "abbreviations": catalogue.abbreviations}
        for having in lines.values():
            having.discard(catalogue.version)
        for flag in catalogue.flags:
            lines.setdefault(_line(flag), set()).add(catalogue.version)
    order = sorted(releases, key=Version)
    return "\n".join([json.dumps({name: releases[name] for name in order}), *_written(lines, order), ""])


def _known(engine: str, folder: Path) -> tuple[dict[str, Any], dict[str, set[str]]]:
    """What is said of each release, and each flag with the releases that have it."""
    path = folder / engine / HISTORY
    if not path.exists():
        return {}, {}
    first, *rest = path.read_text("utf-8").splitlines()
    releases = json.loads(first)
    places = {name: place for place, name in enumerate(releases)}
    lines = {}
    for line in rest:
        item = json.loads(line)
        having = _places(item["in"], places)
        lines[json.dumps(_without_spans(item))] = {name for name, place in places.items() if place in having}
    return releases, lines


def _written(lines: Mapping[str, set[str]], order: list[str]) -> Iterator[str]:
    for line, having in sorted(lines.items()):
        if having:
            yield json.dumps({**json.loads(line), "in": list(_spans(having, order))})


def _spans(having: set[str], order: list[str]) -> Iterator[str]:
    """The releases as "first..last", or the one, where none between lacks the flag."""
    first = last = None
    for name in [*order, None]:
        if name in having:
            first, last = first or name, name
        elif first:
            yield first if first == last else f"{first}..{last}"
            first = None


def _places(spans: Iterable[str], places: Mapping[str, int]) -> set[int]:
    ends = [span.split("..") for span in spans]
    return {place for one in ends for place in range(places[one[0]], places[one[-1]] + 1)}


def _line(flag: Flag) -> str:
    return json.dumps({key: item for key, item in plain(flag).items() if _OMITTED.get(key, ...) != item})


def _without_spans(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != "in"}
