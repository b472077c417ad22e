"""What does not fit a matrix: several blows, the engine's own death, engines that resist, a folder that vanishes."""

import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import FailureKind
from support.cli import command, stub_overrides
from support.places import ROOT
from support.world import Launch, Tell, Trial, processes_of, registered
from teardown.test_matrix import HANGING_BENCH, HUP, INT, KILL, TERM, Row, check, ids

INTERRUPTED = Row("bench", 0, "interrupted", FailureKind.INTERRUPTED)
DEATHS = [Row(step, 1, "failed", FailureKind.OOM_HOST) for step in ("health", "warmup", "bench")]
DEATHS.append(Row("teardown", 0, "ok"))
RESISTING = ("ignore_term", "leave_session", "orphan")
PAIRS = {"at-once": (INT, INT, 0.0), "a-tenth-apart": (INT, TERM, 0.1), "hang-up-first": (HUP, TERM, 0.02)}


def paused_bench(launch: Launch, *overrides: str, also: tuple[str, ...] = (), **given: Any) -> Trial:
    faults = dict.fromkeys(("bench", *also), "pause")
    trial = launch(*overrides, faults=faults, env=HANGING_BENCH, **given)
    trial.await_step("bench")
    return trial


def reap() -> int:
    return subprocess.run(command(sweep=False, module="pipeline.reap"), cwd=ROOT, check=False).returncode


@pytest.mark.any_backend
@pytest.mark.parametrize("signum", [INT, TERM], ids=ids)
def test_a_signal_before_there_is_a_keeper_waits_until_there_is(
    signum: signal.Signals, launch: Launch, tell: Tell
) -> None:
    trial = launch(faults={"lease": "pause"})
    trial.await_step("lease")
    trial.strike(signum)
    trial.go_on("lease")
    row = Row("deploy", 0, "interrupted", FailureKind.INTERRUPTED)
    tell("lease", signum.name, check(trial, row, trial.wait(), ended_by=128 + signum))


@pytest.mark.parametrize("group", [False, True], ids=["us", "our-group"])
def test_a_kill_before_there_is_a_keeper_leaves_only_a_lease(group: bool, launch: Launch, tell: Tell) -> None:
    trial = launch(faults={"lease": "pause"})
    trial.await_step("lease")
    trial.strike(KILL, group=group)
    trial.wait()
    trial.settle()
    assert processes_of(trial.folder) == []
    assert len(registered()) == 1
    assert reap() == 0
    assert trial.remains() == []
    tell("lease", "SIGKILL group" if group else "SIGKILL", "exit -9, no record, lease for the reaper")


@pytest.mark.any_backend
@pytest.mark.parametrize(("first", "second", "pause_s"), PAIRS.values(), ids=PAIRS)
def test_survives_two_signals(
    first: signal.Signals, second: signal.Signals, pause_s: float,
    launch: Launch, tell: Tell
) -> None:  # fmt: skip
    trial = paused_bench(launch)
    trial.strike(first)
    time.sleep(pause_s)
    trial.strike(second)
    code = trial.wait()
    assert code in {128 + first, 128 + second}  # at once: the kernel gives the lower number first
    tell("bench", f"{first.name}, {second.name} {pause_s} s", check(trial, INTERRUPTED, code, ended_by=code))


@pytest.mark.any_backend
@pytest.mark.parametrize("step", ["teardown", "torn_down", "record"])
def test_a_second_interrupt_does_not_break_off(step: str, launch: Launch, tell: Tell) -> None:
    trial = paused_bench(launch, also=(step,))
    trial.strike(INT)
    trial.await_step(step)
    for _ in range(3):
        trial.strike(INT)
        time.sleep(0.02)
    trial.go_on(step)
    tell(step, "second SIGINT", check(trial, INTERRUPTED, trial.wait(), ended_by=128 + INT))


