"""What other processes and the GPUs did meanwhile, on a played /proc and a stand-in for NVML."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from parts.nvml import Machine
from pipeline.core.record import Load
from pipeline.machine import gpu_state, load, process
from pipeline.machine.load import Scope
from pipeline.machine.proc import System

HZ = os.sysconf("SC_CLK_TCK")
US, ENGINE, WORKER, STRANGER = os.getpid(), 20, 21, 5_000_000  # more than any kernel counts to
SECONDS = 10.0
Ticks = tuple[int, int, int, int]  # own user and system time, and of children that were waited for
Usage = Mapping[int, tuple[int, Ticks]]  # by pid: parent, ticks


class Played(System):
    """A machine of files. Its processes: parent and CPU seconds; its cores: busy seconds."""

    def show(
        self, seconds: float, busy: Mapping[int, float], processes: Mapping[int, tuple[int, float]], **more: int
    ) -> None:
        for folder in self.proc.glob("[0-9]*"):
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
        lines = ["cpu  0 0 0 0 0 0 0 0 0 0"]
        for core, used in busy.items():
            busy_ticks, stolen, waited = (
                round(HZ * each) for each in (used, more.get("stolen", 0), more.get("waited", 0))
            )
            idle = round(HZ * seconds) - busy_ticks - stolen - waited
            lines.append(f"cpu{core} {busy_ticks} 0 0 {idle} {waited} 0 0 {stolen} 0 0")
        (self.proc / "stat").write_text("\n".join([*lines, "intr 1 2 3"]))
        for pid, (parent, used) in processes.items():
            self.add(pid, parent, used)

    def add(self, pid: int, parent: int, used: float, **files: str) -> None:
        folder = self.proc / str(pid)
        folder.mkdir(exist_ok=True)
        zeros = "0 " * 9
        (folder / "stat").write_text(
            f"{pid} (a (b) c) S {parent} {zeros}{round(HZ * used)} 0 0 0 0 0 1 0 {7 + pid} 0 0"
        )
        for name, text in files.items():
            (folder / name).write_text(text)


@pytest.fixture
def played(tmp_path: Path) -> Played:
    (tmp_path / "proc").mkdir()
    return Played(proc=tmp_path / "proc", cgroup=tmp_path / "cgroup")


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})


def seen(
    played: Played, scope: Scope, before: Callable[[], None], after: Callable[[], None], **more: float | None
) -> Load | None:
    """The load between two moments, ten seconds apart."""
    before()
    first = load.read(scope, played)
    after()
    last = replace(load.read(scope, played), at_s=first.at_s + SECONDS)
    found = load.between(scope, first, last, usable=load.usable(scope, last), quota=more.get("quota"))
    return found if found is None or more.get("whole") else replace(found, engine_cores=None, busiest_cores=None)


def simple(
    played: Played, scope: Scope, busy: Mapping[int, float], used: Mapping[int, tuple[int, float]], **more: int
) -> Load | None:
    """From a machine that has done nothing yet."""
    return seen(
        played,
        scope,
        lambda: played.show(0, dict.fromkeys(busy, 0.0), {pid: (parent, 0.0) for pid, (parent, _) in used.items()}),
        lambda: played.show(SECONDS, busy, used, **more),
    )


LOCAL = Scope(pid=ENGINE)
QUIET = {1: (0, 0.0), US: (1, 3.0), ENGINE: (US, 10.0), WORKER: (ENGINE, 4.0)}


def test_what_is_neither_the_engines_nor_ours_is_others(played: Played) -> None:
    found = simple(played, LOCAL, {0: 10, 1: 10}, {**QUIET, STRANGER: (1, 3.0)})
    assert found == Load(cores=2, others_cores=0.3, is_crowded=True)


def test_the_engines_cores_are_those_of_all_its_processes_and_of_the_busiest(played: Played) -> None:
    used = {1: (0, 0.0), US: (1, 2.0), ENGINE: (US, 3.0), WORKER: (ENGINE, 9.0)}
    idle = lambda: played.show(0, {0: 0, 1: 0}, {pid: (parent, 0.0) for pid, (parent, _) in used.items()})  # noqa: E731
    found = seen(played, LOCAL, idle, lambda: played.show(SECONDS, {0: 10, 1: 4}, used), whole=1)
    assert found is not None
    assert (found.engine_cores, found.busiest_cores) == (1.2, 0.9)


@pytest.mark.parametrize(("busy", "is_crowded"), [(18.9, False), (19.1, True)])
def test_above_ten_percent_of_the_cores_it_is_crowded(played: Played, busy: float, is_crowded: bool) -> None:
    found = simple(played, LOCAL, {0: 9, 1: busy - 9}, QUIET)
    assert found is not None
    assert found.is_crowded == is_crowded
    assert load.crowded(found) == is_crowded


def test_a_disk_that_is_waited_for_is_idle_and_stolen_time_is_others(played: Played) -> None:
    waited = simple(played, LOCAL, {0: 8.5, 1: 8.5}, QUIET, waited=1)
    assert waited is not None
    assert waited.others_cores == 0
    stolen = simple(played, LOCAL, {0: 8.5, 1: 8.5}, QUIET, stolen=1)
    assert stolen is not None
    assert stolen.others_cores == pytest.approx(0.2)


def test_a_child_that_ended_is_its_parents(played: Played) -> None:
    """genai-bench is a child of ours for a level; a worker of the engine may end as well."""
    found = seen(
        played,
        LOCAL,
        lambda: played.show(0, {0: 0, 1: 0}, {1: (0, 0), US: (1, 1), ENGINE: (US, 5), WORKER: (ENGINE, 50)}),
        lambda: played.show(SECONDS, {0: 10, 1: 5}, {1: (0, 0), US: (1, 6), ENGINE: (US, 5 + 50 + 10)}),
    )
    assert found == Load(cores=2, others_cores=0, is_crowded=False)


def test_a_process_that_nobody_waited_for_counts_as_others(played: Played) -> None:
    found = seen(
        played,
        LOCAL,
        lambda: played.show(0, {0: 0, 1: 0}, {1: (0, 0), US: (1, 0), ENGINE: (1, 500), WORKER: (ENGINE, 50)}),
        lambda: played.show(SECONDS, {0: 10, 1: 5}, {1: (0, 0), US: (1, 5), WORKER: (1, 55)}),
    )
    assert found is None or found.others_cores == pytest.approx(1.0)


def test_a_new_process_with_an_old_number_is_another_one(played: Played) -> None:
    found = seen(
        played,
        LOCAL,
        lambda: played.show(0, {0: 0, 1: 0}, {1: (0, 0), US: (1, 0), ENGINE: (US, 0), STRANGER: (1, 40)}),
        lambda: played.show(SECONDS, {0: 10, 1: 0}, {1: (0, 0), US: (1, 2), ENGINE: (US, 2), STRANGER: (US, 46)}),
    )
    assert found is not None
    assert found.others_cores == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("scope", "files"),
    [
        pytest.param(Scope(label="a-1"), {"environ": f"X=1\0{process.LABEL}=a-1\0"}, id="label"),
        pytest.param(Scope(container="c0ffee"), {"cgroup": "0::/system.slice/docker-c0ffee.scope\n"}, id="container"),
    ],
)
def test_an_engine_that_is_no_child_of_ours_is_found(played: Played, scope: Scope, files: dict[str, str]) -> None:
    def show(seconds: float, busy: float, used: float) -> None:
        played.show(seconds, {0: busy, 1: busy}, {1: (0, 0), US: (1, 0), STRANGER: (1, 0)})
        played.add(ENGINE, 1, used, **files)
        played.add(WORKER, ENGINE, used)

    found = seen(played, scope, lambda: show(0, 0, 0), lambda: show(SECONDS, 8, 8))
    assert found == Load(cores=2, others_cores=0, is_crowded=False)


def test_nothing_is_claimed_of_an_engine_that_cannot_be_seen(played: Played) -> None:
    assert simple(played, Scope(container="c0ffee"), {0: 9, 1: 9}, {1: (0, 0.0), US: (1, 3.0)}) is None


def test_nothing_is_claimed_where_the_kernel_does_not_tell(played: Played) -> None:
    def frozen() -> None:
        played.show(0, {0: 0, 1: 0}, QUIET)

    assert seen(played, LOCAL, frozen, frozen) is None
    (played.proc / "stat").unlink()
    assert load.begin(LOCAL, played).end() is None


def test_only_the_trials_own_cores_count(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3})
    used = {1: (0, 0.0), US: (1, 4.0), ENGINE: (US, 8.0)}
    found = simple(played, replace(LOCAL, cores=(0, 1)), {0: 5, 1: 5, 2: 10, 3: 10}, used)
    assert found == Load(cores=2, others_cores=0, is_crowded=False)  # half of our own time is expected on them


def test_within_a_quota_others_may_use_the_rest(played: Played) -> None:
    used = {1: (0, 0.0), US: (1, 2.0), ENGINE: (US, 8.0), STRANGER: (1, 5.0)}
    idle = lambda: played.show(0, {0: 0, 1: 0}, {pid: (parent, 0.0) for pid, (parent, _) in used.items()})  # noqa: E731
    found = seen(played, LOCAL, idle, lambda: played.show(SECONDS, {0: 10, 1: 5}, used), quota=1.0)
    assert found == Load(cores=1, others_cores=0, is_crowded=False)


@pytest.mark.parametrize(
    ("group", "files", "quota"),
    [
        ("0::/a/b\n", {"a/cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2.0),
        ("0::/\n", {"cpu.max": "50000 100000"}, 0.5),
        (
            "4:memory:/m\n1:cpu,cpuacct:/c\n",
            {"cpu/c/cpu.cfs_quota_us": "300000", "cpu/c/cpu.cfs_period_us": "100000"},
            3.0,
        ),
        ("1:cpu:/c\n", {"cpu/c/cpu.cfs_quota_us": "-1", "cpu/c/cpu.cfs_period_us": "100000"}, None),
        ("0::/a\n", {}, None),
    ],
)
def test_the_quota_of_a_control_group(played: Played, group: str, files: dict[str, str], quota: float | None) -> None:
    (played.proc / "self").mkdir()
    (played.proc / "self" / "cgroup").write_text(group)
    for name, text in files.items():
        path = played.cgroup / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert played.quota() == quota


@pytest.mark.skipif(not System().cores(), reason="this kernel does not tell")
def test_the_real_machine_knows_its_own_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that keeps a core busy is ours; as somebody else's it would be a load of half a core or more."""
    monkeypatch.undo()
    with subprocess.Popen([sys.executable, "-c", "import sys\nwhile True: pass"]) as busy:
        scope = Scope(pid=busy.pid)
        first = load.read(scope, System())
        process.wait_until(lambda: False, timeout_s=1.0)
        last = load.read(scope, System())
        busy.kill()
    tree = {*first.engine, *last.engine}
    assert tree == {busy.pid}
    assert last.table[busy.pid].ticks > first.table[busy.pid].ticks
    assert {US} <= {*last.ours}


