"""Values that another version of servetune may have written: read as far as they are known, else named on one line."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pipeline.core.values import from_json, load

T = TypeVar("T")
UNKNOWN = "unexpected_keyword_argument"  # pydantic's name for a field that the value does not have
SHAPES = ("dataclass_type", "dict_type")  # its names for something without keys
SCHEMA, KNOWN = "schema_version", 1


def read(kind: type[T], path: Path) -> T:
    """The `kind` stored in `path`, without what a newer version has added to it.

    Raises:
        OSError: the file cannot be read.
        pydantic.ValidationError: it holds something else, or another schema. `why` puts that into words.
    """
    try:
        return load(kind, path)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        if any(one["type"] != UNKNOWN for one in found):
            raise
        return _without([one["loc"] for one in found], kind, path)


def _without(places: Sequence[tuple[int | str, ...]], kind: type[T], path: Path) -> T:
    data = json.loads(path.read_bytes())
    for *parents, name in places:
        inner: Any = data
        for one in parents:
            inner = inner[one]
        del inner[name]
    return from_json(kind, json.dumps(data))


def why(path: Path, error: OSError | ValidationError) -> str:
    """What keeps a file from being read, on one line without its name."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    first, *others = error.errors(include_url=False, include_input=False)
    if first["type"] == "json_invalid":
        return "it is damaged, or was not written to its end"
    if (version := _version(path)) not in (None, KNOWN):
        return f"it has schema {version}, this servetune reads schema {KNOWN}: use the version that wrote it"
    if not first["loc"] and first["type"] in SHAPES:
        return "it has no keys and values: it is damaged, or another program wrote it"
    place = ".".join(map(str, first["loc"])) or "it"
    more = f", and {len(others)} more" if others else ""
    return f"another version of servetune wrote it ({place}: {_said(first)}{more})"


def _said(found: Mapping[str, Any]) -> str:
    """What is wrong, in words of files: pydantic speaks of Python's."""
    if found["type"] == "too_short":
        least, seen = found["ctx"]["min_length"], found["ctx"]["actual_length"]
        return f"expected {least} item{'s' * (least > 1)} or more, it has {seen or 'none'}"
    text: str = found["msg"]
    return text[:1].lower() + text[1:]


def _version(path: Path) -> object:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return data.get(SCHEMA) if isinstance(data, dict) else None