@pytest.mark.any_backend
def test_a_second_interrupt_breaks_off_the_tracker(launch: Launch, tell: Tell) -> None:
    trial = paused_bench(launch, also=("tracker",))
    trial.strike(TERM)
    trial.await_step("tracker")
    trial.strike(INT)
    tell("tracker", "second SIGINT", check(trial, INTERRUPTED, trial.wait(), ended_by=128 + TERM))
    assert trial.record is not None
    assert trial.record.tracker is not None


@pytest.mark.parametrize("row", DEATHS, ids=ids)
def test_survives_the_death_of_the_engine_in(row: Row, launch: Launch, tell: Tell) -> None:
    env = HANGING_BENCH if row.step == "bench" else {}
    trial = launch(faults={row.step: "pause"}, env=env)
    trial.await_step(row.step)
    trial.kill_engine()
    trial.go_on(row.step)
    seen = replace(row, kind=row.kind and trial.home.killed)
    tell(row.step, "engine killed", check(trial, seen, trial.wait()))


def test_survives_an_engine_that_exits(launch: Launch, tell: Tell) -> None:
    trial = launch("fault=exit_later", "exit_after_s=1.5", env=HANGING_BENCH)
    row = Row("bench", 1, "failed", FailureKind.SERVER_DIED)
    tell("bench", "engine exits", check(trial, row, trial.wait()))


@pytest.mark.parametrize("place", ["docker"], indirect=True)
def test_survives_the_oom_killer(launch: Launch, tell: Tell) -> None:
    """A real one, by the container's memory limit; for a process of this machine `engine killed` is the same."""
    overrides = ("fault=oom_later", "exit_after_s=1.5", "backend.container.memory_gib=0.1")
    trial = launch(*overrides, env=HANGING_BENCH)
    row = Row("bench", 1, "failed", FailureKind.OOM_HOST)
    tell("bench", "engine out of memory", check(trial, row, trial.wait()))
    failure = trial.record.failure if trial.record else None
    assert failure is not None
    assert "killed by the memory limit" in failure.message


@pytest.mark.parametrize("fault", RESISTING)
def test_removes_an_engine_that_resists(fault: str, launch: Launch, tell: Tell) -> None:
    trial = launch(f"fault={fault}")
    tell("teardown", f"engine: {fault}", check(trial, Row("teardown", 0, "ok"), trial.wait()))


@pytest.mark.parametrize("signum", [None, TERM, KILL], ids=ids)
def test_removes_an_orphan_that_an_engine_leaves(signum: signal.Signals | None, launch: Launch, tell: Tell) -> None:
    """Nothing of its own tells whose it is, and its engine has crashed: it must not outlive the trial, or us."""
    trial = paused_bench(launch, "fault=orphan")
    trial.kill_engine()
    if signum:
        trial.strike(signum, group=signum == KILL)
    else:
        trial.go_on("bench")
    rows = {None: Row("bench", 1, "failed", trial.home.killed), TERM: INTERRUPTED}
    row = rows.get(signum) or Row("bench", 0, None, by="keeper")
    ended_by = {None: 0, TERM: 128 + TERM, KILL: -KILL}[signum]
    how = f"orphan, engine killed, then {signum.name if signum else 'the end'}"
    tell("bench", how, check(trial, row, trial.wait(), ended_by=ended_by))


@pytest.mark.parametrize("signum", [INT, KILL], ids=ids)
@pytest.mark.parametrize("fault", RESISTING)
def test_removes_an_engine_that_resists_after(signum: signal.Signals, fault: str, launch: Launch, tell: Tell) -> None:
    trial = paused_bench(launch, f"fault={fault}")
    trial.strike(signum, group=signum == KILL)
    code = trial.wait()
    row = Row("bench", -KILL, None, by="keeper") if signum == KILL else INTERRUPTED
    tell("bench", f"{signum.name}, {fault}", check(trial, row, code, ended_by=0 if signum == KILL else 128 + INT))


