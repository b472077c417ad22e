"""The W&B tracker against the real wandb, offline: what is written, what is not, and what is left behind."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from parts.wandb_runs import artifact, history, items, run_of, stored, summary, table
from pipeline.core.errors import FailureKind, StepTimedOut, TrackerFailed
from pipeline.core.files import RunDir, SweepDir, save
from pipeline.core.findings import Finding, Verdict
from pipeline.core.record import EngineTimes, Level, Record
from pipeline.core.resolved import Rewrite
from pipeline.core.schema import Tracker
from pipeline.machine import process, signals
from pipeline.trackers.wandb import WandB
from pipeline.trackers.wandb_publisher import choose_mode, has_netrc_key
from support.places import ROOT
from support.records import make_failed_record, make_failure, make_levels, make_record

VALUE = 'hf_s3cr3t "quoted"/value'
CONFIG = Tracker(
    name="wandb", target="pipeline.trackers.wandb.WandB", project="servetune", mode="offline", timeout_s=600
)
FAILED = Level(scenario="D(64,16)", concurrency=4, status="failed", failure=make_failure(message="HTTP 503"))
SKIPPED = Level(scenario="D(64,16)", concurrency=8, status="skipped", failure=make_failure(message="after a failure"))


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    made = RunDir(tmp_path / "sweep" / "7")
    (made.bench / "D64_16" / "1").mkdir(parents=True)
    (made.bench / "D64_16" / "1" / "D64_16_time_10s.json").write_text("{}")
    made.server_log.write_text("ready\n")
    return made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandB]:
    """One tracker for the tests whose environment does not matter: its process takes seconds to start."""
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        tracker = WandB()
        tracker.publish(make_record(), CONFIG, RunDir(folder / "sweep" / "0"))
    yield tracker
    tracker.close()


@pytest.fixture
def own() -> Iterator[WandB]:
    """A tracker that takes this test's environment along."""
    tracker = WandB()
    yield tracker
    tracker.close()


def publish(record: Record, run_dir: RunDir, by: WandB) -> Path:
    save(run_dir.record, record)
    where = by.publish(record, CONFIG, run_dir)
    assert where is not None
    return Path(where)


def key_of(run_dir: RunDir) -> str:
    return SweepDir(run_dir.path.parent).tracker_key.read_text()


def living_children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]


def test_run_is_named_grouped_and_tagged(run_dir: RunDir, shared: WandB) -> None:
    run = run_of(publish(make_record(is_baseline=True), run_dir, shared))
    assert (run.project, run.run_group, run.job_type) == ("servetune", "sweep-1", "trial")
    assert run.display_name == "7 page_size=32"
    assert run.run_id == f"{key_of(run_dir)}-7"
    assert set(run.tags) == {"llamacpp", "tiny", "ok", "baseline"}


def test_knobs_and_choices_are_top_level_config(run_dir: RunDir, shared: WandB) -> None:
    run = run_of(publish(make_record(), run_dir, shared))
    config = items(run.config.update)
    assert {name: config[name] for name in ("page_size", "slots", "runtime", "traffic")} == {
        "page_size": 32,
        "slots": None,
        "runtime": "llamacpp",
        "traffic": "quick",
    }
    assert config["config"]["traffic"]["scenarios"] == ["D(64,16)"]


def test_levels_are_a_series_over_concurrency(run_dir: RunDir, shared: WandB) -> None:
    run = publish(make_record(levels=(*make_levels(), FAILED, SKIPPED)), run_dir, shared)
    points = [(row["concurrency"], row["D(64,16)/output_tokens_per_s"]) for row in history(run) if "concurrency" in row]
    assert points == [(1, 100.0), (2, 150.0)]
    axes = {r.metric.glob_name: r.metric.step_metric for r in stored(run) if r.HasField("metric")}
    assert axes["D(64,16)/*"] == "concurrency"


def test_failed_and_skipped_levels_are_in_the_table(run_dir: RunDir, shared: WandB) -> None:
    rows = table(publish(make_record(levels=(*make_levels(), FAILED, SKIPPED)), run_dir, shared))
    assert [row[:4] for row in rows] == [
        ["D(64,16)", 1, "ok", ""],
        ["D(64,16)", 2, "ok", ""],
        ["D(64,16)", 4, "failed", "server_died: HTTP 503"],
        ["D(64,16)", 8, "skipped", "server_died: after a failure"],
    ]


