"""`servetune ps` and `servetune stop`, with whole sweeps as a shell starts them, and with what is left of others."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from fakes import make_lease
from pipeline import ps, stop
from pipeline.backends import lease
from pipeline.core.errors import FailureKind
from pipeline.core.files import RunDir
from pipeline.core.values import to_json
from pipeline.machine import identity, process
from pipeline.machine.identity import Identity
from pipeline.trial import at_work
from support.cli import command, pipeline, stub_overrides
from support.sweeping import Running, running

ONE_BY_ONE: tuple[str, ...] = ()
PARALLEL = ("hydra/launcher=parallel", "hydra.launcher.n_jobs=2")
SUBMITIT = ("hydra/launcher=submitit_local",)
LAUNCHERS = {"one-by-one": ONE_BY_ONE, "parallel": PARALLEL, "submitit": SUBMITIT}
QUICK = ("runtime.stop_grace_s=0.5", "runtime.health.interval_s=0.02")
ENDLESS = {"STUB_BENCH": "hang"}
FIRST_IS_ENDLESS = {**ENDLESS, "STUB_BENCH_AT": "4"}
FIRST_OF_TWO = "traffic.concurrencies=[4],[1]"


def sweep(folder: Path, gguf: Path, *overrides: str, env: dict[str, str]) -> AbstractContextManager[Running]:
    argv = [*command(sweep=True), *stub_overrides(folder / "out", gguf), *QUICK, *overrides]
    return running(argv, folder, env)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run one of the two commands in this process: its exit code and what it said."""

    def call(which: Any, *words: object) -> tuple[int, str]:
        capsys.readouterr()
        code = which.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out + err

    return call


@pytest.fixture
def sleeper() -> Iterator[Identity]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield identity.of(child.pid)
        child.kill()


def nothing_left(us: Running) -> bool:
    leases = lease.state_dir() / "leases"
    return process.wait_until(lambda: not us.processes() and not [*leases.glob("*.json")], timeout_s=180)


def test_ps_tells_what_runs_and_where(tmp_path: Path, tiny_gguf: Path, said: Any) -> None:
    with sweep(tmp_path, tiny_gguf, *PARALLEL, "traffic.concurrencies=[1]", "parallel=2,4", env=ENDLESS) as us:
        us.await_levels(0, 1)
        code, text = said(ps)
        shown = json.loads(said(ps, "--json")[1])
        us.child.terminate()
        us.end()
    assert code == 0
    assert f"{us.folder}: sweep, process {us.child.pid}, since " in text
    assert "  trial 1: parallel=4\n    bench D(48,16) x1, since " in text
    (found,), trials = shown["sweeps"], shown["sweeps"][0]["trials"]
    assert (found["folder"], found["owner"]["pid"], found["ended"]) == (str(us.folder), us.child.pid, 0)
    assert [(one["number"], one["step"], one["detail"], one["backend"]) for one in trials] == [
        (0, "bench", "D(48,16) x1", "local"),
        (1, "bench", "D(48,16) x1", "local"),
    ]
    assert all("parallel=4" in one["overrides"] for one in trials if one["number"] == 1)
    assert len({one["owner"]["pid"] for one in trials} - {us.child.pid}) == 2
    assert all(one["server_pid"] and one["label"] for one in trials)
    assert shown["left_behind"] == []
    assert said(ps) == (0, "Nothing runs.\n")


@pytest.mark.parametrize("launcher", LAUNCHERS.values(), ids=LAUNCHERS)
def test_stop_ends_one_trial_and_then_the_whole_sweep(
    launcher: tuple[str, ...], tmp_path: Path, tiny_gguf: Path, said: Any
) -> None:
    with sweep(tmp_path, tiny_gguf, *launcher, "traffic.concurrencies=[1]", "parallel=2,4", env=ENDLESS) as us:
        us.await_levels(0)
        first = said(stop, us.folder, 0)
        assert not [one for one in lease.all_registered() if one.run_dir == us.folder / "0"]
        us.await_levels(1)
        then = said(stop)
        assert us.child.wait(timeout=60) == 128 + signal.SIGTERM
        result = us.end()
        assert nothing_left(us)
    assert (first[0], then[0]) == (0, 0)
    assert "  interrupted; its server is removed, and was seen to be gone\n" in first[1]
    assert f"{us.folder}: told to stop (process {us.child.pid})\n" in then[1]
    assert "  trial 1: interrupted; its server is removed, and was seen to be gone\n" in then[1]
    assert f"{us.folder}: stopped\n" in then[1]
    assert [(one.status, one.failure.kind) for one in result.records if one.failure] == [
        ("interrupted", FailureKind.STOPPED),
        ("interrupted", FailureKind.INTERRUPTED),
    ]
    assert {record.teardown.by for record in result.records if record.teardown} == {"trial"}
    assert "rank  trial" in result.out


def test_a_sweep_goes_on_to_its_end_without_the_trial_that_was_stopped(
    tmp_path: Path, tiny_gguf: Path, said: Any
) -> None:
    with sweep(tmp_path, tiny_gguf, FIRST_OF_TWO, env=FIRST_IS_ENDLESS) as us:
        us.await_levels(0)
        assert said(stop, us.folder, 0)[0] == 0
        result = us.end()
        assert nothing_left(us)
    assert result.code == 0, result.err
    assert [record.status for record in result.records] == ["interrupted", "ok"]
    stopped = result.records[0].failure
    assert stopped is not None
    assert (stopped.step, stopped.message) == ("bench", "stopped by servetune stop")
    assert [level.status for level in result.records[0].levels] == ["failed"]


