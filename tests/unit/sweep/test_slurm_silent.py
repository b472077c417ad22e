"""A Slurm that does not answer any more: no trial is lost to it, and it is not waited for without end."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from pipeline.config import command_line
from pipeline.core.errors import ConfigError
from pipeline.core.files import SweepDir
from pipeline.sweep import session
from pipeline.sweep.launchers.slurm import SlurmSilent
from pipeline.sweep.launchers.slurm_stream import Stream, Terms

SILENT = "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
Made = Callable[..., Stream]


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Jobs of a cluster whose squeue is a script."""
    monkeypatch.setattr(session, "_session", session.Session())
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def make(submit: Callable[..., str], squeue: str, silent_min: float = 0.002) -> Stream:
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{squeue}\n")
        (tmp_path / "squeue").chmod(0o755)
        return Stream(terms(tmp_path, silent_min), SweepDir(tmp_path), composed, submit)

    return make


def terms(folder: Path, silent_min: float) -> Terms:
    return Terms(
        slots=2,
        poll_s=0.01,
        pending_timeout_min=None,
        max_requeues=3,
        signal_delay_s=120,
        silent_timeout_min=silent_min,
        logs=f"{folder}/%j",
    )


def composed(_overrides: object, _number: int) -> DictConfig:
    return OmegaConf.create({})


def none_told(*_told: object) -> None:
    pytest.fail("a trial has an end, though nobody knows of one")


def test_it_is_waited_for_in_vain_for_a_limited_time(stream: Made) -> None:
    jobs = iter([(3, ["a=1"]), (4, ["a=2"]), (5, ["a=3"])])
    ids = iter(["12", "13"])
    with pytest.raises(SlurmSilent) as caught:
        stream(lambda *_: next(ids), SILENT).run(jobs, none_told)
    assert str(caught.value) == (
        "Slurm has not answered for 0.002 min: squeue failed: slurm_load_jobs error: Unable to contact slurm "
        "controller (connect failure). Jobs that it may still run: 12 (trial 3), 13 (trial 4). They end by themselves."
    )
    assert "When `scontrol ping` answers, give the same command again" in caught.value.hint
    assert next(jobs)[0] == 5  # left to the same command


def test_a_job_that_cannot_be_submitted_now_is_submitted_later(stream: Made) -> None:
    def submitted(silent_min: float) -> tuple[list[int], str]:
        tried: list[int] = []

        def submit(number: int, *_: object) -> str:
            tried.append(number)
            if len(tried) < 3:
                raise SlurmSilent("sbatch failed: Unable to contact slurm controller.")
            return "12"

        with pytest.raises(SlurmSilent) as caught:
            stream(submit, SILENT, silent_min).run(iter([(0, ["a=1"])]), none_told)
        return tried, str(caught.value)

    tries = map(submitted, (0.002, 0.05, 0.5))  # longer where a busy machine has not come to the third time
    tried, said = next(one for one in tries if len(one[0]) == 3)
    assert tried == [0, 0, 0]
    assert "Jobs that it may still run: 12 (trial 0)" in said


@pytest.mark.parametrize("limit", ["0", "-1", "soon"])
def test_a_limit_is_a_number_above_0(limit: str) -> None:
    words = ["hydra/launcher=example_site", f"hydra.launcher.silent_timeout_min={limit}", "n_threads=1,2"]
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.silent_timeout_min=.*: expected a number above 0"):
        command_line.check(words, is_sweep=True)