def test_summary_tells_the_outcome(run_dir: RunDir, shared: WandB) -> None:
    said = summary(publish(make_record(), run_dir, shared))
    assert said["status"] == "ok"
    assert said["output_tokens_per_s"] == 150.0
    assert said["best_level"] == "D(64,16) x2"
    assert said["best/ttft_p95_s"] == 0.35
    assert said["steps/deploy_s"] == 0.2
    assert said["teardown_clean"] is True
    assert not any(name.startswith("D(64,16)/") for name in said)


def test_summary_tells_what_the_engine_made_of_a_knob(run_dir: RunDir, shared: WandB) -> None:
    reason = "page_size=32 becomes 64"
    foreseen = Finding(rule="r", verdict="rewritten", reason=reason, source="here")
    record = make_record(
        verdict=Verdict(findings=(foreseen,), knobs={"page_size": 64, "slots": None}),
        rewrites=(Rewrite(knob="page_size", asked=32, got=64),),
        same_as=3,
    )
    said = summary(publish(record, run_dir, shared))
    assert said["resolved/page_size"] == 64
    assert said["verdict"] == "rewritten"
    assert said["findings"] == reason
    assert said["same_as"] == 3
    assert "settings_unknown" not in said


def test_summary_tells_what_the_engine_says_of_itself(run_dir: RunDir, shared: WandB) -> None:
    times = EngineTimes(requests=8, ttft_mean_s=0.027, tpot_mean_s=None)
    levels = tuple(replace(level, engine=times) for level in make_levels())
    record = make_record(engine_version="0.32.0+cpu", settings_unknown="/props answered HTTP 404", levels=levels)
    run = publish(record, run_dir, shared)
    said = summary(run)
    assert (said["engine_version"], said["settings_unknown"]) == ("0.32.0+cpu", "/props answered HTTP 404")
    name = f"{levels[0].scenario}/engine_ttft_mean_s"
    assert {point[name] for point in history(run) if name in point} == {0.027}


def test_failed_trial_is_a_failed_run(run_dir: RunDir, shared: WandB) -> None:
    run = publish(make_failed_record(), run_dir, shared)
    assert [record.exit.exit_code for record in stored(run) if record.HasField("exit")] == [1]
    assert summary(run)["failure_kind"] == "server_died"


@pytest.mark.parametrize(
    ("env", "mode", "told"),
    [
        ({}, "auto", "no key (wandb login, or WANDB_API_KEY): runs are written offline, and wait for servetune sync"),
        ({"WANDB_API_KEY": "x" * 40}, "auto", "runs go to https://api.wandb.ai"),
        ({"WANDB_API_KEY": "x" * 40, "WANDB_BASE_URL": "http://h"}, "auto", "runs go to http://h"),
        ({"WANDB_API_KEY": "x" * 40}, "offline", "runs are written offline, and wait for servetune sync"),
        ({}, "online", "runs go to https://api.wandb.ai, which wants a key: wandb login"),
        ({"WANDB_MODE": "disabled"}, "auto", "WANDB_MODE=disabled: nothing is published"),
    ],
)
def test_where_runs_will_go_is_told_before_the_sweep(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], mode: Any, told: str
) -> None:
    assert not run_dir.record.exists()  # the fixture's: no key of this machine
    for name, text in env.items():
        monkeypatch.setenv(name, text)
    assert WandB().outlook(replace(CONFIG, mode=mode)) == told


def test_files_are_one_artifact(run_dir: RunDir, shared: WandB) -> None:
    for file in (run_dir.config, run_dir.plan, run_dir.metrics, run_dir.lease):
        file.write_text("{}")
    trial = artifact(publish(make_record(), run_dir, shared), "trial")
    assert trial.name == f"trial-{key_of(run_dir)}-7"
    bench = "bench/D64_16/1/D64_16_time_10s.json"
    files = {"record.json", "config.json", "plan.json", "metrics.json", "lease.json", "server.log", bench}
    assert {entry.path for entry in trial.manifest.contents} == files
    assert all(Path(entry.local_path).is_relative_to(run_dir.path.parent) for entry in trial.manifest.contents)