def test_a_search_neither_learns_from_a_stopped_trial_nor_runs_it_again(
    tmp_path: Path, tiny_gguf: Path, said: Any
) -> None:
    search = ("hydra/sweeper=tuner", "hydra.sweeper.baseline=false", "hydra.sweeper.confirm=0")
    given = (*search, "traffic.concurrencies=[1]", "parallel=2,4")
    with sweep(tmp_path, tiny_gguf, *given, env=ENDLESS) as us:
        us.await_levels(0)
        assert said(stop, us.folder / "0")[0] == 0
        us.await_levels(1)
        code, text = said(stop, us.folder)
        assert (code, f"{us.folder}: stopped; the same command goes on with it\n" in text) == (0, True)
        us.end()
    again = pipeline(*QUICK, *given, folder=us.folder, gguf=tiny_gguf, sweep=True)
    assert [(record.number, record.status) for record in again.records] == [(0, "interrupted"), (1, "ok")]
    assert [path.name for path in (us.folder / "attempts").iterdir()] == ["1-0"]
    assert again.records[0].failure is not None
    assert again.records[0].failure.kind == FailureKind.STOPPED


def test_stop_ends_a_single_trial(tmp_path: Path, tiny_gguf: Path, said: Any) -> None:
    argv = [*command(sweep=False), *stub_overrides(tmp_path / "out", tiny_gguf), *QUICK, "traffic.concurrencies=[1]"]
    with running(argv, tmp_path, ENDLESS) as us:
        us.await_levels(0)
        assert f"{us.folder / '0'}: trial, process {us.child.pid}, since " in said(ps)[1]
        code, text = said(stop, us.folder / "0")
        result = us.end()
        assert nothing_left(us)
    assert (code, result.code, result.record.status) == (0, 128 + signal.SIGTERM, "interrupted"), text


def test_stop_says_what_has_not_ended(tmp_path: Path, tiny_gguf: Path, said: Any) -> None:
    slow = ("fault=ignore_term", "runtime.stop_grace_s=4", "traffic.concurrencies=[1]", "parallel=2")
    with sweep(tmp_path, tiny_gguf, *slow, env=ENDLESS) as us:
        us.await_levels(0)
        code, text = said(stop, "--timeout", 0, us.folder)
        assert (code, f"STILL RUNS: {us.folder}: process {us.child.pid}" in text) == (3, True)
        assert f"NOT REMOVED: {next(lease.all_registered()).label}" in text
        us.end()
        assert nothing_left(us)


def test_stop_removes_what_a_killed_trial_has_left(tmp_path: Path, tiny_gguf: Path, said: Any) -> None:
    alone = ("backend.keeper=false", "traffic.concurrencies=[1]", "parallel=2")
    with sweep(tmp_path, tiny_gguf, *alone, env=ENDLESS) as us:
        us.await_levels(0)
        us.child.kill()
        us.end()
        assert f"{us.folder / '0'}: its process is gone, and its server may run (local): servetune reap" in said(ps)[1]
        assert said(stop, tmp_path) == (0, f"{us.folder / '0'}: what a killed trial had left is removed\n")
        assert said(ps) == (0, "Nothing runs.\n")


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "before"}, {"host": "other"}])
def test_a_process_that_only_has_the_same_number_is_left_alone(
    change: dict[str, Any], sleeper: Identity, tmp_path: Path, said: Any
) -> None:
    (tmp_path / "run").mkdir()
    owned = replace(make_lease(tmp_path / "run"), owner=replace(sleeper, **change))
    lease.update(owned)
    other = at_work.Command(
        owner=owned.owner, folder=tmp_path, is_sweep=True, is_search=True, swept=(), since=owned.created_at
    )
    path = at_work.folder() / "other.command"
    path.parent.mkdir(parents=True)
    path.write_text(to_json(other))
    code, text = said(stop)
    assert code == 0
    assert "told to stop" not in text
    assert psutil.Process(sleeper.pid).is_running()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{tmp}/none"], "error: there is no folder {tmp}/none. See what runs: servetune ps\n"),
        (["{tmp}", "3"], "error: trial 3 of {tmp} does not run (running: none). See what runs: servetune ps\n"),
    ],
)
def test_what_is_not_there_is_one_message(words: list[str], told: str, tmp_path: Path, said: Any) -> None:
    assert said(stop, *[word.format(tmp=tmp_path) for word in words]) == (2, told.format(tmp=tmp_path))


@pytest.mark.parametrize("word", ["-1", "nan", "soon"])
def test_a_time_that_is_none_is_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        stop.main(["--timeout", word])
    assert ended.value.code == 2
    assert f"argument --timeout: {word}: expected a number of seconds, 0 or more" in capsys.readouterr().err


def test_nothing_to_stop_is_no_error(tmp_path: Path, said: Any) -> None:
    assert said(stop) == (0, "Nothing runs.\n")
    assert said(stop, tmp_path) == (0, f"Nothing runs in {tmp_path}.\n")
    assert not RunDir(tmp_path).record.exists()
