"""Files of prompts as people have them: how rows are counted, and what is said of the first bad one."""

import json
import os
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.prompts import rows

GOOD = '{"prompt": "Two plus two?", "completion": "Four."}'
Whole = list[tuple[int, object]]


def read(folder: Path, name: str, data: bytes | str) -> Whole:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(rows.rows(path, rows.content(path, most_mb=1), rows.format_of(path, "auto")))


@pytest.mark.parametrize(
    ("name", "data", "numbers", "last"),
    [
        ("a.jsonl", b"\xef\xbb\xbf" + f"{GOOD}\r\n\r\n{GOOD}\r\n".encode(), [1, 3], json.loads(GOOD)),
        ("a.ndjson", f'{GOOD}\n"a\u2028b"', [1, 2], "a\u2028b"),
        ("a.json", "[\n1,\n2]", [1, 2], 2),
        ("a.csv", 'id,prompt\r\n1,"one\r\n""two"", yes"\r\n2,three\r\n', [2, 4], {"id": "2", "prompt": "three"}),
        ("b.csv", "prompt;answer\nhello, you;fine\n", [2], {"prompt": "hello, you", "answer": "fine"}),
        ("a.tsv", "prompt\tanswer\nhello\tfine\n\n", [2], {"prompt": "hello", "answer": "fine"}),
        ("a.txt", "one\n\ntwo\r\n", [1, 3], "two"),
        ("a.JSONL", "", [], None),
    ],
    ids=["BOM and CRLF", "separator of lines inside", "list", "quoted lines", "semicolons", "tabs", "text", "empty"],
)
def test_rows_are_counted_as_an_editor_does(
    tmp_path: Path, name: str, data: bytes | str, numbers: list[int], last: object
) -> None:
    found = read(tmp_path, name, data)
    assert [number for number, _ in found] == numbers
    assert not found or found[-1][1] == last


def test_a_quoted_cell_keeps_its_lines(tmp_path: Path) -> None:
    assert read(tmp_path, "a.csv", 'prompt\n"one\n""two"""\n') == [(2, {"prompt": 'one\n"two"'})]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.jsonl", f'{GOOD}\n\n{{"secret": 1,}}', "line 3: no JSON: Expecting property name"),
        ("a.jsonl", f"[\n{GOOD}]", "line 1: no JSON: Expecting value at column 2. It begins with [: for a list, set"),
        ("a.jsonl", "[" * 100_000, "line 1: no JSON: it is nested too deeply"),
        ("a.jsonl", f"{GOOD}\n{'9' * 5000}", "line 2: no JSON: a number that is too long"),
        ("a.json", f"{GOOD}\n{GOOD}", "line 2: no JSON: Extra data at column 1; for a value in each line, set"),
        ("a.json", GOOD, "expected a list of prompts or conversations, seen an object"),
        ("a.csv", 'prompt\nwhole\n"never closed\nnext\n', "line 3: no CSV: unexpected end of data"),
        ("a.csv", "prompt,answer\na,b\nc\n", "line 3: 1 cells, where the header has 2 (prompt, answer)"),
        ("a.csv", "prompt,prompt\na,b\n", "line 1: the column 'prompt' is there twice"),
        ("a.txt", b"fine\nna\xefve\n", "line 2: not UTF-8"),
        ("a.csv", "prompt\na\n".encode("utf-16"), "is UTF-16. Expected plain text in UTF-8"),
        ("a.jsonl", b"\x1f\x8b123", "is compressed (gzip)"),
        ("a.csv", b"PK\x03\x04123", "is a ZIP archive, or a spreadsheet"),
        ("a.dat", "hello", "set traffic.format to jsonl, json, csv or text"),
    ],
)
def test_the_first_bad_line_is_told_and_nothing_of_its_text(
    tmp_path: Path, name: str, data: bytes | str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, name, data)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    with path.open("wb") as file:
        file.truncate(200 * rows.MB)  # a hole: it takes no space
    with pytest.raises(ConfigError, match=r"has 200 MB, and traffic.max_file_mb=100.*set traffic.max_file_mb=200"):
        rows.content(path, most_mb=100)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name in ("pipe.jsonl", "."):
        with pytest.raises(ConfigError, match="is not a file"):
            rows.content(tmp_path / name, most_mb=1)
    with pytest.raises(ConfigError, match=r"does not exist in .*other machines"):
        rows.content(tmp_path / "none.jsonl", most_mb=1)
