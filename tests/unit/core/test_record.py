"""The files of a run: their names, how they are written, and what is refused before a trial begins."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core import disk, errors
from pipeline.core.errors import ConfigError, DiskFull, FailureKind, Interrupted, PreflightFailed, Stopped
from pipeline.core.files import RunDir, SweepDir, claim, save, write_atomically
from pipeline.core.record import Record, Timings, failure
from pipeline.core.values import parse, plain
from support import genai
from support.records import make_record

SCENARIOS = ["D(64,16)", "D(3000,300)", "N(200,100)/(120,60)", "U(10,20)/(30,50)", "U(100,200)"]


def test_a_run_directory_names_every_file() -> None:
    run = RunDir(Path("/runs/s/3"))
    named = [run.config, run.lease, run.plan, run.server_log, run.keeper_log, run.pipeline_log, run.metrics, run.record]
    assert [path.name for path in named] == [
        "config.json", "lease.json", "plan.json", "server.log", "keeper.log", "pipeline.log", "metrics.json",
        "record.json",
    ]  # fmt: skip
    assert {path.parent for path in named} == {run.path}
    assert run.level("D(64,16)", 4) == Path("/runs/s/3/bench/D64_16/4")


def test_scenarios_are_spelled_as_genai_bench_spells_them() -> None:
    run = RunDir(Path("/runs/s/3"))
    assert [run.level(scenario, 1).parent.name for scenario in SCENARIOS] == genai.sanitized(SCENARIOS)


def test_a_sweep_directory_finds_its_records(tmp_path: Path) -> None:
    for number in (1, 0):
        (tmp_path / str(number)).mkdir()
        save(RunDir(tmp_path / str(number)).record, make_record(number=number))
    (tmp_path / "2").mkdir()
    assert SweepDir(tmp_path).records == (tmp_path / "0/record.json", tmp_path / "1/record.json")


def test_writing_replaces_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("a longer old text")
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \udcff")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


LIMITED = """
import resource, sys
from pathlib import Path
from pipeline.core.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_atomically(Path(sys.argv[1]), "x" * 100_000)
except OSError as error:
    sys.exit(f"refused: {error.strerror}")
"""


def test_a_disk_that_takes_no_more_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=False)
    assert "refused: File too large" in done.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_claimed_by_making_it(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "a" / "b")
    claim(run)
    assert list(run.path.iterdir()) == []


@pytest.mark.parametrize("name", ["record.json", "lease.json"])
def test_a_folder_that_holds_a_trial_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(PreflightFailed, match="already contains a trial"):
        claim(RunDir(tmp_path))
    assert (tmp_path / name).read_text() == "{}"


@pytest.mark.parametrize(
    ("where", "words"),
    [("file", "File exists"), ("file/below", "Not a directory"), ("x" * 300, "File name too long")],
    ids=["a-file", "below-a-file", "no-name-for-a-folder"],
)
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, where: str, words: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PreflightFailed, match=f"Cannot write to the run directory .*: {words}") as caught:
        claim(RunDir(tmp_path / where))
    assert "hydra.run.dir=" in caught.value.hint


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "MINIMUM_FREE_BYTES", 2**62)
    with pytest.raises(DiskFull, match=r"is full: [\d.]+ MB free; a trial needs 4611686018427 MB"):
        claim(RunDir(tmp_path))


ERRORS = [
    error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.PipelineError)
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_an_error_of_ours_keeps_its_kind_and_hint(error: type[errors.PipelineError]) -> None:
    found = failure("deploy", error("it broke"))
    assert (found.step, found.kind, found.message, found.hint) == ("deploy", error.kind, "it broke", error.hint)
    assert found.hint.endswith((".", "`.", "reap"))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ValueError("no such thing"), FailureKind.INTERNAL, "ValueError: no such thing"),
        (ConfigError("x", kind=FailureKind.BAD_FLAG, hint="y"), FailureKind.BAD_FLAG, "x"),
        (Interrupted(15), FailureKind.INTERRUPTED, "stopped by SIGTERM"),
        (KeyboardInterrupt(), FailureKind.INTERRUPTED, "stopped by KeyboardInterrupt"),
        (Stopped(), FailureKind.STOPPED, "stopped by servetune stop"),
    ],
    ids=["not-ours", "kind-of-its-own", "signal", "ctrl-c", "this-trial-alone"],
)
def test_every_error_becomes_a_failure(error: BaseException, kind: FailureKind, words: str) -> None:
    found = failure("bench", error)
    assert (found.kind, found.message) == (kind, words)


def test_timings_tell_what_each_step_took() -> None:
    timings = Timings()
    timings.add("deploy", 0.123456, failed=False)
    timings.add("health", 1.0, failed=True)
    assert [(step.step, step.seconds, step.status) for step in timings.done] == [
        ("deploy", 0.1235, "ok"), ("health", 1.0, "failed"),
    ]  # fmt: skip


def test_a_record_from_before_the_engine_and_its_hardware_were_asked_is_read() -> None:
    made = make_record()
    data = plain(made)
    for level in data["levels"]:
        del level["engine_metrics"], level["hardware"]
        for name in ("cached_tokens_mean", "joules_per_output_token", "tokens_per_s_per_watt"):
            del level["metrics"][name]
    del data["config"]["runtime"]["tells"]["metrics"], data["config"]["runtime"]["relief"], data["advice"]
    assert parse(Record, data) == made
