"""Several trials at once on one machine, by the command line: they overlap, keep apart, and end with the sweep."""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.backends.lease import state_dir
from pipeline.config import command_line
from pipeline.core.errors import ConfigError, FailureKind
from pipeline.core.record import Record
from pipeline.machine import process
from support.cli import Result, command, pipeline, stub_overrides
from support.places import ROOT
from support.sweeping import Running, running

PARALLEL = ("hydra/launcher=parallel", "hydra.launcher.n_jobs=2")
SUBMITIT = ("hydra/launcher=submitit_local",)
LAUNCHERS = {"parallel": PARALLEL, "submitit": SUBMITIT}
QUICK = ("traffic.concurrencies=[1]", "runtime.stop_grace_s=0.5", "runtime.health.interval_s=0.02")
SLOW = {"STUB_BENCH": "sleep:2"}  # long enough that trials which run at the same time are seen to
ENDLESS = {"STUB_BENCH": "hang"}
ENDLESS_AT_4 = {**ENDLESS, "STUB_BENCH_AT": "4"}


def remains(us: Running) -> list[str]:
    """What is left of a sweep in the world, once that does not change any more."""

    def left() -> list[str]:
        leases = [path.name for path in (state_dir() / "leases").glob("*.json")]
        return [f"process {one.pid}" for one in us.processes()] + leases

    process.wait_until(lambda: not left(), timeout_s=180, interval_s=0.1)
    return left()


@contextmanager
def sweep(folder: Path, gguf: Path, *overrides: str, env: Mapping[str, str]) -> Iterator[Running]:
    """Start a sweep as a shell does, with trials as short as can be."""
    argv = [*command(sweep=True), *stub_overrides(folder / "out", gguf), *QUICK, *overrides]
    with running(argv, folder, env) as started:
        yield started


def overlap(one: Record, other: Record) -> bool:
    return one.started_at < other.ended_at and other.started_at < one.ended_at


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path) -> Result:
    """Four trials, two at a time."""
    folder = tmp_path_factory.mktemp("four") / "out"
    env = {**SLOW, "SERVETUNE_TESTS": str(ROOT / "tests"), "SERVETUNE_STATE_DIR": str(folder.parent / "state")}
    return pipeline(*QUICK, *PARALLEL, "parallel=2,4,6,8", folder=folder, gguf=tiny_gguf, sweep=True, env=env)


def test_trials_run_at_the_same_time_but_no_more_than_asked(four: Result) -> None:
    assert (four.code, [record.status for record in four.records]) == (0, ["ok"] * 4)
    starts = [sum(one.started_at <= two.started_at < one.ended_at for one in four.records) for two in four.records]
    assert max(starts) == 2


def test_each_trial_has_its_own_number_folder_port_and_command(four: Result) -> None:
    leases = [four.lease(trial) for trial in range(4)]
    assert len({record.argv for record in four.records}) == 4
    assert len({lease["label"] for lease in leases}) == 4
    assert len({lease["owner"]["pid"] for lease in leases}) == 2
    for number, record in enumerate(four.records):
        assert record.number == number
        assert f"parallel={2 * number + 2}" in record.overrides
        assert (four.folder / str(number) / ".hydra" / "config.yaml").exists()


def test_the_table_has_all_of_them(four: Result) -> None:
    rows = [line.split() for line in four.out.partition("rank  trial")[2].splitlines()[1:5]]
    assert sorted(row[1] for row in rows) == ["0", "1", "2", "3"]
    assert len((four.folder / "ranking.csv").read_text().splitlines()) == 5
    assert (four.folder / "best.json").exists()


def test_each_line_tells_whose_it_is(four: Result) -> None:
    lines = four.out.partition("rank  trial")[0].splitlines()
    assert [line for line in lines if not line.startswith(("[0] ", "[1] ", "[2] ", "[3] "))] == []
    assert "[2] trial 3/4: parallel=6" in lines
    assert any(line.startswith("[3] ") and line.endswith(" s  bench D(48,16) x1") for line in lines)
    assert four.err == ""


