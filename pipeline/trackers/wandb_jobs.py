"""The messages between the two processes of the W&B tracker, as values."""

from pathlib import Path
from typing import Literal

from pipeline.core import schema
from pipeline.core.record import Record
from pipeline.core.values import value
from pipeline.trackers.result import SweepResult


@value
class TrialJob:
    """Publish a trial."""

    record: Record
    tracker: schema.Tracker
    run_dir: Path


@value
class SweepJob:
    """Publish the end of a sweep: its own run; or its W&B Report, of which offline only a script is written."""

    what: Literal["run", "report"]
    result: SweepResult
    tracker: schema.Tracker
    sweep: Path


@value
class Request:
    """One job."""

    job: TrialJob | SweepJob


@value
class Answer:
    """What became of it: `error` and `hint`, or where it went."""

    where: str | None = None
    is_online: bool = False
    error: str | None = None
    hint: str = ""
