"""Evaluations at the end of a sweep, by a stand-in for lm-eval. The real one: tests/live/engines/test_lm_eval.py."""

import signal
from pathlib import Path

import pytest

from pipeline.core.record import Record
from pipeline.core.values import load
from support.cli import Result, command, pipeline, stub_overrides
from support.places import FAKES
from support.sweeping import running

PYTHON = f"quality.evals.python={FAKES}/bin/lm-eval-python"
SWEEP = ("hydra/sweeper=tuner", "hydra.sweeper.confirm=1", "quality=evals", PYTHON)
PATIENCE_S = 240.0  # each evaluation is a command of its own
SLOTS = {"STUB_BENCH_RATE": "slots"}


def swept(folder: Path, gguf: Path, *more: str, fault: str | None = None) -> Result:
    """A sweep whose winner, with four slots, has fewer items right than the baseline with one."""
    env = {**SLOTS, **({"LM_EVAL_FAULT": fault} if fault else {})}
    words = ("parallel=null,4", *SWEEP, *more)
    return pipeline(*words, folder=folder, gguf=gguf, sweep=True, env=env, timeout_s=PATIENCE_S)


def test_the_winner_is_held_against_the_baseline(tmp_path: Path, tiny_gguf: Path) -> None:
    result = swept(tmp_path / "out", tiny_gguf)
    assert result.code == 0, result.err
    assert (
        "servetune_words exact_match: 0.750, baseline 1.000, difference -0.250 [-0.335, -0.165]: worse (100 items)"
    ) in result.out
    assert "Worse than the baseline: servetune_words exact_match. Decide whether the speed is worth it." in result.out
    assert (result.folder / "evals" / "evals.json").exists()
    for number in (0, 1):
        (path,) = result.folder.glob(f"evals/{number}-*/0/record.json")
        record = load(Record, path)
        assert (record.status, record.levels) == ("ok", ())
        assert record.teardown is not None
        assert record.teardown.remaining == ()
    for name in ("report.html", "best/card.md"):
        assert "[-0.335, -0.165]" in (result.folder / name).read_text(), name
    again = swept(tmp_path / "out", tiny_gguf)
    assert "difference -0.250" in again.out
    assert again.out.count("Report: ") == 1
    assert len([*result.folder.glob("evals/*-*")]) == 2


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("exit", "Trial 0, the baseline, could not be evaluated: lm-eval ended with exit code 1: the server said no"),
        ("nothing", "could not be evaluated: lm-eval left no result"),
    ],
)
def test_what_ails_an_evaluation_costs_no_result(tmp_path: Path, tiny_gguf: Path, fault: str, told: str) -> None:
    result = swept(tmp_path / "out", tiny_gguf, fault=fault)
    assert result.code == 0
    assert told in result.err
    assert "Traceback" not in result.err
    assert (result.folder / "best.json").exists()


def test_without_a_winner_there_is_nothing_to_compare(tmp_path: Path, tiny_gguf: Path) -> None:
    result = pipeline(
        "load_s=null,0.01", *SWEEP, folder=tmp_path / "out", gguf=tiny_gguf, sweep=True, env={"STUB_BENCH_RATE": "100"}
    )
    assert result.code == 0
    assert "Evaluations: nothing to compare" in result.out
    assert not (result.folder / "evals").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("quality.evals.tasks=[unknown]",), "lm-eval 0.4.13 knows no task unknown"),
        (("quality.evals.tasks=[servetune_words,choices]",), "runtime=stub cannot run choices: what lm-eval computes"),
        (("quality.evals.tasks=[choices]", "quality.evals.chat=true"), "quality.evals.chat=true cannot run choices"),
        (("quality.evals.python=/nowhere/bin/python",), "/nowhere/bin/python is not there. Make it: uv venv /nowhere"),
        (("quality.evals.python=/bin/true",), "/bin/true cannot list the tasks of lm-eval"),
        (("quality.evals.include_path=/nowhere",), "quality.evals.include_path=/nowhere is no folder"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_anything_starts(
    tmp_path: Path, tiny_gguf: Path, more: tuple[str, ...], told: str
) -> None:
    result = swept(tmp_path / "out", tiny_gguf, *more)
    assert result.code == 2
    assert told in result.err.replace("\nhint:", "")
    assert "Traceback" not in result.err
    assert not (tmp_path / "out").exists()


def test_a_sweep_that_is_stopped_is_not_evaluated(tmp_path: Path, tiny_gguf: Path) -> None:
    words = stub_overrides(tmp_path / "out", tiny_gguf)
    argv = [*command(sweep=True), *words, "parallel=null,4,5,6,7,8", *SWEEP]
    with running(argv, tmp_path, SLOTS) as us:
        us.await_that(lambda: len([*us.folder.glob("*/record.json")]) >= 2)
        us.child.send_signal(signal.SIGTERM)
        result = us.end()
    assert result.code == 128 + signal.SIGTERM
    assert (us.folder / "best.json").exists()
    assert "Evaluates" not in result.err
    assert not (us.folder / "evals").exists()
