"""Levels that others disturbed are measured once more."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.core.errors import FailureKind, StepTimedOut
from pipeline.core.record import Failure, Level, Load
from pipeline.trial import quiet
from support.cli import pipeline
from support.records import make_metrics

QUIET = Load(cores=2, others_cores=0.1, is_crowded=False)
BUSY = Load(cores=2, others_cores=1.3, is_crowded=True)
BUSIER = Load(cores=2, others_cores=1.7, is_crowded=True)
HOT = Load(cores=2, others_cores=0.0, is_crowded=True, notes=("GPU 0 was slowed down by heat",))
TWICE = "measured twice, the quieter kept"


class World:
    """Measures in a folder, on a machine that does what was told."""

    def __init__(
        self, folder: Path, loads: Sequence[Load | None], failing: Sequence[int] = (), late: int | None = None
    ) -> None:
        self.folder, self.loads, self.failing, self.late = folder, list(loads), failing, late
        self.count = 0

    def measure(self) -> Level:
        self.count += 1
        self.folder.mkdir(parents=True)  # a result of before would be in the way
        (self.folder / "result").write_text(str(self.count))
        if self.count == self.late:
            raise StepTimedOut("The trial did not end within 9 s (timeouts.trial_s).")
        if self.count in self.failing:
            why = Failure(step="bench", kind=FailureKind.BENCH_ERROR, message="no", hint="")
            return Level(scenario="D(1,1)", concurrency=4, status="failed", failure=why)
        return Level(scenario="D(1,1)", concurrency=4, status="ok", metrics=make_metrics(), elapsed_s=self.count)

    def run(self, *, may_repeat: bool = True) -> Level:
        told = iter(self.loads)
        return quiet.measure_quietly(
            self.measure, lambda: lambda: next(told), folder=self.folder, may_repeat=lambda: may_repeat
        )

    @property
    def kept(self) -> str:
        return (self.folder / "result").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bench" / "D1_1" / "4"


@pytest.mark.parametrize("load", [QUIET, None], ids=["quiet", "unknown"])
def test_a_quiet_level_is_measured_once(folder: Path, load: Load | None) -> None:
    world = World(folder, [load])
    level = world.run()
    assert (level.load, level.times_measured, level.warnings, world.count) == (load, 1, (), 1)


@pytest.mark.parametrize(
    ("loads", "kept", "words"),
    [
        ((BUSY, QUIET), 2, f"crowded at first: other processes used 1.3 of 2 cores; {TWICE}"),
        ((BUSY, BUSIER), 1, f"crowded: other processes used 1.3 of 2 cores; {TWICE}"),
        ((BUSIER, BUSY), 2, f"crowded: other processes used 1.3 of 2 cores; {TWICE}"),
        ((HOT, QUIET), 2, f"crowded at first: other processes used 0.0 of 2 cores; {HOT.notes[0]}; {TWICE}"),
        ((BUSY, None), 1, f"crowded: other processes used 1.3 of 2 cores; {TWICE}"),
    ],
    ids=["quiet then", "busier then", "less busy then", "cool then", "unknown then"],
)
def test_the_quieter_of_two_is_kept(folder: Path, loads: Sequence[Load | None], kept: int, words: str) -> None:
    world = World(folder, loads)
    level = world.run()
    assert (world.count, level.times_measured, level.elapsed_s) == (2, 2, kept)
    assert level.load == loads[kept - 1]
    assert level.warnings == (words,)
    assert world.kept == str(kept)
    assert (folder.with_name("4~1") / "result").read_text() == str(3 - kept)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["4", "4~1"]


def test_a_second_time_that_failed_does_not_count(folder: Path) -> None:
    world = World(folder, [BUSY, QUIET], failing=[2])
    level = world.run()
    assert (level.status, level.elapsed_s, level.times_measured, world.kept) == ("ok", 1, 2, "1")


def test_what_was_measured_is_kept_when_the_trials_time_ends_the_second(folder: Path) -> None:
    world = World(folder, [BUSY], late=2)
    level = world.run()
    assert (level.status, level.elapsed_s, level.times_measured, world.kept) == ("ok", 1, 1, "1")
    words = "crowded: other processes used 1.3 of 2 cores; measured once, because the trial's time was over"
    assert level.warnings == (words,)


def test_a_level_that_failed_is_not_repeated(folder: Path) -> None:
    world = World(folder, [BUSY], failing=[1])
    assert (world.run().status, world.count) == ("failed", 1)


def test_a_level_that_may_not_be_repeated_says_that_it_was_crowded(folder: Path) -> None:
    level = World(folder, [BUSY]).run(may_repeat=False)
    assert level.warnings == ("crowded: other processes used 1.3 of 2 cores; measured once",)
    assert level.times_measured == 1


@pytest.mark.parametrize(("asked", "is_watched"), [("note", True), ("ignore", False)])
def test_a_trial_tells_what_the_machine_did(tmp_path: Path, tiny_gguf: Path, asked: str, is_watched: bool) -> None:
    result = pipeline("parallel=4", f"bench.crowded={asked}", folder=tmp_path / "out", gguf=tiny_gguf)
    assert result.code == 0, result.err
    for level in result.record.levels:
        assert (level.load is not None) == is_watched
        assert level.times_measured == 1
        assert any(words.startswith("crowded") for words in level.warnings) == bool(
            level.load and level.load.is_crowded
        )
