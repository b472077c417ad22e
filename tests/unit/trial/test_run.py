"""Whole trials and sweeps through the command line, with a stand-in engine and a stand-in genai-bench."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.errors import FailureKind
from pipeline.core.record import Record
from pipeline.core.values import load
from support.cli import pipeline, stub_overrides
from support.places import ROOT


def test_a_trial_leaves_a_complete_record(tmp_path: Path, tiny_gguf: Path) -> None:
    result = pipeline("parallel=4", folder=tmp_path / "out", gguf=tiny_gguf)
    record = result.record
    assert result.code == 0, result.err
    assert record.status == "ok"
    assert [step.step for step in record.steps] == [
        "preflight", "model", "slots", "lease", "deploy", "health", "settings", "warmup", "bench_start", "bench",
        "teardown", "record", "tracker",
    ]  # fmt: skip
    assert record.objective == {"output_tokens_per_s_per_gpu": 100.0}
    assert record.settings == {"total_slots": 4}
    assert record.teardown is not None
    assert record.teardown.is_clean


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_levels_are_looked_at_on_what_the_trial_has_for_itself(tmp_path: Path, tiny_gguf: Path) -> None:
    own = ("hardware.cores_per_trial=1", "bench.crowded=note")
    record = pipeline(*own, folder=tmp_path / "out", gguf=tiny_gguf).record
    assert record.deployment["cores"]
    looked_at = {level.load.cores for level in record.levels if level.load}  # none where the kernel tells nothing
    assert looked_at <= {1}


def test_a_cache_that_could_not_be_cleared_is_told(tmp_path: Path, tiny_gguf: Path) -> None:
    """The stub knows no /reset_prefix_cache, as vLLM without its development mode."""
    record = pipeline("runtime.cache_reset=vllm_reset", folder=tmp_path / "out", gguf=tiny_gguf).record
    levels = ", ".join(level.name for level in record.levels)
    assert f"warned: the prefix cache was not cleared before {levels}: KeyError" in record.notes


def test_a_sweep_ends_with_a_ranking_against_the_baseline(tmp_path: Path, tiny_gguf: Path) -> None:
    result = pipeline("parallel=null,2,4", folder=tmp_path / "out", gguf=tiny_gguf, sweep=True)
    assert result.code == 0, result.err
    assert [record.is_baseline for record in result.records] == [True, False, False]
    assert "baseline" in result.out
    assert (tmp_path / "out" / "ranking.csv").read_text().count("\n") == 4
    assert (tmp_path / "out" / "best.json").exists()


def test_one_failing_trial_does_not_end_the_sweep(tmp_path: Path, tiny_gguf: Path) -> None:
    result = pipeline("fault=exit_at_start,none", folder=tmp_path / "out", gguf=tiny_gguf, sweep=True)
    assert [record.status for record in result.records] == ["failed", "ok"]
    failure = result.records[0].failure
    assert failure is not None
    assert failure.kind == FailureKind.MODEL_MISSING
    assert "failed to load model" in failure.message
    assert result.code == 0


def test_a_failed_level_keeps_its_neighbour(tmp_path: Path, tiny_gguf: Path) -> None:
    env = {"STUB_BENCH": "all_fail", "STUB_BENCH_AT": "4"}
    record = pipeline(folder=tmp_path / "out", gguf=tiny_gguf, env=env).record
    assert [level.status for level in record.levels] == ["ok", "failed"]
    assert record.levels[1].failure is not None
    assert record.levels[1].failure.message == "0 of 8 requests answered: HTTP 503: Service Unavailable (8)"
    assert record.best_level == "D(48,16) x1"


@pytest.mark.parametrize(
    ("where", "seen"),
    [
        pytest.param(
            "/dev/null/out", "Cannot write the output folder: Not a directory (/dev/null/out/0)", id="no-folder"
        ),
        pytest.param("/proc/out", "Cannot write the output folder: No such file or directory", id="not-writable"),
    ],
)
def test_an_output_folder_that_cannot_be_is_one_clear_error(where: str, seen: str, tiny_gguf: Path) -> None:
    result = pipeline(folder=Path(where), gguf=tiny_gguf)
    assert result.code == 1
    assert seen in result.err
    assert "Traceback" not in result.err


def test_a_full_disk_is_told_before_deploying(tmp_path: Path, tiny_gguf: Path) -> None:
    limit = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
    program = [sys.executable, "-c", limit + "runpy.run_module('pipeline', run_name='__main__', alter_sys=True)"]
    argv = [*program, *stub_overrides(tmp_path / "out", tiny_gguf)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("server.log"))


def test_a_refused_trial_leaves_a_record_and_nothing_else(tmp_path: Path, tiny_gguf: Path) -> None:
    result = pipeline("parallel=13", folder=tmp_path / "out", gguf=tiny_gguf)
    record = result.record
    assert result.code == 1
    assert record.status == "refused"
    assert record.failure is not None
    assert record.failure.kind == FailureKind.UNSUPPORTED_COMBINATION
    assert record.failure.message == "Refused: the stub cannot count to 13: take 12."
    assert [step.step for step in record.steps] == ["preflight", "record", "tracker"]
    assert not list(tmp_path.rglob("server.log"))
    assert not list(tmp_path.rglob("lease.json"))
    assert "refused: unsupported_combination" in result.out


def test_what_a_rule_rewrites_is_measured_once(tmp_path: Path, tiny_gguf: Path) -> None:
    result = pipeline("parallel=3,4", folder=tmp_path / "out", gguf=tiny_gguf, sweep=True)
    first, second = result.records
    assert (first.same_as, second.same_as) == (None, 0)
    assert first.verdict is not None
    assert first.verdict.knobs["parallel"] == 4
    assert first.notes[0] == "rewritten: parallel 3 is odd: the stub rounds it up"
    assert second.levels == first.levels
    assert second.objective == first.objective
    assert not (tmp_path / "out" / "1" / "server.log").exists()
    assert "parallel=3→" in result.out
    assert "as trial 0" in result.out


def test_what_the_engine_rewrites_is_told_and_measured_once(tmp_path: Path, tiny_gguf: Path) -> None:
    result = pipeline("parallel=16,32", folder=tmp_path / "out", gguf=tiny_gguf, sweep=True)
    first, second = result.records
    assert first.rewrites == ()
    assert [(item.knob, item.asked, item.got) for item in second.rewrites] == [("parallel", 32, 16)]
    assert second.same_as == 0
    assert second.levels == first.levels
    assert (tmp_path / "out" / "1" / "server.log").exists()
    assert not (tmp_path / "out" / "1" / "bench").exists()
    assert second.teardown is not None
    assert second.teardown.is_clean
    assert "parallel=32→16" in result.out


def test_a_single_run_is_measured_whatever_lies_beside_its_folder(tmp_path: Path, tiny_gguf: Path) -> None:
    for name in ("a", "b"):
        words = ("parallel=4", f"hydra.run.dir={tmp_path}/{name}")
        result = pipeline(*words, folder=tmp_path / "unused", gguf=tiny_gguf)
        assert result.code == 0, result.err
    record = load(Record, tmp_path / "b" / "0" / "record.json")
    assert (record.status, record.same_as) == ("ok", None)
    assert (tmp_path / "b" / "0" / "bench").exists()


def test_a_failed_trial_is_no_twin(tmp_path: Path, tiny_gguf: Path) -> None:
    result = pipeline("parallel=3,4", "fault=exit_at_start", folder=tmp_path / "out", gguf=tiny_gguf, sweep=True)
    assert [(record.status, record.same_as) for record in result.records] == [("failed", None), ("failed", None)]


def test_a_trial_has_a_limit_as_a_whole_and_keeps_its_levels(tmp_path: Path, tiny_gguf: Path) -> None:
    out = tmp_path / "out"
    over = "from pathlib import Path; from pipeline.config import trial_limit\n"  # when the second level is under way
    over += f"trial_limit.of = lambda _: 0.5 if [*Path({str(out)!r}).glob('0/bench/*/4')] else 1e6\n"
    over += "import runpy; runpy.run_module('pipeline', run_name='__main__', alter_sys=True)"
    argv = [sys.executable, "-c", over, *stub_overrides(out, tiny_gguf), "timeouts.trial_s=39"]
    env = {**os.environ, "STUB_BENCH": "hang", "STUB_BENCH_AT": "4"}
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    record = load(Record, out / "0" / "record.json")
    assert record.failure is not None
    assert (record.failure.step, record.failure.kind) == ("bench", FailureKind.STEP_TIMED_OUT)
    assert record.failure.message.startswith("The trial did not end within 0.5 s (timeouts.trial_s; ")
    assert [level.status for level in record.levels] == ["ok", "failed"]
    assert record.levels[0].metrics is not None
    assert record.teardown is not None
    assert record.teardown.is_clean
    assert done.stderr.startswith("warned: timeouts.trial_s=39, but the levels may take ")
    assert any("timeouts.trial_s=39" in note for note in record.notes)
