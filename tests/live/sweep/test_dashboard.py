"""The real optuna-dashboard on the study that a sweep has left, asked over HTTP as its own page asks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from parts.llama import free_port
from pipeline.core.files import SweepDir
from pipeline.machine import process
from support.cli import command, stub_overrides
from support.places import ROOT

pytestmark = pytest.mark.live


@pytest.fixture
def sweep(tmp_path: Path, tiny_gguf: Path) -> SweepDir:
    """A search by our own sweeper, to its end: the baseline and two more, one of which fails."""
    folder = tmp_path / "night-7"
    swept = ["hydra/sweeper=tuner", "hydra/sweeper/sampler=grid", "parallel=null,2", "fault=null,exit_at_start"]
    words = [
        *command(sweep=True),
        *stub_overrides(folder, tiny_gguf),
        *swept,
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.confirm=0",
    ]
    env = {**os.environ, "STUB_BENCH_RATE": "slots"}
    subprocess.run(words, cwd=ROOT, env=env, check=True, capture_output=True, timeout=120)
    return SweepDir(folder)


@contextmanager
def dashboard(storage: str, log: Path) -> Iterator[str]:
    """The URL of a dashboard on a port of its own, gone afterwards."""
    port = free_port()
    program = Path(sys.executable).with_name("optuna-dashboard")
    url = f"http://127.0.0.1:{port}"
    argv = [str(program), storage, "--host", "127.0.0.1", "--port", str(port), "--server", "wsgiref"]
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=out) as running:
        try:
            came = process.wait_until(lambda: running.poll() is not None or answers(url), timeout_s=180)
            assert came, log.read_text()
            yield url
        finally:
            running.terminate()


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/api/meta", timeout=5).ok
    except requests.ConnectionError:
        return False


def ask(url: str, path: str) -> Any:
    answer = requests.get(f"{url}/api/{path}", timeout=30)
    answer.raise_for_status()
    return answer.json()


def test_the_dashboard_shows_the_study_of_a_sweep(sweep: SweepDir, tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("optuna_dashboard")
    with dashboard(f"sqlite:///{sweep.study}", tmp_path / "dashboard.log") as url:
        (study,) = ask(url, "studies")["study_summaries"]
        assert (study["study_name"], study["directions"]) == ("night-7", ["maximize"])
        trials = ask(url, f"studies/{study['study_id']}?after=0")["trials"]
    assert [trial["number"] for trial in trials] == [0, 1, 2]
    assert [trial["state"] for trial in trials].count("Fail") == 1
    params = [{each["name"]: each["param_external_value"] for each in trial["params"]} for trial in trials]
    assert params[0] == {"parallel": "null", "fault": "null"}
    best = max((trial for trial in trials if trial["state"] == "Complete"), key=lambda trial: trial["values"][0])
    assert {each["name"]: each["param_external_value"] for each in best["params"]}["parallel"] == "2"
