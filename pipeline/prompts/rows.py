"""Reads a file of prompts row by row: JSON lines, a JSON list, CSV, or lines of text. What a row means, shapes.py says.

Nothing of a row's text is told in an error: only where it is, and what is wrong with it.
"""

import csv
import io
import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.core.errors import ConfigError

Format = Literal["jsonl", "json", "csv", "text"]
Row = tuple[int, Any]  # the line (of a JSON list: the item) that it is, counted from 1; what it holds

BY_NAME: Mapping[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".text": "text",
}
PACKED = {
    b"\x1f\x8b": "compressed (gzip)",
    b"PK\x03\x04": "a ZIP archive, or a spreadsheet",
    b"(\xb5/\xfd": "compressed (zstd)",
    b"PAR1": "a Parquet file",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
MB = 1_000_000
LONGEST_CELL = 2**31 - 1  # of a CSV file, in characters; Python's own limit is 131,072


def content(path: Path, *, most_mb: float) -> bytes:
    """The bytes of the file.

    Raises:
        ConfigError: there is none, it cannot be read, or it is larger than traffic.max_file_mb.
    """
    try:
        seen = path.stat()
        if not stat.S_ISREG(seen.st_mode):
            raise ConfigError(
                f"traffic.path={path} is not a file. Expected a JSONL, JSON, CSV or text file of prompts."
            )
        if seen.st_size > most_mb * MB:
            raise ConfigError(
                f"{path} has {seen.st_size / MB:.0f} MB, and traffic.max_file_mb={most_mb:g}. It is read whole: cut it "
                f"to the prompts that you need, or set traffic.max_file_mb={-(-seen.st_size // MB)}."
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(
            f"traffic.path={path} does not exist in {Path.cwd()}. Where trials run on other machines, they need it at "
            "the same place: put it on a disk that all of them see."
        ) from error
    except OSError as error:
        raise ConfigError(f"traffic.path={path} cannot be read: {error.strerror or error}.") from error


def format_of(path: Path, wanted: str) -> Format:
    """The format as asked for, else by the file's name.

    Raises:
        ConfigError: the name does not tell.
    """
    found = BY_NAME.get(path.suffix.lower()) if wanted == "auto" else wanted
    if found is None:
        known = ", ".join(BY_NAME)
        raise ConfigError(f"{path}: its name does not end in {known}: set traffic.format to jsonl, json, csv or text.")
    return found  # type: ignore[return-value]


def rows(path: Path, data: bytes, kind: Format) -> Iterator[Row]:
    """What is in the file, in its order; lines without anything are passed over.

    Raises:
        ConfigError: with the first line that cannot be read, and why.
    """
    text = _text(path, data)
    match kind:
        case "jsonl":
            return _json_lines(path, text)
        case "json":
            return _json_items(path, text)
        case "csv":
            return _records(path, text)
    return ((number, line) for number, line in _lines(text) if line.strip())


def bad(path: Path, number: int, why: str, *, place: str = "line") -> ConfigError:
    """What is wrong with a row."""
    return ConfigError(f"{path}, {place} {number}: {why}.")


def place(kind: Format) -> str:
    """What rows are counted in."""
    return "item" if kind == "json" else "line"


def _text(path: Path, data: bytes) -> str:
    """Without a byte order mark, which editors on Windows write."""
    if packed := next((what for head, what in PACKED.items() if data.startswith(head)), None):
        raise ConfigError(f"{path} is {packed}. Expected plain text in UTF-8: convert it.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise bad(path, number, "not UTF-8: save the file as UTF-8") from error


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Not `splitlines`, which also splits at characters that may stand in a JSON text (U+2028)."""
    for number, line in enumerate(text.split("\n"), 1):
        yield number, line.removesuffix("\r")


def _json_lines(path: Path, text: str) -> Iterator[Row]:
    for number, line in _lines(text):
        if line.strip():
            yield number, _json(path, number, line)


def _json(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        listed = " It begins with [: for a list, set traffic.format=json" if number == 1 and line[:1] == "[" else ""
        raise bad(path, number, f"no JSON: {_why(error)}.{listed}".removesuffix(".")) from error


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else "a number that is too long"


def _json_items(path: Path, text: str) -> Iterator[Row]:
    try:
        found = json.loads(text) if text.strip() else []
    except json.JSONDecodeError as error:
        more = "; for a value in each line, set traffic.format=jsonl" if error.msg == "Extra data" else ""
        raise bad(path, error.lineno, f"no JSON: {_why(error)}{more}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: no JSON: {_why(error)}.") from error
    if not isinstance(found, list):
        raise ConfigError(f"{path}: expected a list of prompts or conversations, seen {named(found)}.")
    yield from enumerate(found, 1)


def named(item: object) -> str:
    """What kind of JSON it is, in words."""
    kinds = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(item), "null")


def _records(path: Path, text: str) -> Iterator[Row]:
    """The rows under the header. A quoted cell may have line breaks: a row is told by its first line."""
    before = csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    start = 1
    try:
        names = [name.strip() for name in next(reader, [])]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise bad(path, 1, f"the column {twice!r} is there twice")
        start = reader.line_num + 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield start, _named(path, start, names, cells)
            start = reader.line_num + 1
    except csv.Error as error:
        raise bad(path, start, f"no CSV: {error} (in the row that begins here)") from error
    finally:
        csv.field_size_limit(before)


def _named(path: Path, number: int, names: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) != len(names):
        raise bad(path, number, f"{len(cells)} cells, where the header has {len(names)} ({', '.join(names)})")
    return dict(zip(names, cells, strict=True))


def _delimiter(text: str) -> str:
    """Comma, semicolon or tab: the one that the header has most of."""
    header = text.partition("\n")[0]
    return max(",;\t", key=header.count)
