"""Searches by the command line, with the stand-ins: what is run, resumed, shared and measured again."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from pipeline.machine import process
from pipeline.sweep.tuner import streams
from support import forked
from support.cli import Result, command, stub_overrides
from support.places import ROOT, TESTS

ENV = {"STUB_BENCH_RATE": "slots"}  # more slots are faster
TUNER = "hydra/sweeper=tuner"
Start = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def argv(folder: Path, tiny_gguf: Path) -> Callable[..., list[str]]:
    def make(*overrides: str, is_placed: bool = True) -> list[str]:
        given = stub_overrides(folder, tiny_gguf)
        own = given if is_placed else [word for word in given if not word.startswith("hydra.sweep.dir=")]
        rounds = [] if any("sweeper.confirm" in word for word in overrides) else ["hydra.sweeper.confirm=0"]
        return [*command(sweep=True), *own, TUNER, *rounds, *overrides]

    return make


@pytest.fixture
def run(argv: Callable[..., list[str]], folder: Path) -> Callable[..., Result]:
    def go(*overrides: str) -> Result:
        done = forked.run(argv(*overrides), env={**os.environ, **ENV}, timeout_s=240)
        return Result(code=done.returncode, out=done.stdout, err=done.stderr, folder=folder)

    return go


@contextmanager
def started(
    words: Sequence[str], cwd: Path = ROOT, *, together: bool = False, **env: str
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        words,
        cwd=cwd,
        env={**os.environ, **ENV, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if together else subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as us:
        try:
            yield us
        finally:
            us.kill()


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/study.db")
    try:
        return optuna.load_study(study_name=folder.name, storage=storage).trials
    finally:
        storage.remove_session()


def picks(result: Result) -> list[str]:
    return [record.overrides[-1] for record in result.records]


def test_the_baseline_is_trial_0_and_the_study_knows_every_metric(run: Callable[..., Result], folder: Path) -> None:
    result = run("parallel=2,4", "hydra/launcher=parallel", "hydra.launcher.n_jobs=2")
    assert result.code == 0, result.err
    assert picks(result) == ["parallel=null", "parallel=2", "parallel=4"]
    assert "trial 3/3" in result.out
    base, *others = trials(folder)
    assert (base.state.name, base.user_attrs["result"]) == ("FAIL", [pytest.approx(101, abs=1)])
    for record, trial in zip(result.records[1:], others, strict=True):
        assert record.objective
        assert trial.value == record.objective["output_tokens_per_s_per_gpu"]
        assert trial.user_attrs["ttft_p95_s"] == 0.2
        assert [*trial.user_attrs["levels"]] == ["D(48,16) x1", "D(48,16) x4"]


def test_winner_and_baseline_are_measured_again(run: Callable[..., Result]) -> None:
    result = run("parallel=null,4", "hydra.sweeper.confirm=2", "hydra.sweeper.held_out=smoke")
    assert result.code == 0, result.err
    told = [(record.phase, record.repeat_of, record.config.knobs["parallel"]) for record in result.records]
    assert told == [
        ("search", None, None),
        ("search", None, 4),
        ("confirm", 1, 4),
        ("confirm", 0, None),
        ("confirm", 0, None),
        ("confirm", 1, 4),
        ("held_out", 1, 4),
        ("held_out", 0, None),
        ("held_out", 0, None),
        ("held_out", 1, 4),
    ]
    assert {record.rounds for record in result.records} == {None, 2}
    assert {record.config.traffic.name for record in result.records[:6]} == {"two_levels"}
    assert {record.config.traffic.name for record in result.records[6:]} == {"smoke"}


def test_by_default_as_many_rounds_as_needed_are_measured(run: Callable[..., Result]) -> None:
    result = run("parallel=null,4", "hydra.sweeper.confirm=auto")
    assert result.code == 0, result.err
    assert 6 <= len([record for record in result.records if record.phase == "confirm"]) <= 12
    assert "Trial 1 against the baseline, by " in result.out
    best = f" -m pipeline --config-dir {TESTS}/fakes/conf {' '.join(result.records[1].overrides)[:40]}"
    assert best in result.out.partition("\nBest: ")[2].splitlines()[0]


def test_nothing_that_meets_the_slo_is_no_success(run: Callable[..., Result], folder: Path) -> None:
    result = run("parallel=null,4", "slo.ttft_s=0.0001")
    assert (result.code, "No configuration meets the SLO; closest: trial " in result.out) == (1, True)
    assert not (folder / "best").exists()


def test_a_refused_combination_is_answered_without_deploying(run: Callable[..., Result], folder: Path) -> None:
    result = run("parallel=13,2", "hydra.sweeper.n_trials=2")
    assert [record.status for record in result.records] == ["ok", "refused", "ok"]
    refused = result.records[1]
    assert not (folder / "1" / "lease.json").exists()
    assert {step.step for step in refused.steps} <= {"preflight", "record", "tracker"}
    assert [trial.user_attrs["answered"] for trial in trials(folder)] == [False, True, False]


def test_a_search_says_why_and_skips_what_is_refused(run: Callable[..., Result]) -> None:
    result = run("parallel=1,2,4,8,13", "hydra.sweeper.n_trials=4", "hydra.sweeper.sampler.seed=1")
    assert result.code == 0, result.err
    assert [record.reason.by for record in result.records if record.reason] == ["baseline", *["start"] * 3]
    assert {record.status for record in result.records} == {"ok"}  # 13 is refused, and not proposed
    assert not any("reason=" in word for record in result.records for word in record.overrides)
    assert "reason=" not in result.out


def test_kill_9_loses_nothing(argv: Callable[..., list[str]], folder: Path, run: Callable[..., Result]) -> None:
    words = ("parallel=2,4,8",)
    with started(argv(*words), STUB_BENCH="hang", STUB_BENCH_AT="4") as us:
        assert process.wait_until((folder / "0" / "bench").exists, timeout_s=240)
        us.send_signal(signal.SIGKILL)
        us.wait(timeout=120)
    first = run(*words)
    assert first.code == 0, first.err
    assert picks(first) == ["parallel=null", "parallel=2", "parallel=4", "parallel=8"]
    assert [path.name for path in (folder / "attempts").iterdir()] == ["0-0"]
    before = [record.started_at for record in first.records]
    again = run(*words)
    assert again.code == 0
    assert [record.started_at for record in again.records] == before  # nothing is run twice
    more = run("parallel=2,4,8", "hydra.sweeper.confirm=1")
    assert [record.phase for record in more.records[4:]] == ["confirm", "confirm"]


def test_the_same_command_finds_the_folder_in_which_it_was_broken_off(
    argv: Callable[..., list[str]], tmp_path: Path
) -> None:
    words = argv("parallel=2,4", is_placed=False)
    with started(words, cwd=tmp_path, STUB_BENCH="hang", PYTHONPATH=str(ROOT)) as us:
        assert process.wait_until(lambda: bool([*tmp_path.glob("outputs/*/0/bench")]), timeout_s=240)
        us.send_signal(signal.SIGINT)
        assert us.wait(timeout=120) == 130
    env = {**os.environ, **ENV, "PYTHONPATH": str(ROOT)}
    told = [
        subprocess.run(each, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240, check=True).stdout
        for each in (words, words)
    ]
    assert ["Goes on in" in text for text in told] == [True, False]  # the second time it had come to its end
    resumed, new = sorted((tmp_path / "outputs").iterdir())
    marks = [json.loads((each / "search.json").read_text()) for each in (resumed, new)]
    assert [mark["is_done"] for mark in marks] == [True, True]
    assert len([*resumed.glob("*/record.json")]) == len([*new.glob("*/record.json")]) == 3


def test_a_sweep_outlives_whoever_reads_it(argv: Callable[..., list[str]], folder: Path) -> None:
    """As in `make sweep 2>&1 | head -1`."""
    with started(argv("parallel=2,4"), together=True) as us:
        assert us.stdout is not None
        assert us.stdout.readline() == "trial 1/3: parallel=null\n"
        us.stdout.close()
        assert us.wait(timeout=120) == 0
    records = Result(code=0, out="", err="", folder=folder).records
    assert [record.status for record in records] == ["ok"] * 3
    assert (folder / "report.html").exists()
    assert (folder / "best" / "serve.sh").exists()


def test_two_processes_share_a_sweep(argv: Callable[..., list[str]], folder: Path) -> None:
    words = argv("parallel=1,2,3,4,5,6")
    with started(words) as one, started(words) as two:
        said = [us.communicate(timeout=240) for us in (one, two)]
        assert (one.returncode, two.returncode) == (0, 0), said
    found = trials(folder)
    owners = {trial.user_attrs["owner"] for trial in found if not trial.user_attrs["answered"]}
    assert len(owners) == 2
    assert sorted(trial.user_attrs["next"]["params"]["parallel"] for trial in found) == [*"123456", "null"]
    assert len([*folder.glob("*/record.json")]) == 7


def test_a_process_waits_for_another_and_takes_over_if_it_dies(argv: Callable[..., list[str]], folder: Path) -> None:
    words = argv("parallel=2,4")
    with started(words, STUB_BENCH="hang", STUB_BENCH_AT="4") as one:
        assert process.wait_until((folder / "0" / "bench").exists, timeout_s=240)
        with started(words) as two:
            assert two.stderr is not None
            assert "Waits for another process that is at this sweep." in two.stderr.readline()
            numbers = [record.number for record in Result(code=0, out="", err="", folder=folder).records]
            one.kill()
            one.wait(timeout=120)
            said = two.communicate(timeout=240)
            assert two.returncode == 0, said
    assert numbers == [1, 2]
    result = Result(code=0, out="", err="", folder=folder)
    assert [record.status for record in result.records] == ["ok"] * 3
    assert "baseline" in said[0]


def test_a_sweep_whose_time_is_over_says_so_and_how_to_go_on(run: Callable[..., Result], folder: Path) -> None:
    result = run("parallel=2,4", "hydra.sweeper.timeout_s=0.1")
    assert result.code == 0
    assert picks(result) == ["parallel=null"]
    assert "Not every trial was run: the limit is hydra.sweeper.timeout_s=0.1. The same command" in result.err
    assert f"hydra.sweep.dir={folder} goes on." in result.err
    whole = run("parallel=2,4", "hydra.sweeper.timeout_s=900")
    assert len(whole.records) == 3
    assert "Not every trial" not in whole.err


def test_a_search_in_a_folder_of_another_one_is_refused(run: Callable[..., Result]) -> None:
    assert run("parallel=1,2").code == 0
    result = run("load_s=0.1", "parallel=1,2")
    assert result.code == 2
    assert "It was started without load_s=0.1." in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("hydra.sweeper.confirm=-1", "hydra.sweeper.confirm=-1 is neither auto nor a number of rounds (0: none)."),
        ("hydra.sweeper.n_trials=0", "hydra.sweeper.n_trials=0 should be greater than or equal to 1"),
        (
            "hydra.sweeper.confirm=x",
            "hydra.sweeper.confirm=x is neither auto nor a number of rounds (0: none).",
        ),
        ("hydra.sweeper.gpu_hours=1", "hardware=cpu has no GPU"),
        ("hydra.sweeper.held_out=nope", "traffic=nope is not an option. traffic has: "),
        ("hydra.sweeper.storage=postgresql://me:secret@host/x", "contains a password"),
        ("hydra.sweeper.storage=nope", "hydra.sweeper.storage=nope: expected a database's URL"),
        ("hydra.sweep.subdir=x", "needs ${hydra.job.num}"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_starts(
    run: Callable[..., Result], folder: Path, override: str, told: str
) -> None:
    result = run("parallel=1,2", override)
    assert (result.code, result.out) == (2, "")
    assert told in result.err
    assert "secret" not in result.err
    assert not folder.exists()


def test_a_search_without_an_end_is_refused(run: Callable[..., Result]) -> None:
    result = run("load_s=interval(0.1,0.2)", "hydra.sweeper.n_trials=null")
    assert (result.code, "would never end" in result.err) == (2, True)


class Batches(Launcher):
    """A launcher of Hydra's kind: takes a batch whose numbers follow each other."""

    def __init__(self) -> None:
        self.had: list[tuple[int, int]] = []

    def setup(self, **_: Any) -> None:
        """Nothing."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        self.had.append((initial_job_idx, len(job_overrides)))
        return [JobReturn(overrides=list(overrides)) for overrides in job_overrides]


def test_a_launcher_that_cannot_stream_is_given_batches_with_the_right_numbers() -> None:
    launcher, told = Batches(), []
    jobs = iter([(number, [f"n={number}"]) for number in (0, 1, 4, 5, 6)])
    streams.stream(launcher, 3, jobs, lambda number, result: told.append((number, result.overrides)))
    assert launcher.had == [(0, 2), (4, 1), (5, 2)]
    assert told == [(number, [f"n={number}"]) for number in (0, 1, 4, 5, 6)]
