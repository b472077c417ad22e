"""What the end of a sweep tells a tracker, and what becomes of a tracker that fails then."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.evaluation import FOLDER, Change, Evaluated
from pipeline.core.files import SweepDir, save
from pipeline.core.record import Record
from pipeline.core.redact import Secrets
from pipeline.machine import signals
from pipeline.report import command, evaluated
from pipeline.report.publication import publish, result_of
from pipeline.trackers import mlflow_content, wandb_sweep
from pipeline.trackers.result import TrialResult
from support import answers
from support.answers import BROKEN, DIFFERS
from support.records import CONFIG, make_config, make_failed_record, make_record


def trial(number: int, score: float, **changes: Any) -> Record:
    given = {"number": number, "objective": {"output_tokens_per_s": score}, "overrides": (f"page_size={number}",)}
    return make_record(**{**given, "config": make_config(knobs={"page_size": number, "slots": None}), **changes})


def with_tracker(**changes: Any) -> dict[str, Any]:
    return {"config": make_config(tracker={**CONFIG["tracker"], **changes})}


def rows(*records: Record) -> dict[int, TrialResult]:
    return {row.number: row for row in result_of(records).trials}


def test_trials_come_best_first_and_failed_ones_last() -> None:
    result = result_of([make_failed_record(number=0), trial(1, 100.0, is_baseline=True), trial(2, 125.0)])
    assert [row.number for row in result.trials] == [2, 1, 0]
    best, base, failed = result.trials
    assert (best.rank, best.against_baseline, best.failure_kind) == (1, 0.25, None)
    assert (base.ttft_p95_s, base.tpot_p95_s, base.output_tokens_per_s) == (0.35, 0.35, 150.0)
    assert (failed.rank, failed.objectives, failed.failure_kind) == (None, {}, "server_died")


def test_the_winner_is_told_with_its_command_and_the_knobs_it_sets() -> None:
    best = result_of([trial(1, 100.0), trial(2, 125.0)]).best
    assert best is not None
    assert (best.number, best.command) == (2, f"{' '.join(command.program())} page_size=2")
    assert best.knobs == {"page_size": 2}


def test_only_knobs_that_differ_are_axes() -> None:
    assert result_of([trial(1, 1.0), trial(2, 2.0)]).knobs == ("page_size",)


def test_a_configuration_that_was_measured_again_has_mean_and_interval() -> None:
    found = rows(trial(0, 90.0), trial(1, 100.0), trial(2, 110.0, repeat_of=1), trial(3, 120.0, repeat_of=1))
    seen = found[1].repeated
    assert seen is not None
    assert (seen.mean, seen.count) == (110.0, 3)
    assert seen.low == pytest.approx(110 - 24.84, abs=0.01)  # t(0.975, 2) * 10 / sqrt(3)
    assert [found[number].repeated for number in (0, 2, 3)] == [None, None, None]


def test_other_traffic_does_not_count_into_the_mean() -> None:
    found = rows(trial(1, 100.0), trial(2, 10.0, repeat_of=1, phase="held_out"))
    assert found[1].repeated is None


def test_the_winner_has_the_verdict_of_what_was_measured_again() -> None:
    rounds = [
        trial(number, score, repeat_of=1 if score > 110 else 0, phase="confirm")
        for number, score in enumerate((120.0, 100.0, 101.0, 122.0, 121.0, 100.5), start=2)
    ]
    best = result_of([trial(0, 100.0, is_baseline=True), trial(1, 120.0), *rounds]).best
    assert best is not None
    assert (best.verdict, best.rounds) == ("confirmed", 3)
    assert best.against_baseline == pytest.approx(0.205, abs=0.005)


def test_what_the_quality_guard_says_is_told_of_each_trial_and_of_the_winner() -> None:
    records = [
        answers.base(), answers.trial(1, 200.0, BROKEN), answers.trial(2, 150.0, DIFFERS, 64),
        answers.trial(3, 190.0, None, repeat_of=1), answers.trial(4, 150.0, None, 64, same_as=2),
    ]  # fmt: skip
    found = rows(*records)
    assert [found[number].quality.split(" (")[0] for number in range(5)] == ["", "broken", "differs", "", "differs"]
    assert [found[number].is_barred for number in range(5)] == [False, True, False, True, False]
    result = result_of(records)
    assert result.best is not None
    assert (result.best.number, result.best.quality) == (2, found[2].quality)
    assert wandb_sweep.summary(result)["best/quality"] == found[2].quality
    _, _, best = wandb_sweep.over_trials(result) or ([], [], [])
    assert max(best) == 150.0  # a broken one was never the best


def test_evaluations_of_the_winner_are_told_and_none_of_another_one(tmp_path: Path) -> None:
    change = Change(name="sums exact_match", items=100, baseline=0.8, winner=0.7, difference=-0.1, half_width=0.06,
                    is_paired=True, is_higher_better=True)  # fmt: skip
    (tmp_path / FOLDER).mkdir()
    records = [trial(0, 100.0, is_baseline=True), trial(1, 120.0)]
    for winner in (0, 1):
        save(tmp_path / FOLDER / evaluated.FILE, Evaluated(winner=winner, baseline=0, changes=(change,)))
        result = result_of(records, SweepDir(tmp_path))
        told = wandb_sweep.summary(result)
        assert ("best/evals/sums exact_match/score" in told) == (winner == 1)
    assert result.said[-1] == f"lm-eval: {change}"
    name = "best/evals/sums exact_match"
    assert told[f"{name}/difference"] == -0.1
    assert (told[f"{name}/low"], told[f"{name}/high"]) == (pytest.approx(-0.16), pytest.approx(-0.04))
    assert told[f"{name}/verdict"] == "worse"
    made = mlflow_content.of_sweep(result, SweepDir(tmp_path), Secrets({}))
    assert made.tags[f"{name}/verdict"] == "worse"
    assert str(change) in made.tags[mlflow_content.NOTE]


def test_a_sweep_without_a_result_has_no_winner() -> None:
    result = result_of([make_failed_record(number=0)])
    assert result.best is None
    assert result.trials[0].status == "failed"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param(
            {"target": "pipeline.trackers.wandb.WandB", "project": "no/such:name"}, "project", id="refused-by-wandb"
        ),
        pytest.param({"target": "pipeline.trackers.nowhere.Tracker"}, "ModuleNotFoundError", id="no-such-tracker"),
    ],
)
def test_a_tracker_that_fails_is_told_on_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: dict[str, str], told: str
) -> None:
    publish(SweepDir(tmp_path), [trial(0, 1.0, **with_tracker(**changes, mode="offline"))])
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("The sweep was not published: ")
    assert told in err
    assert err.count("\n") == 1


def test_a_signal_breaks_it_off(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
        stop = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
        with signals.interruptible(), signals.held():
            stop.start()
            publish(
                SweepDir(tmp_path), [trial(0, 1.0, **with_tracker(target="pipeline.trackers.wandb.WandB", project="p"))]
            )
        stop.join()
    assert capfd.readouterr().err == "The sweep was not published: Interrupted: SIGINT\n"


def test_without_a_tracker_nothing_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    publish(SweepDir(tmp_path), [trial(0, 1.0)])
    assert capfd.readouterr() == ("", "")
    assert [*tmp_path.iterdir()] == []


def test_without_a_record_there_is_nothing_to_publish(tmp_path: Path) -> None:
    publish(SweepDir(tmp_path), [])
    assert [*tmp_path.iterdir()] == []
