"""Sweeps by the command line with the W&B tracker: what their end publishes, and what its failure costs."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from parts.wandb_runs import artifact, run_of
from parts.wandb_server import KEY
from pipeline.core.files import SweepDir
from support import forked
from support.cli import Result, command, stub_overrides


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "night"


def runs(folder: Path) -> list[Path]:
    return sorted(SweepDir(folder).tracker.glob("offline-run-*"))


def sweep_command(folder: Path, gguf: Path, *overrides: str, is_sweep: bool) -> Result:
    words = [word for word in stub_overrides(folder, gguf) if word != "tracker=none"]
    patient = [] if any("timeout_s" in word for word in overrides) else ["tracker.timeout_s=600"]
    command_line = [*command(sweep=is_sweep), *words, "traffic.concurrencies=[1]", *patient, *overrides]
    done = forked.run(command_line, timeout_s=240)
    return Result(code=done.returncode, out=done.stdout, err=done.stderr, folder=folder)


def test_every_sweep_ends_with_its_publication(folder: Path, tiny_gguf: Path) -> None:
    done = sweep_command(folder, tiny_gguf, "parallel=1,2", is_sweep=True)
    assert done.code == 0
    assert done.out.splitlines()[-1].startswith("W&B: offline. To upload: make sync; then for the report: python ")
    found = [run_of(path) for path in runs(folder)]
    assert [run.job_type for run in found] == ["trial", "trial", "sweep"]
    assert {run.run_group for run in found} == {"night"}
    assert artifact(runs(folder)[-1], "sweep").manifest.contents


def test_a_single_trial_has_no_sweep_to_publish(folder: Path, tiny_gguf: Path) -> None:
    done = sweep_command(folder, tiny_gguf, is_sweep=False)
    assert done.code == 0
    assert len(runs(folder)) == 1
    assert not SweepDir(folder).tracker_script.exists()


def test_a_server_that_never_answers_costs_neither_table_nor_exit_code(
    folder: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        done = sweep_command(folder, tiny_gguf, "parallel=1", "tracker.timeout_s=4", is_sweep=True)
    assert done.code == 0
    assert "\nBest: " in done.out
    said = "W&B did not accept the record in time (waited 2 s, tracker.timeout_s=4)"
    assert done.out.count(f"  tracker {said}") == 1
    assert done.out.splitlines()[-1].startswith("W&B: offline. ")
    key = SweepDir(folder).tracker_key.read_text()
    assert {run_of(path).run_id for path in runs(folder)} == {key, f"{key}-0"}
