"""Sends to MLflow what of a sweep waits for it, by its records."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline import trackers
from pipeline.core.errors import TrackerFailed
from pipeline.core.files import SweepDir
from pipeline.core.record import Record
from pipeline.report import publication, summary
from pipeline.trackers.mlflow import SWEEP, URI

NO_SERVER = f"""\
error: {URI} is not set: {{count}} of {{folder}} wait to be sent to MLflow.
hint: Set it to the server's URL, e.g. export {URI}=http://localhost:5000
"""


def waiting(folder: Path) -> Iterator[Path]:
    """The folders of the sweeps in there of which something waits, the folder itself among them."""
    for path, folders, _ in os.walk(folder):
        if next(SweepDir(Path(path)).mlflow_waiting("").glob("*"), None):
            yield Path(path)
        folders[:] = [name for name in folders if not (Path(path) / name / "record.json").exists()]


def send(folder: Path) -> int:
    """Send it, trial by trial, then the sweep's own run; 1: something still waits."""
    sweep = SweepDir(folder)
    names = [path.name for path in sweep.mlflow_waiting("").glob("*") if path.name != SWEEP]
    if not os.environ.get(URI):
        sys.stderr.write(NO_SERVER.format(count=f"{len(names)} trials", folder=folder))
        return 1
    sweep.mlflow_away.unlink(missing_ok=True)
    records = summary.read(sweep)
    try:
        sent = [_publish(record, sweep) for record in records if str(record.number) in names]
        for line in _publish_sweep(records, sweep):
            print(line)
    except TrackerFailed as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return 1
    finally:
        trackers.close()
    print(f"MLflow: sent {len(sent)} of {len(names)} trials of {folder}.")
    return 0 if len(sent) == len(names) else 1


def _publish(record: Record, sweep: SweepDir) -> str | None:
    config = replace(record.config.tracker, mode="online")
    return trackers.load(config.target).publish(record, config, sweep.trial(record.number))


def _publish_sweep(records: list[Record], sweep: SweepDir) -> tuple[str, ...]:
    if not records:
        return ()
    config = replace(records[-1].config.tracker, mode="online")
    return trackers.load(config.target).publish_sweep(publication.result_of(records, sweep), config, sweep)