GPU = Scope(pid=ENGINE, gpu_ids=("0",))
HEAT, POWER = 0x20, 0x4
NOTHING = ("", False)
ANOTHER = f"process {STRANGER} (?) computes on GPU 0 as well"


def strained(played: Played, machine: Machine, before: dict[str, object], after: dict[str, object]) -> Load:
    """A level on GPU 0 of two, on a quiet machine."""
    none = {pid: (parent, 0.0) for pid, (parent, _) in QUIET.items()}

    def at(seconds: float, busy: float, used: Mapping[int, tuple[int, float]], gpu: dict[str, object]) -> None:
        played.show(seconds, {0: busy, 1: busy}, {**used, STRANGER: (1, 0)})
        machine.has(2, gpu)

    found = seen(played, GPU, lambda: at(0, 0, none, before), lambda: at(SECONDS, 8.5, QUIET, after))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param({}, {}, NOTHING, id="nothing"),
        pytest.param({"processes": {ENGINE: 9}}, {"processes": {WORKER: 9}}, NOTHING, id="the engine's own"),
        pytest.param({}, {"processes": {STRANGER: 9}}, (ANOTHER, True), id="another"),
        pytest.param({}, {"processes": {4242: 9}}, NOTHING, id="a process that cannot be seen may be the engine's"),
        pytest.param({}, {"reasons": HEAT}, ("GPU 0 was slowed down by heat", True), id="hot at the end"),
        pytest.param({}, {"reasons": POWER}, ("GPU 0 was slowed down by power cap", False), id="at its power cap"),
        pytest.param(
            {"slowed_ns": {"1": 0}}, {"slowed_ns": {"1": 5 * 10**9}},
            ("GPU 0 was slowed down by heat for 50% of the time", True), id="hot for half of the time",
        ),
        pytest.param({"slowed_ns": {"1": 9}}, {"slowed_ns": {"1": 9}, "reasons": HEAT}, NOTHING, id="hot before"),
        pytest.param({}, {"clock_mhz": 1200}, ("GPU 0 ran at 1200 of 1980 MHz at the end", False), id="slow"),
        pytest.param({}, {"clock_mhz": 210, "reasons": 1}, NOTHING, id="idle"),
    ],
)  # fmt: skip
def test_what_becomes_of_the_gpus(
    played: Played, machine: Machine, before: dict[str, object], after: dict[str, object], told: tuple[str, bool]
) -> None:
    found = strained(played, machine, before, after)
    assert ("; ".join(found.notes), found.is_crowded) == told


def test_other_trials_gpus_do_not_matter(played: Played, machine: Machine) -> None:
    machine.has(2, {}, {"reasons": HEAT, "processes": {str(STRANGER): 5}})
    assert [one.index for one in gpu_state.read(("0",))] == [0]
    assert gpu_state.read(()) == ()


def test_without_nvml_nothing_is_said_of_gpus() -> None:
    assert gpu_state.read(("0",)) == ()
