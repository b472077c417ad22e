"""Writes the record of a trial whose process ended before it could, from the files in its folder."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from pydantic import ValidationError

from pipeline.backends import lease, teardown
from pipeline.config import planning
from pipeline.core import capacity, files, loads, readable, record
from pipeline.core.errors import FailureKind, Interrupted, JobEnded, PipelineError, WorkerDied
from pipeline.core.files import RunDir
from pipeline.core.plan import LevelPlan, Plan
from pipeline.core.record import Level, Record
from pipeline.core.schema import Config
from pipeline.core.teardown import Teardown
from pipeline.core.values import load
from pipeline.machine import identity
from pipeline.machine.progress import Silent
from pipeline.trial import levels
from pipeline.trial.levels import skipped
from pipeline.trial.story import Place, Story, to_record

SKEW = timedelta(minutes=5)  # between the clock of a cluster's node and ours


def write(
    place: Place, config: Config, error: WorkerDied | Interrupted, *, at: str = "run", started_at: datetime
) -> Record:
    """Tear down what the trial may have left, then its record: the one that it left itself, or one of how far it came.

    The keeper may be at the same teardown: both go by the label, and what is gone is gone.
    """
    seen = tear_down(place.run_dir)
    found = _load(place.run_dir)
    skew = SKEW if isinstance(error, JobEnded) else timedelta()
    if found and found.started_at >= started_at - skew:
        return _corrected(found, error, place.run_dir)
    place.run_dir.path.mkdir(parents=True, exist_ok=True)
    story = Story(place, config, Silent(), started_at=started_at)
    story.has_folder = found is None  # an older trial's record stays
    story.stopped_by = error if isinstance(error, Interrupted) else None
    story.failure = record.failure(at, error)
    story.teardown = seen
    story.plan = _plan(place.run_dir)
    story.levels = list(levels_left(story.plan, config)) if story.plan else []
    return to_record(story)


def _corrected(found: Record, error: WorkerDied | Interrupted, run_dir: RunDir) -> Record:
    """The trial's own record; but the scheduler knows why it ended where the trial may have seen its engine die."""
    if not isinstance(error, JobEnded):
        return found
    vague = {"interrupted"} if error.kind == FailureKind.WORKER_DIED else {"interrupted", "failed"}
    if found.status not in vague or (found.failure and found.failure.kind == FailureKind.STOPPED):
        return found
    at = found.failure.step if found.failure else "run"
    done = replace(found, status="failed", failure=record.failure(at, error))
    files.save(run_dir.record, done)
    return done


def _load(run_dir: RunDir) -> Record | None:
    try:
        return readable.read(Record, run_dir.record)
    except (OSError, ValidationError):
        return None


def _plan(run_dir: RunDir) -> Plan | None:
    try:
        return replace(load(Plan, run_dir.plan), run_dir=run_dir.path)  # the folder may have been moved
    except (OSError, ValidationError):
        return None


def tear_down(run_dir: RunDir) -> Teardown | None:
    """Remove what a trial has left; how that ended, None if the trial never came to own anything."""
    try:
        here = run_dir.path.resolve()  # the folder may have been moved, or be the copy of one that lives on
        owned = replace(lease.current(replace(load(lease.Lease, run_dir.lease), run_dir=here)), run_dir=here)
    except (OSError, ValidationError):
        return None
    if owned.released and owned.released.is_clean:
        return owned.released
    if "docker" in owned.backend and owned.owner.host != identity.of().host:
        return _elsewhere(owned)
    return teardown.run(owned, by="reaper")


def _elsewhere(owned: lease.Lease) -> Teardown:
    """A node's Docker cannot be looked at from here; processes end with their batch job, objects are in the cluster."""
    words = f"it ran on {owned.owner.host}: run python -m pipeline.reap on that host"
    outcome = Teardown(by="reaper", seconds=0.0, remaining=(), error=words)
    with suppress(OSError):
        lease.release(owned, outcome)
    return outcome


def _planned(planned: Plan, config: Config) -> Iterator[LevelPlan]:
    """The levels of the plan, or those that were begun where the trial chose them itself."""
    for level in planned.levels:
        begun = RunDir(planned.run_dir).level(level.scenario, level.folder).parent.glob("[0-9]*")
        found = {loads.of_folder(one.name) for one in begun} - {None} if capacity.is_wanted(config.traffic) else set()
        demands = sorted(one for one in found if one is not None)
        yield from (planning.level(config, level.scenario, one) for one in demands) if demands else (level,)


def levels_left(planned: Plan, config: Config) -> Iterator[Level]:
    """What genai-bench had written is a result; the rest was not run."""
    for level in _planned(planned, config):
        try:
            yield levels.read(config, planned, level)
        except PipelineError:
            yield skipped(level, "the trial ended before it was done", FailureKind.NOT_RUN)
