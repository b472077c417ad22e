"""The messages between a tracker and the process that publishes for it, as values."""

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
    """Publish the end of a sweep: its own run; or W&B's Report, of which offline only a script is written."""

    what: Literal["run", "report"]
    result: SweepResult
    tracker: schema.Tracker
    sweep: Path


@value
class Request:
    """One job, and how long it may take before we are ended, in seconds."""

    job: TrialJob | SweepJob
    patience_s: float
    is_offline: bool = False  # the server is away: do not ask it


@value
class Answer:
    """What became of it: `error` and `hint`, or where it went. `is_online`: it went there, or tried to."""

    where: str | None = None
    is_online: bool = False
    error: str | None = None
    hint: str = ""
    note: str = ""  # that the server is away since now, and what comes of that
