"""What every tracker of conf/tracker/ does with every kind of record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from parts.wandb_runs import artifact, history, summary
from pipeline.core.advice import Advice
from pipeline.core.errors import FailureKind
from pipeline.core.files import RunDir, SweepDir, save
from pipeline.core.quality import Agreement, Judgement
from pipeline.core.record import EngineMetrics, GpuUse, HardwareUse, Record
from pipeline.core.redact import Secrets
from pipeline.core.schema import Tracker
from pipeline.core.values import parse
from pipeline.report.publication import result_of
from pipeline.trackers import close, load, mlflow_content
from support.records import make_failed_record, make_failure, make_levels, make_record

Series = dict[tuple[str, int], Any]  # by name and users
TRACKERS = sorted((Path(__file__).parents[2] / "conf" / "tracker").glob("*.yaml"))
INTERRUPTED = make_failure(kind=FailureKind.INTERRUPTED, message="stopped by SIGTERM")
RECORDS = (
    make_record(),
    make_failed_record(),
    make_record(status="interrupted", failure=INTERRUPTED, objective=None, best_level=None),
)


@pytest.fixture(params=TRACKERS, ids=lambda path: path.stem)
def config(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    monkeypatch.setenv("WANDB_MODE", "offline")
    given = {**yaml.safe_load(request.param.read_text()), "timeout_s": 600}  # a busy machine may take long
    return parse(Tracker, given)


def test_takes_every_record_quietly_and_leaves_no_process(
    config: Tracker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = set(psutil.Process().children(recursive=True))
    for number, record in enumerate(RECORDS):
        run_dir = RunDir(tmp_path / "sweep" / str(number))
        run_dir.path.mkdir(parents=True)
        save(run_dir.record, record)
        where = load(config.target).publish(record, config, run_dir)
        assert where is None or Path(where).is_dir()
    load(config.target).publish_sweep(result_of(RECORDS), config, SweepDir(tmp_path / "sweep"))
    close()
    assert set(psutil.Process().children(recursive=True)) <= before
    assert capfd.readouterr() == ("", "")


def test_says_where_records_will_go_and_starts_nothing(config: Tracker) -> None:
    before = set(psutil.Process().children(recursive=True))
    assert load(config.target).outlook(config)
    assert set(psutil.Process().children(recursive=True)) <= before


def by_wandb(record: Record, run_dir: RunDir, where: str | None) -> tuple[Series, dict[str, Any], set[str]]:
    run = Path(str(where))
    series = {
        (name, row["concurrency"]): number
        for row in history(run)
        if "concurrency" in row
        for name, number in row.items()
    }
    return series, summary(run), {entry.path for entry in artifact(run, "trial").manifest.contents}


def by_mlflow(record: Record, run_dir: RunDir, _where: str | None) -> tuple[Series, dict[str, Any], set[str]]:
    """As it is sent to MLflow's server, which is not here: tests/live/trackers has it."""
    made = mlflow_content.of_trial(record, run_dir, Secrets({}))
    series = {(one.name.replace("D64_16", "D(64,16)"), one.step): one.number for one in made.points if one.step}
    single = {one.name: one.number for one in made.points if not one.step}
    return series, {**made.tags, **single}, {name for _, name in made.files}


READERS = {"wandb": by_wandb, "mlflow": by_mlflow}


@pytest.mark.parametrize("config", [each for each in TRACKERS if each.stem != "none"], indirect=True)
def test_what_engine_and_hardware_say_is_a_series_over_users_and_a_summary(config: Tracker, tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "sweep" / "7")
    folder = run_dir.bench / "D64_16" / "2"
    folder.mkdir(parents=True)
    (folder / "engine_metrics.json").write_text('{"columns": ["at_s"], "rows": []}')
    told = EngineMetrics(samples=3, kv_use_max=0.5, waiting_mean=0.0, prefix_hit_rate=0.25, prefix_hits_by="engine")
    power = HardwareUse(samples=3, gpus=(GpuUse(index=0, utilisation=0.75, memory_used_mib=900),), power_w=300.0)
    levels = tuple(
        replace(level, engine_metrics=replace(told, queue_mean_s=level.concurrency / 10), hardware=power)
        for level in make_levels()
    )
    advice = Advice(limit="queue", level="D(64,16) x2", because="2 of 4 requests waited")
    record = make_record(levels=levels, best_level="D(64,16) x2", advice=advice)
    save(run_dir.record, record)
    where = load(config.target).publish(record, config, run_dir)
    close()
    series, single, files = READERS[config.name](record, run_dir, where)
    assert series["D(64,16)/engine_queue_mean_s", 1] == pytest.approx(0.1)
    assert series["D(64,16)/engine_queue_mean_s", 2] == pytest.approx(0.2)
    assert series["D(64,16)/engine_prefix_hit_rate", 2] == pytest.approx(0.25)
    assert series["D(64,16)/engine_waiting_mean", 1] == 0
    assert series["D(64,16)/gpu_utilisation_mean", 2] == pytest.approx(0.75)
    assert (single["best/engine_kv_use_max"], single["best/power_w"]) == (0.5, 300.0)
    assert single["best/gpu_memory_used_mib_max"] == 900
    assert str(single["advice"]).startswith("Advice: D(64,16) x2 is limited by")
    assert not any("samples" in name for name, _ in series)
    assert "bench/D64_16/2/engine_metrics.json" in files


def test_publishes_without_a_record_on_disk(config: Tracker, tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "sweep" / "7")
    load(config.target).publish(make_failed_record(), config, run_dir)
    close()


@pytest.mark.parametrize("config", [each for each in TRACKERS if each.stem != "none"], indirect=True)
def test_what_the_quality_guard_says_is_in_a_trials_summary_as_in_its_record(config: Tracker, tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "sweep" / "7")
    run_dir.path.mkdir(parents=True)
    seen = Agreement(way="teacher-forced", alike=93, compared=100, parts=6)
    judged = Judgement(word="differs", agreement=seen, floor=replace(seen, alike=100))
    record = make_record(quality=judged)
    save(run_dir.record, record)
    where = load(config.target).publish(record, config, run_dir)
    close()
    _, single, _ = READERS[config.name](record, run_dir, where)
    told = json.loads(run_dir.record.read_text())["quality"]
    assert single["quality"] == told["word"] == "differs"
    assert single["quality_told"] == "differs (93.0% of 100 tokens, floor 100%, teacher-forced)"
    assert (single["quality_agreement"], single["quality_floor"]) == (0.93, 1.0)
