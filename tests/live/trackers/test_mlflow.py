"""MLflow's own server, with a sweep in it: parents, children, series, files, and what was sent late."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parts.mlflow_server import Server, serving
from pipeline import sync
from pipeline.core.evaluation import FOLDER, Change, Evaluated
from pipeline.core.files import SweepDir, save
from pipeline.core.quality import Agreement, Judgement
from pipeline.core.record import Record
from pipeline.core.schema import Tracker
from pipeline.report import evaluated
from pipeline.report.publication import result_of
from pipeline.trackers.mlflow import MLflow
from support.cli import pipeline
from support.records import make_failed_record, make_record

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]
TARGET = "pipeline.trackers.mlflow.MLflow"
TOKEN = "hunter2-hunter2-hunter2"  # noqa: S105 - no password of anybody
PARENT = "mlflow.parentRunId"


@pytest.fixture(scope="module")
def server(needs: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    needs("mlflow", "flask")
    with serving(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture
def tracker(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[MLflow]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("MY_TOKEN", TOKEN)
    made = MLflow()
    yield made
    made.close()


def config(experiment: str) -> Tracker:
    return Tracker(name="mlflow", target=TARGET, project=experiment, mode="auto", timeout_s=120)


def records(experiment: str) -> list[Record]:
    """A baseline, a better one, a failure; a secret in a file and in an override."""
    made = [make_record(number=0), make_record(number=1, overrides=(f"x={TOKEN}",)), make_failed_record(number=2)]
    return [replace(one, config=replace(one.config, tracker=config(experiment))) for one in made]


def publish(tracker: MLflow, sweep: SweepDir, found: list[Record]) -> list[str | None]:
    where = []
    for record in found:
        run_dir = sweep.trial(record.number)
        run_dir.path.mkdir(parents=True, exist_ok=True)
        save(run_dir.record, record)
        run_dir.server_log.write_text(f"started with {TOKEN}\n")
        where.append(tracker.publish(record, record.config.tracker, run_dir))
    return where


def parted(server: Server, experiment: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The sweep's own run, and its children by number."""
    runs = server.runs(experiment)
    (parent,) = [run for run in runs if PARENT not in run["tags"]]
    children = [run for run in runs if run["tags"].get(PARENT) == parent["id"]]
    assert len(children) == len(runs) - 1
    return parent, sorted(children, key=lambda run: int(run["params"]["number"]))


def test_a_sweep_is_a_run_with_a_child_for_each_trial(server: Server, tracker: MLflow, tmp_path: Path) -> None:
    sweep, found = SweepDir(tmp_path / "sweep"), records("whole")
    where = publish(tracker, sweep, found)
    lines = tracker.publish_sweep(result_of(found), config("whole"), sweep)
    parent, children = parted(server, "whole")
    experiment = parent["info"]["experiment_id"]
    assert where == [f"{server.url}/#/experiments/{experiment}/runs/{child['id']}" for child in children]
    assert lines == (f"MLflow: {server.url}/#/experiments/{experiment}/runs/{parent['id']}",)
    assert [child["status"] for child in children] == ["FINISHED", "FINISHED", "FAILED"]
    assert parent["name"] == "sweep sweep"
    assert parent["metrics"]["trials_total"] == 3
    assert parent["tags"]["mlflow.note.content"]
    first, seen = found[0], children[0]
    assert seen["params"]["runtime"] == first.config.runtime.name
    assert seen["metrics"].items() >= (first.objective or {}).items()
    assert children[2]["tags"]["failure_kind"] == "server_died"
    level = next(level for level in first.levels if level.metrics)
    assert level.metrics is not None
    name = f"{level.scenario.translate({40: None, 41: None, 44: '_'})}/output_tokens_per_s"
    series = server.history(seen["id"], name)
    assert (level.concurrency, level.metrics.output_tokens_per_s) in series
    assert list(sweep.mlflow_waiting("").glob("*")) == []


