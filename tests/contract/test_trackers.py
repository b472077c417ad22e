"""What every tracker of conf/tracker/ does with every kind of record."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import yaml

from pipeline.core.errors import FailureKind
from pipeline.core.files import RunDir, SweepDir, save
from pipeline.core.schema import Tracker
from pipeline.core.values import parse
from pipeline.report.publication import result_of
from pipeline.trackers import close, load
from support.records import make_failed_record, make_failure, make_record

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
    return parse(Tracker, yaml.safe_load(request.param.read_text()))


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
    assert set(psutil.Process().children(recursive=True)) == before
    assert capfd.readouterr() == ("", "")


def test_publishes_without_a_record_on_disk(config: Tracker, tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "sweep" / "7")
    load(config.target).publish(make_failed_record(), config, run_dir)
    close()
