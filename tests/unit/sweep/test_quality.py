"""Sweeps with the stand-in, in which the fastest configuration answers badly: by the command line."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support import forked
from support.cli import Result, command, pipeline, stub_overrides

ENV = {"STUB_BENCH_RATE": "slots"}  # more slots are faster


@pytest.fixture
def run(tmp_path: Path, tiny_gguf: Path) -> Callable[..., Result]:
    def go(*overrides: str) -> Result:
        argv = [*command(sweep=True), *stub_overrides(tmp_path / "out", tiny_gguf), *overrides]
        done = forked.run(argv, env={**os.environ, **ENV}, timeout_s=240)
        return Result(code=done.returncode, out=done.stdout, err=done.stderr, folder=tmp_path / "out")

    return go


def test_a_broken_one_never_wins_however_fast(run: Callable[..., Result]) -> None:
    sweep = ("parallel=null,2,8", "answers=null,stuck", "hydra.sweeper.confirm=1")
    result = run("hydra/sweeper=tuner", *sweep)
    assert result.code == 0, result.err
    best = json.loads((result.folder / "best.json").read_text())
    assert "answers=null" in best["overrides"]
    assert best["quality"]["word"] == "same"
    assert "cannot win, for what it answers: broken (one token repeated in" in result.out
    assert "Quality of trial" in result.out
    answers = json.loads((result.folder / "best" / "answers.json").read_text())
    assert answers["quality"]["word"] == "same"
    assert answers["winner"]["turns"][0]["answers"]
    assert answers["baseline"]["turns"][0]["answers"]
    stuck = [one for one in result.records if one.config.knobs["answers"] == "stuck"]
    assert not [one for one in stuck if one.phase != "search"]  # none of them is measured against the baseline
    assert [one.quality.word for one in stuck if one.quality] == ["broken" for one in stuck if one.asked]
    assert all(one.quality is None for one in result.records if one.is_baseline)


def test_a_guard_that_fails_costs_no_trial_and_is_said(run: Callable[..., Result]) -> None:
    result = run("answers=null,errors", "parallel=4")
    assert result.code == 0, result.err
    assert [record.status for record in result.records] == ["ok", "ok"]
    assert "quality" in [step.step for step in result.records[0].steps]


def test_nobody_is_asked_where_nothing_that_is_swept_can_change_answers(run: Callable[..., Result]) -> None:
    result = run("parallel=null,4")
    assert [record.asked for record in result.records] == [None, None]
    assert "Quality" not in result.out


def test_it_can_be_switched_off(run: Callable[..., Result]) -> None:
    result = run("answers=null,stuck", "quality=none")
    assert [record.asked for record in result.records] == [None, None]


PARALLEL = ("hydra/launcher=parallel", "hydra.launcher.n_jobs=2")


def test_a_broken_one_never_wins_where_several_trials_run_at_once(run: Callable[..., Result]) -> None:
    sweep = ("parallel=null,2,8", "answers=null,stuck", "hydra.sweeper.confirm=1", "traffic.concurrencies=[1]")
    result = run("hydra/sweeper=tuner", *PARALLEL, *sweep)
    assert result.code == 0, result.err
    assert "answers=null" in json.loads((result.folder / "best.json").read_text())["overrides"]
    stuck = {one.number for one in result.records if one.config.knobs["answers"] == "stuck"}
    asked = {one.repeat_of for one in result.records if one.repeat_of in stuck and one.asked}
    again = [one.repeat_of for one in result.records if one.repeat_of in stuck]
    assert sorted(again) == sorted(asked)  # once each at most: whom nobody had asked is asked there, and falls


def test_a_result_of_the_cache_is_judged_by_the_answers_that_came_with_it(tmp_path: Path, tiny_gguf: Path) -> None:
    def swept(name: str, *more: str) -> Result:
        return pipeline("answers=null,stuck", *more, folder=tmp_path / name, gguf=tiny_gguf, sweep=True)

    first, again = swept("one"), swept("two", "cache=read")
    assert [one.cached_from for one in again.records] == [one.trial_id for one in first.records]
    assert [one.quality.word if one.quality else None for one in again.records] == [None, "broken"]
    assert "answers=null" in json.loads((again.folder / "best.json").read_text())["overrides"]
