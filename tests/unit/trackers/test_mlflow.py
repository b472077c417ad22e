"""MLflow without its server: what is said of trials, what waits, a server that is away. The real one: tests/live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.silent import Silent, silence
from parts.llama import free_port
from pipeline import sync
from pipeline.core.errors import PreflightFailed, TrackerFailed
from pipeline.core.files import SweepDir, save
from pipeline.core.record import Record
from pipeline.core.redact import Secrets
from pipeline.core.schema import Tracker
from pipeline.machine import owner
from pipeline.report.publication import result_of
from pipeline.trackers import mlflow, mlflow_content, trial_content
from pipeline.trackers.mlflow import MLflow
from pipeline.trial import checks
from support.records import make_config, make_failed_record, make_record

TARGET = "pipeline.trackers.mlflow.MLflow"
CONFIG = Tracker(name="mlflow", target=TARGET, project="servetune", mode="auto", timeout_s=3)
NOTHING = Secrets({})


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepDir:
    monkeypatch.setenv(owner.OWNER, "this command")
    return SweepDir(tmp_path / "sweep")


@pytest.fixture
def tracker() -> Iterator[MLflow]:
    made = MLflow()
    yield made
    made.close()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    with silence() as made:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", made.url)
        yield made


def publish(number: int, sweep: SweepDir, tracker: MLflow, config: Tracker = CONFIG) -> str | None:
    run_dir = sweep.trial(number)
    run_dir.path.mkdir(parents=True, exist_ok=True)
    record = make_record(number=number)
    save(run_dir.record, replace(record, config=replace(record.config, tracker=config)))
    return tracker.publish(record, config, run_dir)


def waiting(sweep: SweepDir) -> list[str]:
    return sorted(path.name for path in sweep.mlflow_waiting("").glob("*"))


def test_without_a_server_everything_waits_and_the_end_says_so(sweep: SweepDir, tracker: MLflow) -> None:
    assert publish(0, sweep, tracker) is None
    assert publish(1, sweep, tracker) is None
    (told,) = tracker.publish_sweep(result_of([make_record()]), CONFIG, sweep)
    assert told == f"MLflow: 2 trials not sent. To send: set MLFLOW_TRACKING_URI, then servetune sync {sweep.path}"
    assert waiting(sweep) == ["0", "1", "sweep"]
    assert tracker.publisher is None


def test_mode_offline_sends_nothing_whatever_the_environment(sweep: SweepDir, tracker: MLflow, silent: Silent) -> None:
    assert publish(0, sweep, tracker, replace(CONFIG, mode="offline")) is None
    assert silent.asked() == 0


def test_mode_online_needs_a_server(sweep: SweepDir, tracker: MLflow) -> None:
    with pytest.raises(TrackerFailed, match=r"tracker\.mode=online: MLFLOW_TRACKING_URI is not set"):
        publish(0, sweep, tracker, replace(CONFIG, mode="online"))


def test_sync_without_a_server_says_what_to_set(
    sweep: SweepDir, tracker: MLflow, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(0, sweep, tracker)
    assert sync.main([str(sweep.path.parent)]) == 1
    told = capsys.readouterr().err
    assert f"MLFLOW_TRACKING_URI is not set: 1 trials of {sweep.path} wait to be sent to MLflow." in told


def timed_out(folder: Path, tracker: MLflow, silent: Silent) -> SweepDir:
    """A sweep whose first record the server was asked to take, in vain."""
    for timeout_s in (3, 30, 120):  # longer where a busy machine has not come to asking
        sweep = SweepDir(folder / f"sweep-{timeout_s}")
        waited = rf"MLflow did not answer in time \(waited {timeout_s / 2:g} s"
        with pytest.raises(TrackerFailed, match=waited) as caught:
            publish(0, sweep, tracker, replace(CONFIG, timeout_s=timeout_s))
        assert str(caught.value).endswith(
            f"nothing of this sweep is sent. To send it later: servetune sync {sweep.path}"
        )
        if silent.asked():
            return sweep
    pytest.fail("nobody was asked")


@pytest.mark.usefixtures("sweep")
def test_a_server_that_never_answers_is_waited_for_once(tmp_path: Path, tracker: MLflow, silent: Silent) -> None:
    sweep = timed_out(tmp_path, tracker, silent)
    asked = silent.asked()
    assert publish(1, sweep, tracker) is None
    (told,) = tracker.publish_sweep(result_of([make_record()]), CONFIG, sweep)
    assert told == f"MLflow: 2 trials not sent. To send: servetune sync {sweep.path}"
    assert silent.asked() == asked  # nobody was asked again
    assert waiting(sweep) == ["0", "1", "sweep"]


def test_a_server_that_is_not_there_is_told_without_its_password(
    sweep: SweepDir, tracker: MLflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hunter2-hunter2@localhost:{free_port()}")
    with pytest.raises(TrackerFailed) as caught:
        publish(0, sweep, tracker, replace(CONFIG, timeout_s=120))
    assert "MLflow did not take it: " in str(caught.value)
    assert "hunter2" not in str(caught.value) + sweep.tracker_log.read_text()
    assert "Check MLFLOW_TRACKING_URI" in caught.value.hint


def test_a_password_of_the_uri_goes_to_its_own_variable() -> None:
    env = mlflow.environment({"MLFLOW_TRACKING_URI": "https://me:a%2Fb@h:5000/x", "MLFLOW_HTTP_REQUEST_TIMEOUT": "7"})
    assert env["MLFLOW_TRACKING_URI"] == "https://h:5000/x"
    assert (env["MLFLOW_TRACKING_USERNAME"], env["MLFLOW_TRACKING_PASSWORD"]) == ("me", "a/b")
    assert env["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
    assert env["MLFLOW_DISABLE_TELEMETRY"] == "true"


def content(record: Record, secrets: Secrets = NOTHING) -> mlflow_content.Content:
    return mlflow_content.of_trial(record, SweepDir(Path("/none")).trial(0), secrets)


def test_names_are_those_of_wandb_in_mlflows_characters() -> None:
    record = make_record()
    made = content(record)
    summary = trial_content.summary(record)
    numbers = {mlflow_content.name(key) for key, seen in summary.items() if type(seen) in {int, float}}
    assert numbers <= {point.name for point in made.points}
    assert made.params["runtime"] == record.config.runtime.name
    assert made.tags["status"] == "ok"
    level = next(level for level in record.levels if level.metrics)
    (point,) = [
        one
        for one in made.points
        if one.step == level.concurrency and one.name == f"{mlflow_content.name(level.scenario)}/output_tokens_per_s"
    ]
    assert level.metrics is not None
    assert point.number == level.metrics.output_tokens_per_s
    assert made.status == "FINISHED"


def test_a_failure_is_told_and_what_is_not_set_is_left_out() -> None:
    record = make_failed_record()
    made = content(record)
    assert record.failure is not None
    assert (made.status, made.tags["failure_kind"]) == ("FAILED", record.failure.kind)
    assert record.failure.message.startswith(made.tags["mlflow.note.content"][:40])
    assert None not in made.params.values()
    assert "repeat_of" not in made.params


def test_secrets_are_hidden_and_long_texts_are_cut() -> None:
    record = make_record(overrides=("x=hunter2-hunter2", "y=" + "a" * 6000))
    made = content(record, Secrets({"MY_TOKEN": "hunter2-hunter2"}))
    assert "hunter2" not in str(made)
    assert (len(made.params["overrides"]), len(made.tags["mlflow.note.content"])) == (500, 5000)
    assert len(made.name) == 250


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("D(48,16)/ttft_p95_s", "D48_16/ttft_p95_s"),
        ("N(480,240)_(300,150)/x", "N480_240_300_150/x"),
        ("best/knobs/é", "best/knobs/é"),
        ("a=b;c", "a_b_c"),
    ],
)
def test_a_name_in_mlflows_characters(text: str, name: str) -> None:
    assert mlflow_content.name(text) == name


def test_a_tracker_that_is_not_installed_is_found_before_the_sweep() -> None:
    made = make_config()
    config = replace(made, tracker=replace(CONFIG, needs_modules=("no_such_module",)))
    check = dict(checks.of(config))["tracker mlflow"]
    with pytest.raises(PreflightFailed, match="tracker=mlflow needs the Python module no_such_module") as caught:
        check(config)
    assert "pip install 'servetune[mlflow]'" in caught.value.hint


def test_where_records_will_go_is_told_before_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(make_config(), tracker=CONFIG)
    check = dict(checks.of(config))["tracker mlflow"]
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert check(config) == "MLFLOW_TRACKING_URI is not set: nothing is sent, records wait for servetune sync"
    with pytest.raises(PreflightFailed, match=r"tracker\.mode=online: MLFLOW_TRACKING_URI is not set"):
        check(replace(config, tracker=replace(CONFIG, mode="online")))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@h:5000")
    assert check(config) == "records go to http://h:5000"
    assert check(replace(config, tracker=replace(CONFIG, mode="offline"))).startswith("tracker.mode=offline: nothing")
