"""Every step broken in every way on every backend: afterwards nothing is left, and the record or the lease tells."""

import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from pipeline.core.errors import FailureKind
from support.homes import Home
from support.world import Launch, Tell, Trial

INT, TERM, HUP, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL
STEPS = (
    "preflight", "model", "lease", "deploy", "deployed", "health", "warmup",
    "bench", "teardown", "torn_down", "record", "tracker",
)  # fmt: skip
NAMES = {"deployed": "deploy", "torn_down": "teardown"}  # as the record calls them
HELD = ("lease", "teardown", "torn_down", "record")  # steps that run to their end whatever signal comes
HAS_DEADLINE = tuple(step for step in STEPS if step != "bench")  # genai-bench has its own: ..._a_bench_that_hangs
DEADLINES = {
    "preflight": "timeouts.preflight_s=0.7",
    "model": "timeouts.download_s=0.7",
    "deploy": "timeouts.deploy_s={deadline_s}",
    "health": "runtime.health.timeout_s=0.4",
    "warmup": "timeouts.warmup_s=0.7",
    "teardown": "timeouts.teardown_s={deadline_s}",
    "tracker": "tracker.timeout_s=0.7",
}
SHORT = {
    "FILES_TIMEOUT_S": 4.0,
    "HEALTH_GRACE_S": 0.4,
    "WARMUP_GRACE_S": 0.1,
    "TRACKER_LEAST_S": 0.1,
}  # a busy disk takes seconds for two files
HANGING_BENCH = {"STUB_BENCH": "hang"}


@dataclass(frozen=True)
class Row:
    """A case and what it must leave."""

    step: str
    code: int
    status: str | None  # None: no record
    kind: FailureKind | None = None
    by: str | None = "trial"  # who removed the server

    @property
    def failed_step(self) -> str | None:
        return NAMES.get(self.step, self.step) if self.kind else None


def broken_rows(kind: FailureKind) -> Iterator[Row]:
    for step in STEPS:
        by = {"preflight": None, "model": None, "teardown": "keeper"}.get(step, "trial")
        if step == "tracker":
            yield Row(step, 0, "ok")
        elif step in {"teardown", "torn_down"}:
            yield Row(step, 0, "failed", kind, by)  # it was measured: there is a result
        elif step == "record":
            yield Row(step, 1, None)
        else:
            yield Row(step, 1, "failed", kind, by)


EXCEPTIONS = list(broken_rows(FailureKind.INTERNAL))
HANGS = [row for row in broken_rows(FailureKind.STEP_TIMED_OUT) if row.step in HAS_DEADLINE]
SIGNALS = [
    Row(step, 0, "interrupted", FailureKind.INTERRUPTED, None if step in {"preflight", "model"} else "trial")
    for step in STEPS
    if step not in {*HELD, "tracker"}
]
LATE_SIGNALS = [Row(step, 0, "ok") for step in ("teardown", "torn_down", "record", "tracker")]
KEEPER_NEEDED = ("deploy", "deployed", "health", "warmup", "bench", "teardown")
KILLS = [
    Row("preflight", 0, None, by=None),
    Row("model", 0, None, by=None),
    *(Row(step, 0, None, by="keeper") for step in KEEPER_NEEDED),
    Row("torn_down", 0, None),
    Row("record", 0, None),
    Row("tracker", 0, "ok"),
]


def each_signal(rows: Sequence[Row]) -> list[tuple[Row, signal.Signals]]:
    """INT and TERM everywhere; HUP, which goes the same way, here and there."""
    widely = [(row, signum) for row in rows for signum in (INT, TERM)]
    return widely + [(row, HUP) for row in rows if row.step in {"bench", "teardown"}]


def ids(row: object) -> str | None:
    return row.step if isinstance(row, Row) else row.name if isinstance(row, signal.Signals) else None


def check(trial: Trial, row: Row, code: int, *, ended_by: int = 0) -> str:
    """The world, the record and the lease after a case; in words."""
    remains = trial.remains()
    assert remains == []
    reaction = trial.reaction_s()
    assert code == (ended_by or row.code), trial.stderr
    record = trial.record
    assert (record.status if record else None) == row.status
    if record:
        assert (record.failure.step if record.failure else None) == row.failed_step
        assert (record.failure.kind if record.failure else None) == row.kind
    released = trial.lease.released if trial.lease else None
    assert (released.by if released else None) == row.by
    assert released is None or released.is_clean
    if record and record.teardown:
        assert record.teardown.is_clean
    return f"exit {code}, {row.status or 'no record'}, by {row.by or 'nobody'}, {reaction:.1f} s"


@pytest.mark.parametrize("row", EXCEPTIONS, ids=ids)
def test_survives_an_exception_in(row: Row, launch: Launch, tell: Tell) -> None:
    trial = launch(faults={row.step: "raise"})
    tell(row.step, "exception", check(trial, row, trial.wait()))


@pytest.mark.parametrize("row", HANGS, ids=ids)
def test_survives_a_hang_in(row: Row, backend: Home, launch: Launch, tell: Tell) -> None:
    deadline = DEADLINES.get(NAMES.get(row.step, row.step), "timeouts.teardown_s=60")
    trial = launch(deadline.format(deadline_s=backend.deadline_s), faults={row.step: "hang"}, constants=SHORT)
    tell(row.step, "hang", check(trial, row, trial.wait()))


def test_survives_a_bench_that_hangs(launch: Launch, tell: Tell) -> None:
    deadlines = ("traffic.max_time_per_level_s=0.4", "bench.level_grace_s=0.4")
    trial = launch(*deadlines, env=HANGING_BENCH)
    row = Row("bench", 1, "failed", FailureKind.BENCH_ERROR)
    tell("bench", "hang", check(trial, row, trial.wait()))


@pytest.mark.parametrize(("row", "signum"), each_signal(SIGNALS), ids=ids)
def test_survives_a_signal_in(row: Row, signum: signal.Signals, launch: Launch, tell: Tell) -> None:
    trial = launch(faults={row.step: "pause"}, env=HANGING_BENCH if row.step == "bench" else {})
    trial.await_step(row.step)
    trial.strike(signum)
    tell(row.step, signum.name, check(trial, row, trial.wait(), ended_by=128 + signum))


@pytest.mark.parametrize(("row", "signum"), each_signal(LATE_SIGNALS), ids=ids)
def test_a_signal_does_not_break_off(row: Row, signum: signal.Signals, launch: Launch, tell: Tell) -> None:
    trial = launch(faults={row.step: "pause"})
    trial.await_step(row.step)
    trial.strike(signum)
    time.sleep(0.05)
    trial.go_on(row.step)
    tell(row.step, signum.name, check(trial, row, trial.wait(), ended_by=128 + signum))
    record = trial.record
    assert record is not None
    assert record.tracker is not None
    assert record.tracker.kind == FailureKind.INTERRUPTED


@pytest.mark.parametrize("group", [False, True], ids=["us", "our-group"])
@pytest.mark.parametrize("row", KILLS, ids=ids)
def test_survives_a_kill_in(row: Row, group: bool, launch: Launch, tell: Tell) -> None:
    trial = launch(faults={row.step: "pause"}, env=HANGING_BENCH if row.step == "bench" else {})
    trial.await_step(row.step)
    trial.strike(KILL, group=group)
    code = trial.wait()
    tell(row.step, "SIGKILL group" if group else "SIGKILL", check(trial, row, code, ended_by=-KILL))
