"""Whole trials and sweeps through the command line, with a stand-in engine and a stand-in genai-bench."""

from pathlib import Path

from cli import pipeline

from pipeline.errors import FailureKind


def test_a_trial_leaves_a_complete_record(tmp_path: Path, tiny_gguf: Path) -> None:
    result = pipeline("parallel=4", folder=tmp_path / "out", gguf=tiny_gguf)
    record = result.record
    assert result.code == 0, result.err
    assert record.status == "ok"
    assert [step.step for step in record.steps] == [
        "preflight", "lease", "deploy", "health", "warmup", "bench", "teardown", "record", "tracker",
    ]  # fmt: skip
    assert record.objective == {"output_tokens_per_s_per_gpu": 100.0}
    assert record.settings == {"total_slots": 4}
    assert record.teardown is not None
    assert record.teardown.is_clean


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
    assert record.levels[1].failure.message == "0 of 8 requests answered, HTTP 503 (8)"
    assert record.best_level == "D(48,16) x1"