def test_files_are_there_and_no_secret_is(server: Server, tracker: MLflow, tmp_path: Path) -> None:
    sweep, found = SweepDir(tmp_path / "sweep"), records("files")
    publish(tracker, sweep, found)
    _, children = parted(server, "files")
    child = children[1]
    assert server.files(child["id"]) == ["record.json", "server.log"]
    texts = [server.text(child["id"], path) for path in server.files(child["id"])]
    assert TOKEN not in str([child, *texts])
    assert "started with [redacted]" in texts[1]


def test_a_trial_that_is_published_again_takes_the_place_of_its_first_run(
    server: Server, tracker: MLflow, tmp_path: Path
) -> None:
    sweep, found = SweepDir(tmp_path / "sweep"), records("again")
    publish(tracker, sweep, found[:1])
    tracker.publish_sweep(result_of(found[:1]), config("again"), sweep)
    changed = replace(found[0], overrides=("n=2",))
    publish(tracker, sweep, [changed, found[1]])
    tracker.publish_sweep(result_of([changed, found[1]]), config("again"), sweep)
    parent, children = parted(server, "again")
    assert [child["params"].get("overrides") for child in children] == ["n=2", "x=[redacted]"]
    assert parent["metrics"]["trials_total"] == 2


def test_what_waited_is_sent_by_sync(
    server: Server,
    tracker: MLflow,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep, found = SweepDir(tmp_path / "sweep"), records("later")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert publish(tracker, sweep, found) == [None, None, None]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    assert sync.main([str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert f"MLflow: sent 3 of 3 trials of {sweep.path}." in told
    parent, children = parted(server, "later")
    assert (len(children), parent["status"]) == (3, "FINISHED")
    assert sync.main([str(tmp_path)]) == 0
    assert "Nothing to upload" in capsys.readouterr().out


def test_the_command_publishes_as_it_goes(server: Server, tmp_path: Path, tiny_gguf: Path) -> None:
    overrides = ["tracker=mlflow", "tracker.project=command", "traffic.concurrencies=[1]", "parallel=null,4"]
    env = {"MLFLOW_TRACKING_URI": server.url}
    result = pipeline(*overrides, folder=tmp_path / "out", gguf=tiny_gguf, sweep=True, env=env, timeout_s=200)
    assert result.code == 0, result.err
    parent, children = parted(server, "command")
    assert f"MLflow: {server.url}/#/experiments/{parent['info']['experiment_id']}/runs/{parent['id']}" in result.out
    assert [child["tags"]["status"] for child in children] == ["ok", "ok"]
    assert [child["params"].get("parallel") for child in children] == [None, "4"]
    assert {"ranking.csv", "best.json", "best/card.md"} <= {*server.files(parent["id"])}
    assert all(record.tracker is None for record in result.records)


def test_the_verdict_on_answers_and_evaluations_are_there(server: Server, tracker: MLflow, tmp_path: Path) -> None:
    sweep, (base, best, _) = SweepDir(tmp_path / "sweep"), records("answers")
    seen = Agreement(way="free-running", alike=93, compared=100, parts=8)
    judged = Judgement(word="differs", agreement=seen, floor=replace(seen, alike=100))
    found = [replace(base, is_baseline=True), replace(best, objective={"output_tokens_per_s": 200.0}, quality=judged)]
    change = Change(name="words exact_match (first)", items=100, baseline=1.0, winner=0.75, difference=-0.25,
                    half_width=0.085, is_paired=True, is_higher_better=True)  # fmt: skip
    publish(tracker, sweep, found)
    (sweep.path / FOLDER).mkdir()
    save(sweep.path / FOLDER / evaluated.FILE, Evaluated(winner=1, baseline=0, changes=(change,)))
    tracker.publish_sweep(result_of(found, sweep), config("answers"), sweep)
    parent, children = parted(server, "answers")
    assert children[1]["tags"]["quality"] == "differs"
    assert children[1]["metrics"]["quality_agreement"] == 0.93
    assert parent["tags"]["best/evals/words exact_match first/verdict"] == "worse"
    assert parent["metrics"]["best/evals/words exact_match first/difference"] == -0.25
