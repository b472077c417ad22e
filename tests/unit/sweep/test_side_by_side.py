"""Two engines in one command line, with stand-ins: from the words that are typed to the verdict between them."""

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.files import SweepDir
from support import forked
from support.cli import Result, pipeline

ENV = {"STUB_BENCH_RATE": "slots"}  # more slots are faster
BOTH = ("runtime=stub,other", "stub.parallel=null,4", "other.slots=null,2", "hydra/sweeper=tuner")


@pytest.fixture
def run(tmp_path: Path, tiny_gguf: Path) -> Callable[..., Result]:
    def go(*overrides: str, sweep: bool = True) -> Result:
        own = ("traffic.concurrencies=[1]", *overrides)
        return pipeline(*own, folder=tmp_path / "out", gguf=tiny_gguf, sweep=sweep, env=ENV, timeout_s=240)

    return go


def own(result: Result) -> list[tuple[str, ...]]:
    """What tells the trials apart."""
    return [record.overrides[-2:] for record in result.records if record.repeat_of is None]


def test_two_engines_are_tuned_and_compared(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run(*BOTH, "load_s=0.1", "hydra.sweeper.confirm=2")
    assert result.code == 0, result.err
    assert own(result) == [
        ("runtime=stub", "parallel=null"), ("runtime=other", "slots=null"),
        ("runtime=stub", "parallel=4"), ("runtime=other", "slots=2"),
    ]  # fmt: skip
    assert [record.config.knobs for record in result.records[2:4]] == [
        {"fault": None, "parallel": 4, "load_s": 0.1, "exit_after_s": None, "answers": None},
        {"slots": 2, "load_s": 0.1},
    ]
    phases = [(record.phase, record.repeat_of) for record in result.records[4:]]
    assert phases == [
        *(("confirm", number) for number in (2, 0, 0, 2)),
        *(("confirm", number) for number in (3, 1, 1, 3)),
        *(("between", number) for number in (2, 3, 3, 2)),
    ]
    assert "Between the engines: trial 2 (stub) is better than the best of each other one." in result.out
    assert "stub: Trial 2 against the baseline, by 2 alternating rounds: better by" in result.out
    assert "other: Trial 3 against the baseline, by 2 alternating rounds: better by" in result.out
    assert "Best of other: " in result.out

    sweep = SweepDir(result.folder)
    best = json.loads(sweep.best.read_text())
    assert best["engines"]["other"]["trial_id"].endswith("/3")
    again = forked.run(_pasted(best["command"], tmp_path), env={**os.environ, **ENV})
    assert again.returncode == 0, again.stderr

    resumed = run(*BOTH, "load_s=0.1", "hydra.sweeper.confirm=2")
    assert len(resumed.records) == len(result.records)  # nothing is measured twice
    assert resumed.code == 0
    multirun = (result.folder / "multirun.yaml").read_text()
    assert "stub.parallel=null,4" in multirun  # the whole command is kept


def _pasted(line: str, folder: Path) -> list[str]:
    """A printed command's words, with a folder of its own; its variables are this process's."""
    words = shlex.split(line)
    first = next(at for at, word in enumerate(words) if "=" not in word)
    return [*words[first:], f"hydra.run.dir={folder}/again/0"]


def test_an_engine_that_cannot_run_here_is_named_once_and_the_other_goes_on(run: Callable[..., Result]) -> None:
    result = run(*BOTH, "other.runtime.command=[no-such-program]", "hydra.sweeper.confirm=0")
    assert result.code == 0, result.err
    assert own(result) == [("runtime=stub", "parallel=null"), ("runtime=stub", "parallel=4")]
    (line,) = [line for line in result.err.splitlines() if "no-such-program" in line]
    assert line.startswith("warned: runtime=other is left out, the other engines are measured: ")
    assert "trial 2/2" in result.out
    assert "Left out: runtime=other, which cannot run here." in result.err


def test_where_no_engine_can_run_nothing_is_written(run: Callable[..., Result]) -> None:
    result = run(*BOTH, "runtime.command=[no-such-program]")
    assert result.code == 2
    assert result.err.startswith("error: No trial of this sweep can run here:\n  runtime=stub starts")
    assert result.err.count("no-such-program") == 2  # once for each engine
    assert not result.folder.exists()


def test_a_search_over_two_engines_ends_after_its_trials(run: Callable[..., Result]) -> None:
    search = ("runtime=stub,other", "stub.parallel=int(interval(2,16))", "other.slots=2,3", "hydra/sweeper=tuner")
    result = run(*search, "hydra.sweeper.n_trials=5", "hydra.sweeper.confirm=0")
    assert result.code == 0, result.err
    assert own(result)[:2] == [("runtime=stub", "parallel=null"), ("runtime=other", "slots=null")]
    assert len({*own(result)}) == len(own(result)) == 5
    assert {path.name for path in SweepDir(result.folder).incumbents} == {"incumbent-stub.json", "incumbent-other.json"}


def test_one_engine_alone_may_be_named(run: Callable[..., Result]) -> None:
    result = run("stub.parallel=2", sweep=False)
    assert result.code == 0, result.err
    assert result.record.config.knobs["parallel"] == 2
    assert "parallel=2" in result.record.overrides