def test_a_worker_that_is_killed_is_one_failed_trial(tmp_path: Path, tiny_gguf: Path) -> None:
    with sweep(tmp_path, tiny_gguf, *PARALLEL, "traffic.concurrencies=[1],[4],[2]", env=ENDLESS_AT_4) as us:
        us.await_levels(1)
        us.worker_of(1).kill()
        result = us.end()
        assert remains(us) == []
    assert [record.status for record in result.records] == ["ok", "failed", "ok"]
    lost = result.records[1]
    assert lost.failure is not None
    assert (lost.failure.kind, lost.failure.step) == (FailureKind.WORKER_DIED, "bench")
    assert "killed by SIGKILL" in lost.failure.message
    assert result.code == 0
    assert "worker_died" in result.out


def test_what_a_lost_trial_had_measured_is_in_its_record(tmp_path: Path, tiny_gguf: Path) -> None:
    words = (*PARALLEL, "traffic.concurrencies=[1,4]", "parallel=2")
    with sweep(tmp_path, tiny_gguf, *words, env=ENDLESS_AT_4) as us:
        us.await_that(lambda: len(list(us.folder.glob("0/bench/*/*/console.log"))) == 2)
        us.worker_of(0).kill()
        result = us.end()
    assert [(level.name, level.status) for level in result.record.levels] == [
        ("D(48,16) x1", "ok"),
        ("D(48,16) x4", "skipped"),
    ]
    assert (result.code, result.record.status) == (1, "failed")


@pytest.mark.parametrize(
    ("launcher", "signum"),
    [
        (PARALLEL, signal.SIGINT),
        (PARALLEL, signal.SIGTERM),
        (PARALLEL, signal.SIGHUP),
        (SUBMITIT, signal.SIGINT),
        (SUBMITIT, signal.SIGTERM),
    ],
    ids=["parallel-INT", "parallel-TERM", "parallel-HUP", "submitit-INT", "submitit-TERM"],
)
def test_a_signal_tears_every_trial_down(
    tmp_path: Path, tiny_gguf: Path, launcher: tuple[str, ...], signum: signal.Signals
) -> None:
    with sweep(tmp_path, tiny_gguf, *launcher, "parallel=2,4", env=ENDLESS) as us:
        us.await_levels(0, 1)
        if signum == signal.SIGINT:  # a terminal tells the whole group, and people press it twice
            os.killpg(us.child.pid, signum)
            if not process.wait_until(lambda: us.child.poll() is not None, timeout_s=0.3):
                os.killpg(us.child.pid, signum)
        else:
            us.child.send_signal(signum)
        result = us.end()
        assert remains(us) == []
    assert result.code == 128 + signum
    assert [record.status for record in result.records] == ["interrupted"] * 2
    assert [record.teardown.by for record in result.records if record.teardown] == ["trial"] * 2
    assert f"Stopped by {signum.name}." in result.err
    assert "rank  trial" in result.out


@pytest.mark.parametrize("launcher", LAUNCHERS.values(), ids=LAUNCHERS)
def test_when_the_sweep_is_killed_its_trials_stop(tmp_path: Path, tiny_gguf: Path, launcher: tuple[str, ...]) -> None:
    with sweep(tmp_path, tiny_gguf, *launcher, "parallel=2,4", env=ENDLESS) as us:
        us.await_levels(0, 1)
        us.child.kill()
        result = us.end()
        assert remains(us) == []
    assert [record.status for record in result.records] == ["interrupted"] * 2


def test_when_all_are_killed_the_keepers_remain_to_tear_down(tmp_path: Path, tiny_gguf: Path) -> None:
    with sweep(tmp_path, tiny_gguf, *PARALLEL, "parallel=2,4", env=ENDLESS) as us:
        us.await_levels(0, 1)
        workers = [us.worker_of(0), us.worker_of(1)]
        us.child.kill()
        for worker in workers:
            worker.kill()
        us.end()
        assert remains(us) == []


