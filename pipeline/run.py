"""One trial: preflight, deploy, health-check, warm-up, genai-bench per level, teardown, record, tracker.

Read `_deploy_and_measure` first. Whatever happens in it, teardown has run and a record is on disk afterwards.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pipeline import backends, bench, engine, health, metrics, plan, preflight, process, record, trackers
from pipeline.backends import Deployment, keeper, lease, teardown
from pipeline.config import Config
from pipeline.environment import describe
from pipeline.errors import Interrupted, PipelineError, TeardownFailed, TrackerFailed
from pipeline.levels import Ladder
from pipeline.plan import Plan
from pipeline.progress import Progress
from pipeline.record import Failure, Level, Record, RunDir, SweepDir, Teardown, Timings
from pipeline.values import load, value

RECORD_TIMEOUT_S = 30.0
RECORDED = (Exception, Interrupted, KeyboardInterrupt)


@value
class Place:
    """Which trial of which sweep this is, and where it may write."""

    sweep_id: str
    number: int
    overrides: tuple[str, ...]
    run_dir: RunDir


@dataclass
class Story:
    """What has happened so far in one trial: the only mutable state of it, turned into a Record at the end."""

    place: Place
    config: Config
    progress: Progress
    started_at: datetime = field(default_factory=record.now)
    timings: Timings = field(default_factory=Timings)
    has_folder: bool = False  # the run directory is ours to write to
    plan: Plan | None = None
    deployment: Deployment | None = None
    settings: Mapping[str, Any] | None = None
    levels: list[Level] = field(default_factory=list)
    objective: Mapping[str, float] | None = None
    failure: Failure | None = None
    teardown: Teardown | None = None
    stopped_by: BaseException | None = None

    @contextmanager
    def step(self, name: str, *, timeout_s: float | None = None) -> Iterator[None]:
        """Time a step, show it, keep its failure (the first one of the trial stays), break it off when asked to."""
        self.progress.step(name)
        start = time.monotonic()
        failed = True
        try:
            if timeout_s is None:
                yield
            else:
                with process.deadline(timeout_s, f"Step {name}"):
                    yield
            process.check_interrupted()
            failed = False
        except BaseException as error:
            self.failure = self.failure or record.failure(name, error)
            raise
        finally:
            self.timings.add(name, time.monotonic() - start, failed=failed)


def run(config: Config, place: Place, progress: Progress) -> Record:
    """Run one trial to its record.

    Raises:
        Interrupted: a signal stopped it; the record is written all the same.
    """
    story = Story(place, config, progress)
    with process.interruptible():
        try:
            _deploy_and_measure(story)
        except RECORDED as error:
            story.failure = story.failure or record.failure("run", error)
            story.stopped_by = None if isinstance(error, Exception) else error
            process.acknowledge()
        with process.signals_held():
            done = _record(story)
        done = _track(story, done)
    progress.ended(done)
    if story.stopped_by is not None:
        raise story.stopped_by
    return done


def _deploy_and_measure(story: Story) -> None:
    config, timeouts = story.config, story.config.timeouts
    with story.step("preflight", timeout_s=timeouts.preflight_s):
        record.claim(story.place.run_dir)
        story.has_folder = True
        runner = bench.runner(config.bench, SweepDir(story.place.run_dir.path.parent).bench_log)
        runner.start()
        assets = preflight.run(config)
        runner.start(assets.tokenizer_dir)
        story.plan = _plan(story, assets)
    with _deployed(story, story.plan) as deployment:
        backend = backends.load(story.plan.backend)
        with story.step("health"):
            health.wait_ready(backend, deployment, story.plan)
            story.settings = _settings(deployment, story.plan)
        with story.step("warmup", timeout_s=timeouts.warmup_s):
            users = min(level.concurrency for level in story.plan.levels)
            health.warm_up(deployment, story.plan, concurrency=users, timeout_s=timeouts.warmup_s)
        with story.step("bench"):
            Ladder(config, story.plan, deployment, backend, runner, story.progress).climb(story.levels)
            story.objective = metrics.objective(story.levels, config)


def _plan(story: Story, assets: plan.Assets) -> Plan:
    place = story.place
    made = plan.make(
        story.config,
        assets,
        sweep_id=place.sweep_id,
        number=place.number,
        run_dir=place.run_dir.path.resolve(),
    )
    record.save(place.run_dir.config, story.config)
    record.save(place.run_dir.plan, made)
    return made


def _settings(deployment: Deployment, planned: Plan) -> Mapping[str, Any] | None:
    return engine.settings(deployment.url, planned.settings_path) if planned.settings_path else None


@contextmanager
def _deployed(story: Story, planned: Plan) -> Iterator[Deployment]:
    """The server exists in this scope; it is gone, and looked for, when the scope is left in whatever way."""
    with story.step("lease"):
        owned = lease.take(planned)
    try:
        with keeper.watch(owned, wanted=planned.keeper):
            try:
                with story.step("deploy", timeout_s=story.config.timeouts.deploy_s):
                    story.deployment = backends.load(planned.backend).deploy(planned, owned)
                yield story.deployment
            finally:
                with process.signals_held():
                    _tear_down(story, owned)
    finally:
        story.teardown = _last_word(owned, story.teardown)


def _tear_down(story: Story, owned: lease.Lease) -> None:
    """Teardown by the lease on disk. What goes wrong is kept, never raised: the trial's first error stays first."""
    timeout_s = story.config.timeouts.teardown_s
    try:
        with story.step("teardown", timeout_s=timeout_s):
            story.teardown = teardown.run(load(lease.Lease, RunDir(owned.run_dir).lease), by="trial")
            _insist(story.teardown)
    except Exception as error:  # noqa: BLE001 - kept in the record
        seen = story.teardown or Teardown(by="trial", seconds=timeout_s, remaining=(), error=str(error))
        story.teardown = seen


