"""The command `servetune replay`: one whole run, what it writes, how it refuses, and how it is stopped."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from pipeline.replay import __main__ as replay
from support.sweeping import running

TABLE = "a,b,score\n" + "".join(f"{a},{b},{100 - (a - 4) ** 2 - (b - 3) ** 2}\n" for a in range(6) for b in range(6))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "hill.csv"
    path.write_text(TABLE)
    return path


def told(argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    try:
        code = replay.main(argv, prog="servetune replay")
    except SystemExit as stop:  # argparse
        code = int(str(stop.code))
    out, err = capsys.readouterr()
    return code, out, err


def test_a_replay_prints_a_table_and_writes_a_page_and_json(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()  # what was written before stays
    out = tmp_path / "out_1"
    argv = [str(table), "--strategies", "tuner random default", "--seeds", "2", "--trials", "4", "--workers", "2"]
    code, shown, _ = told([*argv, "--out", str(tmp_path / "out")], capsys)
    assert code == 0
    assert "1 landscape, 2 seeds, 3 strategies; 1 slot, each with the time of 4 whole trials. 6 searches in" in shown
    assert re.search(r"^tuner +random +\d\.\d\d \[", shown, re.MULTILINE)
    assert f"Written: {out}/replay.html, {out}/replay.json" in shown
    assert [*(tmp_path / "out").iterdir()] == []
    found = json.loads((out / "replay.json").read_text())
    assert [one["strategy"] for one in found["summaries"]] == ["tuner", "random", "default"]
    assert {(run["strategy"], run["seed"]) for run in found["runs"]} == {
        (name, seed) for name in ("tuner", "random", "default") for seed in (0, 1)
    }
    page = (out / "replay.html").read_text()
    assert page.count("data-figure=") == len(json.loads(re.findall(r'id="figures">(.*?)</script>', page, re.DOTALL)[0]))
    assert not re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="', page)
    assert "hill" in page


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nowhere.csv"], "error: nowhere.csv: no such file or folder."),
        (
            ["synthetic:moe", "--learn-from", "synthetic:moe"],
            "--learn-from: no landscape shares a knob with another one",
        ),
        (
            ["synthetic:moe", "--learn-from", "synthetic", "--strategies", "tpe"],
            "--learn-from and a strategy that learns",
        ),
        (
            ["synthetic:moe", "--strategies", "tpe:learn=true"],
            "tpe:learn=true: only tuner learns from other landscapes.",
        ),
        (["synthetic:mo"], "error: synthetic:mo: there is no such landscape. Did you mean moe?"),
        (["synthetic:small", "--strategies", "tpee"], "there is no strategy tpee. Did you mean tpe?"),
        (["synthetic:small", "--strategies", " "], "error: --strategies names none."),
        (["synthetic:small", "--reference", "tpee"], "error: --reference tpee: it is not replayed."),
        (["--seeds", "0"], "argument --seeds: 0: expected a whole number, at least 1."),
        (["--noise", "3%"], "argument --noise: 3%: expected a number from 0 to 1."),
    ],
)
def test_bad_input_is_told_and_leaves_nothing(
    argv: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = told([*argv, "--out", str(tmp_path / "out")], capsys)
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
    assert [*tmp_path.iterdir()] == []


def test_what_cannot_become_a_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for out, words in (("file", "expected a folder"), ("file/below", "Expected a folder that can be made.")):
        code, _, err = told(["synthetic:small", "--out", str(tmp_path / out)], capsys)
        assert code == 2
        assert err.startswith(f"error: --out {tmp_path / out}: ")
        assert words in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_ctrl_c_leaves_nothing_and_says_how_far_it_is(table: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "pipeline.replay", str(table), "--seeds", "9999", "--out", str(tmp_path / "out")]
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    with running([*argv, "--workers", "1"], tmp_path, {"TMPDIR": str(scratch)}) as us:
        us.await_that(lambda: bool(us.processes("pipeline.replay.worker")))
        os.killpg(us.child.pid, signal.SIGINT)
        result = us.end()
        assert us.processes() == []
    assert result.code == 130
    assert re.search(r"Stopped after \d+ of 59994 searches\. Nothing was written\.\nStopped by SIGINT\.", result.err)
    assert "Traceback" not in result.err
    assert not us.folder.exists()
    assert [*scratch.iterdir()] == []


def test_a_search_may_know_a_past_sweep_of_another_table(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "like.csv").write_text(TABLE.replace("100,", "99,"))
    (tmp_path / "other.csv").write_text(TABLE.replace("a,b,", "c,d,"))
    given = [str(table), str(tmp_path / "other.csv"), "--learn-from", str(table), str(tmp_path / "like.csv")]
    argv = [*given, "--seeds", "1", "--trials", "6", "--workers", "1", "--out", str(tmp_path / "out")]
    code, shown, err = told(argv, capsys)
    assert code == 0
    assert "Left out: other: no knob in common" in err
    assert "hill learns from a past sweep of like." in shown
    found = json.loads((tmp_path / "out" / "replay.json").read_text())
    assert [one["strategy"] for one in found["summaries"]] == ["tuner:learn=true", "tuner", "tpe"]
    assert [one["facts"]["learns_from"] for one in found["landscapes"]] == [["like"]]
    taught, cold, _ = found["runs"]
    assert taught["times"] != cold["times"]