def test_secrets_are_in_no_file(run_dir: RunDir, own: WandB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", VALUE)
    failure = make_failure(message=f"refused {VALUE}")
    run_dir.server_log.write_text(f"Authorization: Bearer {VALUE}\n")
    run_dir.config.write_text(json.dumps({"env": VALUE}))
    run_dir.plan.write_text(json.dumps({"argv": [f"--token={VALUE}"]}))
    levels = (Level(scenario="D(64,16)", concurrency=1, status="failed", failure=failure),)
    overrides = (f"+runtime.env.TOKEN={VALUE}",)
    trial_id = f"sweep-1/{VALUE}"
    run = publish(
        make_failed_record(failure=failure, levels=levels, overrides=overrides, trial_id=trial_id), run_dir, own
    )
    assert not any("hf_s3cr3t" in str(record) for record in stored(run))  # across the blocks of its file, too
    uploaded = [path for path in (run_dir.path.parent / "wandb").rglob("*") if path.is_file()]
    assert len(uploaded) > 5
    assert [path for path in uploaded if b"hf_s3cr3t" in path.read_bytes()] == []
    staged = next(path for path in uploaded if path.name == "server.log")
    assert staged.read_text() == "Authorization: Bearer [redacted]\n"


def test_nothing_is_written_to_the_home_folder(run_dir: RunDir, own: WandB, tmp_path: Path) -> None:
    publish(make_record(), run_dir, own)
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []


def test_a_trial_that_is_published_again_goes_on_in_its_run(run_dir: RunDir, shared: WandB) -> None:
    stopped = make_failed_record(status="interrupted", levels=make_levels())
    first, second = publish(stopped, run_dir, shared), publish(make_record(), run_dir, shared)
    assert run_of(first).run_id == run_of(second).run_id == f"{key_of(run_dir)}-7"
    assert summary(first)["failure_kind"] == "server_died"
    assert summary(second)["failure_kind"] is None  # takes the place of the first one's
    assert not any("concurrency" in row for row in history(first))  # its levels come again
    assert len([row for row in history(second) if "concurrency" in row]) == 2


def test_a_trial_that_was_stopped_alone_is_whole(run_dir: RunDir, shared: WandB) -> None:
    alone = make_failure(kind=FailureKind.STOPPED, message="stopped by servetune stop")
    stopped = make_failed_record(status="interrupted", failure=alone, levels=make_levels())
    assert len([row for row in history(publish(stopped, run_dir, shared)) if "concurrency" in row]) == 2


def test_trials_have_runs_of_their_own(run_dir: RunDir, shared: WandB) -> None:
    sweep = run_dir.path.parent
    for number in range(2):
        shared.publish(make_record(number=number), CONFIG, RunDir(sweep / str(number)))
    found = sorted(path.stem for path in sweep.glob("wandb/offline-run-*/*.wandb"))
    assert found == [f"run-{key_of(run_dir)}-{number}" for number in range(2)]


def test_sweeps_of_one_name_do_not_share_runs(tmp_path: Path, shared: WandB) -> None:
    for machine in ("a", "b"):
        shared.publish(make_record(), CONFIG, RunDir(tmp_path / machine / "sweep" / "7"))
    assert len({path.name for path in tmp_path.glob("*/sweep/wandb/offline-run-*/*.wandb")}) == 2


def test_long_names_are_cut_to_the_limits(run_dir: RunDir, shared: WandB) -> None:
    record = make_record(overrides=tuple(f"knob_{number}={number}" for number in range(100)))
    run = run_of(publish(record, run_dir, shared))
    assert len(run.display_name) == 128


def test_unwritable_folder_is_a_tracker_failure(run_dir: RunDir, shared: WandB) -> None:
    (run_dir.path.parent / "wandb").write_text("a file where a folder must be")
    with pytest.raises(TrackerFailed, match="wandb"):
        publish(make_record(), run_dir, shared)


def test_refused_settings_leave_no_process(run_dir: RunDir, own: WandB) -> None:
    refused = replace(CONFIG, project="no/such:name")
    with pytest.raises(TrackerFailed, match="project"):
        own.publish(make_record(), refused, run_dir)


def test_online_without_a_key_never_asks(run_dir: RunDir, own: WandB) -> None:
    with pytest.raises(TrackerFailed, match="key"):
        own.publish(make_record(), replace(CONFIG, mode="online"), run_dir)


def test_importing_the_trackers_imports_no_wandb() -> None:
    script = (
        "import sys, pipeline.trackers.wandb, pipeline.trackers as t\n"
        "assert t.load('pipeline.trackers.none.Off').publish(None, None, None) is None\n"
        "sys.exit('wandb' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=240)


def test_disabled_by_the_user_publishes_nothing(run_dir: RunDir, own: WandB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert own.publish(make_record(), replace(CONFIG, mode="auto"), run_dir) is None
    assert not (run_dir.path.parent / "wandb").exists()


def test_a_publication_that_is_broken_off_leaves_no_process(run_dir: RunDir, own: WandB) -> None:
    before = living_children()
    with pytest.raises(StepTimedOut), signals.deadline(0.5, "publishing"):
        publish(make_record(), run_dir, own)
    assert living_children() == before
    assert publish(make_record(), run_dir, own).is_dir()


def test_a_server_that_never_answers_is_given_up(run_dir: RunDir, own: WandB, monkeypatch: pytest.MonkeyPatch) -> None:
    key, before = "0123456789" * 4, living_children()
    temporary = run_dir.path.parent / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", key)
        with pytest.raises(TrackerFailed, match="did not accept the record in time"):
            own.publish(make_record(), replace(CONFIG, mode="auto", timeout_s=5), run_dir)
    own.close()  # it has written the run offline
    assert living_children() == before
    assert list(temporary.iterdir()) == []  # wandb's own folders are gone, though it was killed
    files = [path for path in run_dir.path.parent.rglob("*") if path.is_file()]
    assert [path for path in files if key.encode() in path.read_bytes()] == []


def test_the_publisher_and_its_service_end_when_we_are_killed(run_dir: RunDir, tmp_path: Path) -> None:
    script = (
        "import sys, time; sys.path.insert(0, 'tests'); from pathlib import Path\n"
        "from support.records import make_record\n"
        "from unit.trackers.test_wandb import CONFIG; from pipeline.core.files import RunDir\n"
        "from pipeline.trackers.wandb import WandB; tracker = WandB()\n"
        f"tracker.publish(make_record(), CONFIG, RunDir(Path({str(run_dir.path)!r})))\n"
        "print(1, flush=True); time.sleep(60)"
    )
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT, env=env) as child:
        assert child.stdout is not None
        child.stdout.readline()
        started = psutil.Process(child.pid).children(recursive=True)
        child.kill()
    assert started
    assert process.wait_until(lambda: not any(each.is_running() for each in started), timeout_s=180)


@pytest.mark.parametrize(
    ("asked", "user", "has_key", "mode"),
    [
        pytest.param("auto", None, True, "online", id="auto-with-key"),
        pytest.param("auto", None, False, "offline", id="auto-without-key"),
        pytest.param("auto", "offline", True, "offline", id="auto-user-wants-offline"),
        pytest.param("auto", "dryrun", True, "offline", id="auto-user-wants-dryrun"),
        pytest.param("auto", "online", False, "online", id="auto-user-wants-online"),
        pytest.param("auto", "nonsense", True, "online", id="auto-unknown-word-with-key"),
        pytest.param("offline", "online", True, "offline", id="offline-with-key"),
        pytest.param("offline", None, False, "offline", id="offline-without-key"),
        pytest.param("online", "disabled", True, "online", id="online-with-key"),
        pytest.param("online", None, False, "online", id="online-without-key"),
    ],
)
def test_mode(asked: str, user: str | None, has_key: bool, mode: str) -> None:
    assert choose_mode(asked, user=user, has_key=has_key) == mode


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param("machine api.wandb.ai login user password k", True, id="entry"),
        pytest.param("machine other.org login user password k", False, id="other-host"),
        pytest.param("machine broken", False, id="unreadable"),
        pytest.param(None, False, id="no-file"),
    ],
)
def test_netrc_key(tmp_path: Path, content: str | None, found: bool) -> None:
    file = tmp_path / "netrc"
    if content is not None:
        file.write_text(content)
    assert has_netrc_key("https://api.wandb.ai", {"NETRC": str(file)}) is found
