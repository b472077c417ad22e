"""Frozen values and their JSON form. Every record, plan, lease and config of the project is a `@value`."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticSerializationError

T = TypeVar("T")
Scalar = int | float | bool | str


@dataclass_transform(frozen_default=True, kw_only_default=True)
def value(cls: type[T]) -> type[T]:
    """Make `cls` a frozen, slotted, keyword-only dataclass that checks its fields and rejects unknown ones."""
    config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")
    return cast("type[T]", dataclass(frozen=True, slots=True, kw_only=True, config=config)(cls))


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


_adapters: dict[Any, TypeAdapter[Any]] = {}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def parse(kind: type[T], data: object) -> T:
    """`data` (plain dicts and lists) as a `kind`.

    Raises:
        pydantic.ValidationError: a field is missing, unknown or of the wrong kind.
    """
    result: T = _adapter(kind).validate_python(data)
    return result


def switches(data: object, made: object, name: str = "") -> Iterator[str]:
    """What is wrong with each number that was given as true or false: pydantic takes them for 1 and 0.

    `made` is what `parse` made of `data`, `name` where that stands.
    """
    if isinstance(data, bool):
        if isinstance(made, int | float) and not isinstance(made, bool):
            expected = "an integer" if isinstance(made, int) else "a number"
            yield f"{name}: expected {expected}, got {str(data).lower()}"
    elif isinstance(data, Mapping):
        for key, below in data.items():
            part = made.get(key) if isinstance(made, Mapping) else getattr(made, str(key), None)
            yield from switches(below, part, f"{name}.{key}" if name else str(key))
    elif isinstance(data, list) and isinstance(made, tuple | list):
        for number, (below, item) in enumerate(zip(data, made, strict=False)):
            yield from switches(below, item, f"{name}.{number}")


def plain(item: object) -> Any:
    """`item` as JSON-ready dicts, lists, strings and numbers."""
    return _adapter(type(item)).dump_python(item, mode="json")


def printable(text: str) -> str:
    """The text on one line, as UTF-8 has it: file names and command lines of other programs may hold any bytes."""
    return text if text.isprintable() else ascii(text)[1:-1]


def to_json(item: object) -> str:
    """`item`, a value or a list of values of one kind, as indented JSON text.

    Halves of characters (lone surrogates), which other programs' JSON may hold and UTF-8 does not, are question marks.
    """
    kind = list[type(item[0])] if isinstance(item, list) and item else type(item)  # type: ignore[misc]
    try:
        return _adapter(kind).dump_json(item, indent=2).decode()
    except PydanticSerializationError:
        return whole(json.dumps(_adapter(kind).dump_python(item, mode="json"), indent=2, ensure_ascii=False))


def whole(text: str) -> str:
    """The text without halves of characters."""
    return text.encode(errors="replace").decode()


def from_json(kind: type[T], text: str | bytes) -> T:
    """The `kind` that `to_json` wrote.

    Raises:
        pydantic.ValidationError: the text is not JSON of that kind.
    """
    result: T = _adapter(kind).validate_json(text)
    return result


def load(kind: type[T], path: Path) -> T:
    """The `kind` stored in `path` as JSON.

    Raises:
        OSError: the file cannot be read.
        pydantic.ValidationError: the file does not hold that kind.
    """
    return from_json(kind, path.read_bytes())
