"""The W&B run and Report of a whole sweep against the real wandb: offline, and by a server of the tests' own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from parts.wandb_runs import artifact, history, items, run_of, stored, summary, table
from parts.wandb_server import KEY, Server, serving
from pipeline.core.errors import FailureKind
from pipeline.core.files import SweepDir
from pipeline.core.redact import Secrets
from pipeline.core.schema import Tracker
from pipeline.report import command
from pipeline.report.publication import result_of
from pipeline.trackers import wandb_report
from pipeline.trackers.result import SweepResult
from pipeline.trackers.wandb import WandB
from support.records import make_config, make_failed_record, make_failure, make_record

CONFIG = Tracker(
    name="wandb", target="pipeline.trackers.wandb.WandB", project="servetune", mode="offline", timeout_s=600
)
VALUE = 'hf_s3cr3t "quoted"/value'
INTERRUPTED = make_failure(kind=FailureKind.INTERRUPTED, message="stopped by SIGTERM")


def result(*, scores: tuple[float, ...] = (100.0, 125.0), override: str = "page_size={}") -> SweepResult:
    """Trials with these scores, then one that failed and one that was interrupted."""
    records = [
        make_record(
            number=number,
            objective={"output_tokens_per_s": score},
            overrides=(override.format(number),),
            config=make_config(knobs={"page_size": number or None, "slots": None}),
            is_baseline=number == 0,
        )
        for number, score in enumerate(scores)
    ]
    stopped = make_failed_record(number=len(scores) + 1, status="interrupted", failure=INTERRUPTED)
    return result_of([*records, make_failed_record(number=len(scores)), stopped])


def make_sweep(folder: Path) -> SweepDir:
    made = SweepDir(folder / "sweep-1")
    made.best_dir.mkdir(parents=True)
    made.ranking.write_text("rank\n")
    made.best.write_text("{}\n")
    (made.best_dir / "run.sh").write_text("true\n")
    return made


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepDir:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return make_sweep(tmp_path)


class Published(NamedTuple):
    """A sweep that was published offline: twice, the second time with a better trial."""

    sweep: SweepDir
    first: Path
    second: Path
    lines: tuple[str, ...]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    sweep, tracker = make_sweep(tmp_path_factory.mktemp("published")), WandB()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(sweep.path.parent / "home"))
        tracker.publish_sweep(result(scores=(100.0,)), CONFIG, sweep)
        lines = tracker.publish_sweep(result(), CONFIG, sweep)
        tracker.close()
    first, second = runs(sweep)
    return Published(sweep, first, second, lines)


@pytest.fixture
def tracker() -> Iterator[WandB]:
    made = WandB()
    yield made
    made.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """W&B as far as our processes can tell."""
    with serving() as made:
        monkeypatch.setenv("WANDB_BASE_URL", made.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield made


def runs(sweep: SweepDir) -> list[Path]:
    return sorted(sweep.tracker.glob("offline-run-*"))


def test_a_sweep_is_a_run_in_the_group_of_its_trials(published: Published) -> None:
    run = run_of(published.second)
    assert (run.job_type, run.run_group, run.run_id) == ("sweep", "sweep-1", published.sweep.tracker_key.read_text())
    config = items(run.config.update)
    assert (config["runtime"], config["knobs"], config["sweep_key"]) == ("llamacpp", ["page_size"], run.run_id)


def test_its_table_has_a_row_per_trial(published: Published) -> None:
    rows = table(published.second, "trials")
    assert [row[:5] for row in rows] == [
        [1, 1, "page_size=1", "ok", 125.0],
        [2, 0, "page_size=0", "ok", 100.0],
        [None, 2, "page_size=32", "failed", None],
        [None, 3, "page_size=32", "interrupted", None],
    ]
    assert rows[0][9:16] == [0.25, "", "D(64,16) x2", 150.0, 0.35, 0.35, 0.0]


def test_its_summary_tells_the_best_configuration(published: Published) -> None:
    said = summary(published.second)
    assert {name: said[f"trials_{name}"] for name in ("total", "ok", "failed", "refused", "interrupted")} == {
        "total": 4,
        "ok": 2,
        "failed": 1,
        "refused": 0,
        "interrupted": 1,
    }
    assert (said["best/trial"], said["best/output_tokens_per_s"], said["best/knobs/page_size"]) == (1, 125.0, 1)
    assert said["best/command"] == f"{' '.join(command.program())} page_size=1"


def test_its_files_are_one_artifact(published: Published) -> None:
    files = artifact(published.second, "sweep")
    assert {entry.path for entry in files.manifest.contents} == {"ranking.csv", "best.json", "best/run.sh"}


def test_its_charts_are_wandbs_own(published: Published) -> None:
    path = published.second
    (logged,) = history(path)
    charts = {"throughput_over_ttft_table", "objective_over_trials_table", "failures_by_kind_table"}
    assert {*logged} >= charts | {"trials"}
    assert table(path, "failures_by_kind") == [["server_died", 1]]  # the interrupted one is run again
    assert table(path, "throughput_over_ttft")[0][:3] == [0.35, 150.0, 1]
    lines = [[row[1], row[0], row[2]] for row in table(path, "objective_over_trials")]
    assert ["best so far", 1, 125.0] in lines
    drawn = " ".join(str(record.config) for record in stored(path) if record.HasField("config"))
    assert "wandb/scatter/v0" in drawn
    assert "wandb/bar/v0" in drawn


def test_a_sweep_without_any_result_is_published(sweep: SweepDir, tracker: WandB) -> None:
    tracker.publish_sweep(result(scores=()), CONFIG, sweep)
    (path,) = runs(sweep)
    assert [record.exit.exit_code for record in stored(path) if record.HasField("exit")] == [1]
    assert "No trial has a result." in sweep.tracker_script.read_text()


def test_a_second_end_of_a_sweep_goes_on_in_its_run(published: Published) -> None:
    first, second = published.first, published.second
    assert run_of(first).run_id == run_of(second).run_id
    assert (summary(first)["best/trial"], summary(second)["best/trial"]) == (0, 1)


def test_offline_it_says_how_to_upload(published: Published) -> None:
    script = published.sweep.tracker_script
    assert published.lines == (f"W&B: offline. To upload: make sync; then for the report: python {script}",)


def test_secrets_are_in_no_file(sweep: SweepDir, tracker: WandB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", VALUE)
    sweep.ranking.write_text(f"rank\n{VALUE}\n")
    sweep.report.write_text(f"<p>{VALUE}</p>")
    tracker.publish_sweep(result(override=f"+x={VALUE}-{{}}"), CONFIG, sweep)
    (path,) = runs(sweep)
    assert not any("hf_s3cr3t" in str(record) for record in stored(path))
    written = [*(file for file in sweep.tracker.rglob("*") if file.is_file()), sweep.tracker_script]
    assert [file for file in written if b"hf_s3cr3t" in file.read_bytes()] == []
    assert "[redacted]" in sweep.tracker_script.read_text()


def test_disabled_by_the_user_publishes_nothing(
    sweep: SweepDir, tracker: WandB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert tracker.publish_sweep(result(), replace(CONFIG, mode="auto"), sweep) == ()
    assert not sweep.tracker.exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # wandb-workspaces' own
def test_the_report_is_built_without_a_server() -> None:
    source = wandb_report.source(result(), CONFIG, "sweep-1-0a", Secrets({}))
    report = wandb_report.build(source, entity="team", project="servetune")
    spec = json.loads(report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    kinds = [block["type"] for block in spec["blocks"] if block["type"] != "paragraph"]
    assert kinds == ["markdown-block", "heading", "panel-grid", "heading", "panel-grid"]
    text = next(block["content"] for block in spec["blocks"] if block["type"] == "markdown-block")
    assert "**Best: trial 1**, `page_size=1` (in the search: output_tokens_per_s 125)." in text
    assert "Trial 1 against the baseline was measured once: a difference can be noise." in text
    whole = json.dumps(spec)
    assert whole.count('"value": "sweep-1-0a"') == 2  # only the runs of this sweep
    assert '"summary:best/ttft_p95_s"' in whole
    assert '"config:page_size.value"' in whole or '"c:page_size"' in whole


def saved(server: Server) -> list[Any]:
    return [json.loads(report["spec"]) for report in server.reports.values()]


def test_online_run_and_report_are_on_the_server(sweep: SweepDir, tracker: WandB, server: Server) -> None:
    config = replace(CONFIG, mode="auto")
    first = tracker.publish_sweep(result(scores=(100.0,)), config, sweep)
    again = tracker.publish_sweep(result(), config, sweep)
    key = sweep.tracker_key.read_text()
    assert first == again  # the same run, the same report
    assert first[0] == f"W&B: {server.url}/team/servetune/runs/{key}"
    assert first[1].startswith(f"W&B report: {server.url}/team/servetune/reports/servetune-sweep-1--")
    assert server.runs[key]["jobType"] == "sweep"
    assert len(server.history[key]) == 2  # the second end after the first
    (report,) = saved(server)
    assert "Best: trial 1" in json.dumps(report)
    assert not sweep.tracker_script.exists()
    files = [path for path in sweep.path.rglob("*") if path.is_file()]
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_a_report_that_cannot_be_saved_leaves_the_script(sweep: SweepDir, tracker: WandB, server: Server) -> None:
    server.refused.add("upsertView")
    run, report = tracker.publish_sweep(result(), replace(CONFIG, mode="auto"), sweep)
    assert run.startswith(f"W&B: {server.url}/team/servetune/runs/")
    assert report.startswith("W&B report: not saved. W&B did not accept the sweep: ")
    assert report.endswith(f" To try again: python {sweep.tracker_script}")
    assert sweep.tracker_script.exists()


def test_the_report_goes_where_the_users_settings_send_the_runs(
    sweep: SweepDir, tracker: WandB, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_ENTITY", "others")
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    tracker.publish_sweep(result(), replace(CONFIG, mode="auto", project=None), sweep)
    (report,) = server.reports.values()
    (run,) = server.runs.values()
    assert (report["entityName"], report["projectName"]) == (run["entity"], run["project"]) == ("others", "ours")


def test_the_script_saves_the_report_once_there_is_a_key(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run = [sys.executable, str(published.sweep.tracker_script)]
    refused = subprocess.run(run, capture_output=True, text=True, check=False, timeout=240)
    assert refused.returncode == 1
    assert "W&B did not accept the report" in refused.stderr
    assert "Traceback" not in refused.stderr
    server: Server = request.getfixturevalue("server")
    server.runs["uploaded"] = {"project": "servetune"}
    for _ in range(2):
        told = subprocess.run(run, capture_output=True, text=True, check=True, timeout=240)
        assert told.stdout == f"{server.url}/team/servetune/reports/servetune-sweep-1--report0\n"
    assert len(saved(server)) == 1