def test_submitit_local_runs_all_at_once(tmp_path: Path, tiny_gguf: Path) -> None:
    result = pipeline(*QUICK, *SUBMITIT, "parallel=2,4", folder=tmp_path / "out", gguf=tiny_gguf, sweep=True, env=SLOW)
    assert (result.code, [record.status for record in result.records]) == (0, ["ok"] * 2)
    assert overlap(*result.records)
    assert "parallel=4" in result.out.partition("rank  trial")[2]


def test_a_process_of_submitit_that_is_killed_is_one_failed_trial(tmp_path: Path, tiny_gguf: Path) -> None:
    with sweep(tmp_path, tiny_gguf, *SUBMITIT, "traffic.concurrencies=[4],[1]", env=ENDLESS_AT_4) as us:
        us.await_levels(0)
        us.worker_of(0).kill()
        result = us.end()
        assert remains(us) == []
    assert [record.status for record in result.records] == ["failed", "ok"]
    assert result.records[0].failure is not None
    assert result.records[0].failure.kind == FailureKind.WORKER_DIED
    assert result.code == 0


def test_a_search_runs_its_batches_on_workers_that_stay(tmp_path: Path, tiny_gguf: Path) -> None:
    search = (
        "hydra/sweeper=tpe",
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.n_jobs=2",
        "+hydra.sweeper.sampler.seed=1",
    )
    result = pipeline(
        *QUICK, *PARALLEL, *search, "parallel=range(2,40,2)",
        folder=tmp_path / "out", gguf=tiny_gguf, sweep=True, env=SLOW,
    )  # fmt: skip
    assert (result.code, len(result.records)) == (0, 4)
    assert len({result.lease(number)["owner"]["pid"] for number in range(4)}) == 2
    assert overlap(*result.records[:2]) or overlap(*result.records[2:])  # the first ones wait for their workers
    assert (result.folder / "optimization_results.yaml").exists()


def test_a_search_is_told_that_a_trial_was_lost(tmp_path: Path, tiny_gguf: Path) -> None:
    search = ("hydra/sweeper=grid", "hydra.sweeper.n_jobs=2")
    go = tmp_path / "go"
    with sweep(tmp_path, tiny_gguf, *PARALLEL, *search, "parallel=2,4", env={"STUB_BENCH": f"until:{go}"}) as us:
        us.await_levels(0, 1)
        us.worker_of(0).kill()
        go.touch()
        result = us.end()
    assert (result.code, sorted(record.status for record in result.records)) == (0, ["failed", "ok"])
    assert (result.folder / "optimization_results.yaml").exists()


def test_a_worker_that_does_not_start_ends_the_sweep_in_words(tmp_path: Path, tiny_gguf: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(
        "import os, sys\nif 'pipeline.sweep.launchers.worker' in sys.orig_argv: os._exit(9)\n"
    )
    env = {"PYTHONPATH": str(tmp_path / "broken")}
    result = pipeline(*PARALLEL, "parallel=2,4", folder=tmp_path / "out", gguf=tiny_gguf, sweep=True, env=env)
    assert result.code == 1
    assert "error: A worker process does not start: exit code 9." in result.err
    assert "Traceback" not in result.err


MISTAKES = {
    "none-at-once": ([PARALLEL[0], "hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs=0: expected an integer, 1 or"),
    "no-such-launcher": (["hydra/launcher=nope"], "hydra/launcher=nope is not an option. hydra/launcher has: "),
    "without-the-launcher": (
        ["hydra.launcher.n_jobs=2"],
        "hydra.launcher.n_jobs is not a key. Add hydra/launcher=parallel to run several trials at once.",
    ),
    "a-search-one-at-a-time": (
        ["hydra/launcher=parallel", "hydra.launcher.n_jobs=3", "hydra/sweeper=optuna"],
        "Add hydra.sweeper.n_jobs=3, the number of trials to run at once: this sweeper asks for one trial at a time",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("overrides", "words"), MISTAKES.values(), ids=MISTAKES)
def test_what_makes_no_sense_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        command_line.check([*overrides, "n_threads=1,2"], is_sweep=True)
    assert words in str(caught.value)
