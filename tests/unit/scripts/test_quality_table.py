"""The table of the quality guard's benchmark: who is in it, with which intervals, and what a killed run leaves."""

import json
from pathlib import Path

import pytest

from benchmarks import quality
from pipeline.core.answers import Asked
from pipeline.core.values import plain
from support.answers import BROKEN, DIFFERS, WELL


def line(name: str, turn: int, asked: Asked) -> str:
    return json.dumps({"name": name, "turn": turn, "asked": plain(asked)}) + "\n"


def test_each_configuration_has_its_verdicts_with_intervals(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    lines = [line("default", turn, WELL) for turn in range(20)]
    lines += [line("KV q4_0", turn, DIFFERS if turn else WELL) for turn in range(20)]
    lines += [line("corrupted weights", turn, BROKEN) for turn in range(20)]
    out.write_text("".join(lines))
    quality.show(quality.read(out))
    titles, ruler, *rows = capsys.readouterr().out.splitlines()
    assert titles.count("|") == ruler.count("|") == rows[0].count("|")
    assert [row.split(" | ")[:4] for row in rows] == [
        ["| default", "19", "same 19 of 19 [83%, 100%]", "0 of 19 [0%, 17%]"],  # the first is the baseline of all
        ["| KV q4_0", "20", "differs 19 of 20 [76%, 99%], same 1 of 20 [1%, 24%]", "0 of 20 [0%, 16%]"],
        ["| corrupted weights", "20", "broken 20 of 20 [84%, 100%]", "20 of 20 [84%, 100%]"],
    ]
    assert "95.7% to 100.0%" in rows[1]


def test_half_a_line_of_a_killed_run_is_run_again(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    whole = line("default", 0, WELL)
    out.write_text(whole + line("default", 1, WELL)[:100])
    assert [(one["name"], one["turn"]) for one in quality.read(out)] == [("default", 0)]
    assert out.read_text() == whole
    assert quality.read(tmp_path / "none.jsonl") == []


def test_without_a_baseline_there_is_no_table() -> None:
    with pytest.raises(SystemExit, match="There is no baseline to compare with yet"):
        quality.show([])