@pytest.mark.any_backend
@pytest.mark.parametrize("signum", [None, TERM], ids=["the-end", "SIGTERM"])
def test_survives_the_death_of_its_keeper(signum: signal.Signals | None, launch: Launch, tell: Tell) -> None:
    trial = paused_bench(launch)
    (keeper,) = processes_of(trial.folder, module="pipeline.backends.keeper")
    keeper.kill()
    if signum:
        trial.strike(signum)
    else:
        trial.kill_engine()
        trial.go_on("bench")
    row = INTERRUPTED if signum else Row("bench", 1, "failed", trial.home.killed)
    code, ended_by = trial.wait(), 128 + signum if signum else 0
    tell(
        "bench",
        f"keeper killed, {signum.name if signum else 'then the end'}",
        check(trial, row, code, ended_by=ended_by),
    )


@pytest.mark.any_backend
@pytest.mark.parametrize("signum", [TERM, KILL], ids=ids)
def test_removes_the_server_of_a_folder_that_vanished(signum: signal.Signals, launch: Launch, tell: Tell) -> None:
    trial = paused_bench(launch)
    shutil.rmtree(trial.folder / "out")
    trial.strike(signum)
    code = trial.wait()
    assert trial.remains() == []
    tell("bench", f"{signum.name}, folder deleted", f"exit {code}, nothing left, {trial.reaction_s():.1f} s")
    assert code == (-KILL if signum == KILL else 1)


def test_a_teardown_that_hangs_without_a_keeper_is_named(launch: Launch, tell: Tell) -> None:
    overrides = ("backend.keeper=false", "timeouts.teardown_s=0.5")
    trial = launch(*overrides, faults={"teardown": "hang"})
    code = trial.wait()
    record = trial.record
    assert record is not None
    assert record.teardown is not None
    assert "did not end within 0.5 s" in str(record.teardown.error)
    assert code == 3
    assert len(registered()) == 1
    tell("teardown", "hang, no keeper", "exit 3, named, lease kept for the reaper")
    assert reap() == 0
    assert trial.remains() == []


@pytest.mark.any_backend
def test_an_interrupt_ends_a_whole_sweep(launch: Launch, tell: Tell) -> None:
    trial = paused_bench(launch, "parallel=1,2,3", "-m")
    trial.strike(INT)
    tell("bench", "SIGINT in a sweep", check(trial, INTERRUPTED, trial.wait(), ended_by=128 + INT))
    assert [path.name for path in (trial.folder / "out").iterdir() if path.is_dir()] == ["0"]


@pytest.mark.parametrize("signum", [INT, TERM], ids=ids)
@pytest.mark.parametrize("delay_s", [0.1, 0.8])
def test_a_signal_during_the_imports_leaves_nothing(
    delay_s: float, signum: signal.Signals, tmp_path: Path, tiny_gguf: Path
) -> None:
    argv = [*command(sweep=False), *stub_overrides(tmp_path / "out", tiny_gguf)]
    with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as child:
        time.sleep(delay_s)
        os.kill(child.pid, signum)
    assert child.returncode in {1, -signum, 128 + signum}  # 1: Python itself, while it starts
    assert processes_of(tmp_path) == []
    assert registered() == []


@pytest.mark.parametrize("delay_s", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("signum", [TERM, KILL], ids=ids)
def test_survives_a_signal_at_any_moment(signum: signal.Signals, delay_s: float, launch: Launch, tell: Tell) -> None:
    trial = launch()
    time.sleep(delay_s * trial.home.pace)
    trial.strike(signum)
    code = trial.wait()
    trial.settle()
    tell("any", f"{signum.name} after {delay_s * trial.home.pace:.1f} s", f"exit {code}, {trial.reaction_s():.1f} s")
    assert processes_of(trial.folder) == []
    assert code in {-signum, 128 + signum, 0}
    if signum == TERM:
        assert trial.remains() == []
    else:
        assert reap() == 0
