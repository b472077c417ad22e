"""Records of other versions: read as far as they are known, else named on one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.core import readable
from pipeline.core.files import save
from pipeline.core.record import Record
from support.records import make_record

Edit = Callable[[dict[str, Any]], object]


def edited(path: Path, edit: Edit) -> Path:
    save(path, make_record())
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda data: data.update(mood="good"), id="a field of a newer version"),
        pytest.param(lambda data: data["levels"][1]["metrics"].update(joy=1), id="a field deep inside"),
        pytest.param(lambda data: data.pop("phase"), id="a field that an older version did not have"),
    ],
)
def test_what_is_known_of_another_version_is_read(tmp_path: Path, edit: Edit) -> None:
    read = readable.read(Record, edited(tmp_path / "record.json", edit))
    assert (read.number, read.phase, len(read.levels)) == (7, "search", 2)
    assert read.objective == {"output_tokens_per_s": 150.0}


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (
            lambda data: data.update(schema_version=999, mood="good"),
            "it has schema 999, this servetune reads schema 1: use the version that wrote it",
        ),
        (lambda data: data.clear() or data.update(schema_version=999), "it has schema 999, this servetune reads"),
        (
            lambda data: data.update(status="great", levels=3),
            "another version of servetune wrote it (status: input should be 'ok', 'failed', 'refused' or",
        ),
        (
            lambda data: data["config"]["traffic"].update(scenarios=[]),
            "another version of servetune wrote it (config.traffic.scenarios: expected 1 item or more, it has none)",
        ),
    ],
)
def test_the_rest_is_named_on_one_line(tmp_path: Path, edit: Edit, told: str) -> None:
    path = edited(tmp_path / "record.json", edit)
    with pytest.raises(ValidationError) as caught:
        readable.read(Record, path)
    said = readable.why(path, caught.value)
    assert said.startswith(told)
    assert "\n" not in said


@pytest.mark.parametrize("text", ["", '{"schema_version": 1, "tri', "[1]"])
def test_a_file_that_is_no_record_is_named_on_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(ValidationError) as caught:
        readable.read(Record, path)
    assert "\n" not in readable.why(path, caught.value)


def test_a_file_that_is_not_there_is_named_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        readable.read(Record, tmp_path / "record.json")
    assert readable.why(tmp_path, caught.value) == "No such file or directory"


@pytest.mark.parametrize("text", ["[]", "[1]", "3", "null"])
def test_json_without_keys_is_no_record_of_any_version(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(ValidationError) as caught:
        readable.read(Record, path)
    assert readable.why(path, caught.value) == "it has no keys and values: it is damaged, or another program wrote it"
