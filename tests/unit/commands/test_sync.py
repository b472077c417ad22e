"""`python -m pipeline.sync`: what is uploaded, by the real wandb to a server of the tests' own, and what is said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from parts.wandb_server import KEY, Server, serving
from pipeline.core.files import RunDir, save
from pipeline.core.schema import Tracker
from pipeline.sync import is_whole, main
from pipeline.trackers.wandb import WandB
from support.places import ROOT
from support.records import make_failed_record, make_failure, make_levels, make_record

CONFIG = Tracker(
    name="wandb", target="pipeline.trackers.wandb.WandB", project="servetune", mode="offline", timeout_s=60
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which commands refer to."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def outputs(here: Path) -> Path:
    """Two sweeps: one trial each, that of the second interrupted and then run again."""
    folder = here / "outputs"
    tracker = WandB()
    stopped = make_failed_record(status="interrupted", levels=make_levels()[:1])
    for sweep, record in (("a", make_record()), ("b", stopped), ("b", make_record())):
        run_dir = RunDir(folder / sweep / "7")
        run_dir.path.mkdir(parents=True, exist_ok=True)
        save(run_dir.record, record)
        tracker.publish(record, CONFIG, run_dir)
    tracker.close()
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving() as made:
        monkeypatch.setenv("WANDB_BASE_URL", made.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield made


def sync(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.sync", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def runs(sweep: Path) -> list[Path]:
    return sorted(sweep.glob("wandb/offline-run-*/*.wandb"))


def test_every_offline_run_is_uploaded_once(outputs: Path, server: Server) -> None:
    (outputs / "a" / "wandb_report.py").write_text("")
    told = sync()
    assert told.returncode == 0
    assert f"Uploaded 3 of 3 offline runs to {server.url}.\n" in told.stdout
    assert f"W&B report of that sweep: python {Path('outputs', 'a', 'wandb_report.py')}\n" in told.stdout
    keys = [(outputs / sweep / "wandb" / "sweep-id").read_text() for sweep in ("a", "b")]
    assert {*server.runs} == {f"{key}-7" for key in keys}  # both attempts in b are one run
    assert len(server.history[f"{keys[1]}-7"]) == 1 + 3  # the first's table; the second's two levels and table
    assert any(name.endswith("record.json") for name in server.uploads)
    assert not Path("wandb").exists()

    asked = len(server.asked)
    assert sync().stdout == "Nothing to upload: all of 3 offline runs below outputs have been uploaded.\n"
    assert len(server.asked) == asked


def test_what_comes_later_is_uploaded_alone(outputs: Path, server: Server) -> None:
    for run in runs(outputs / "b"):
        run.with_name(f"{run.name}.synced").touch()
    told = sync(str(outputs))
    assert f"Uploaded 1 of 1 offline runs to {server.url} (2 were there already).\n" in told.stdout
    assert len(server.runs) == 1


def test_without_a_key_it_says_how_to_get_one(outputs: Path) -> None:
    told = sync(str(outputs))
    assert (told.returncode, told.stdout) == (1, "")
    assert "3 of 3 offline runs wait to be uploaded.\nhint: Run `wandb login`, or set WANDB_API_KEY" in told.stderr


def test_a_run_that_was_cut_off_is_named_and_holds_up_no_other(outputs: Path, server: Server) -> None:
    (broken,) = runs(outputs / "a")
    os.truncate(broken, broken.stat().st_size - 20)
    told = sync(str(outputs))
    assert told.returncode == 1
    assert "Uploaded 2 of 3 offline runs" in told.stdout
    assert f"error: not uploaded: {broken.parent} (cut off" in told.stderr
    assert len(server.runs) == 1


def test_a_whole_run_is_told_from_one_that_was_cut_off(here: Path) -> None:
    tracker = WandB()
    run_dir = RunDir(here / "sweep" / "7")
    message = "".join(chr(97 + number % 26) for number in range(200_000))  # over many blocks of the file
    tracker.publish(make_failed_record(failure=make_failure(message=message)), CONFIG, run_dir)
    tracker.close()
    (run,) = runs(run_dir.path.parent)
    assert run.stat().st_size > len(message)
    assert is_whole(run)
    for cut in (1, 20, 5_000):
        os.truncate(run, run.stat().st_size - cut)
        assert not is_whole(run)


@pytest.mark.parametrize(
    ("folder", "code", "told"),
    [("nowhere", 2, "error: nowhere is not a folder"), ("empty", 0, "Nothing to upload: no offline runs below empty")],
    ids=["missing", "empty"],
)
def test_a_folder_without_runs_is_said_so(
    capsys: pytest.CaptureFixture[str], here: Path, folder: str, code: int, told: str
) -> None:
    (here / "empty").mkdir()
    assert main([folder]) == code
    assert told in "".join(capsys.readouterr())