def _insist(seen: Teardown) -> None:
    if not seen.is_clean:
        raise TeardownFailed("; ".join(seen.remaining) or str(seen.error))


def _last_word(owned: lease.Lease, seen: Teardown | None) -> Teardown | None:
    """The keeper's outcome where it had to finish what the trial could not."""
    if seen is None or seen.is_clean:
        return seen
    return load(lease.Lease, RunDir(owned.run_dir).lease).released or seen


def _record(story: Story) -> Record:
    """The record, on disk. Not being able to write it is the one error that only the caller can be told."""
    place, planned, deployment = story.place, story.plan, story.deployment
    with story.step("record", timeout_s=RECORD_TIMEOUT_S):
        best = metrics.best_level(story.levels, story.config)
        done = Record(
            trial_id=f"{place.sweep_id}/{place.number}",
            sweep_id=place.sweep_id,
            number=place.number,
            overrides=place.overrides,
            status=_status(story),
            is_baseline=story.config.is_baseline,
            failure=story.failure,
            config=story.config,
            argv=_argv(planned, deployment),
            settings=story.settings,
            levels=tuple(story.levels),
            objective=story.objective,
            best_level=best.name if best else None,
            notes=tuple(note for level in story.levels for note in level.warnings),
            steps=tuple(story.timings.done),
            teardown=story.teardown,
            environment=describe(),
            started_at=story.started_at,
            ended_at=record.now(),
        )
        _save(story, done)
    return done


def _save(story: Story, done: Record) -> None:
    if not story.has_folder:
        return  # preflight refused the folder; the caller shows the record's failure
    run_dir = story.place.run_dir
    try:
        record.save(run_dir.metrics, list(done.levels))
        record.save(run_dir.record, done)
    except OSError as error:
        raise PipelineError(
            f"The record cannot be written to {run_dir.record}: {error.strerror or error}. Everything is torn down.",
            hint="Free some space; what genai-bench measured is in bench/ of the same folder.",
        ) from error


def _status(story: Story) -> Any:
    if story.stopped_by is not None:
        return "interrupted"
    return "failed" if story.failure else "ok"


def _argv(planned: Plan | None, deployment: Deployment | None) -> tuple[str, ...]:
    if planned is None:
        return ()
    port = str(deployment.port) if deployment else "{port}"
    return tuple(part.replace("{port}", port) for part in planned.argv)


def _track(story: Story, done: Record) -> Record:
    """Publish; the record is complete on disk already, and is written again with what became of this."""
    config = story.config.tracker
    trouble = None
    try:
        with story.step("tracker", timeout_s=config.timeout_s):
            trackers.load(config.target).publish(done, config, story.place.run_dir)
    except RECORDED as error:
        if isinstance(error, Exception) and not isinstance(error, PipelineError):
            error = TrackerFailed(f"{type(error).__name__}: {error}")
        trouble = record.failure("tracker", error)
        story.stopped_by = story.stopped_by or (None if isinstance(error, Exception) else error)
        process.acknowledge()
    done = replace(done, tracker=trouble, steps=tuple(story.timings.done))
    with process.signals_held():
        _save(story, done)
    return done
