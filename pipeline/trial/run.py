"""One trial: preflight, model, deploy, health-check, warm-up, genai-bench per level, teardown, record, tracker.

Read `_deploy_and_measure` first. Whatever happens in it, afterwards teardown has run and a record is on disk.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

from pipeline import backends, bench, trackers
from pipeline.backends import Backend, Deployment, keeper, lease, teardown
from pipeline.bench import Runner
from pipeline.config import planning
from pipeline.config.trial_limit import FILES_TIMEOUT_S, HEALTH_GRACE_S, WARMUP_GRACE_S
from pipeline.core import files, objectives, plan, record
from pipeline.core.errors import PipelineError, Stopped, TeardownFailed, TrackerFailed, WarmupFailed
from pipeline.core.files import RunDir, SweepDir
from pipeline.core.plan import Assets, Plan
from pipeline.core.record import Record
from pipeline.core.schema import Config
from pipeline.core.teardown import Teardown
from pipeline.engines import http
from pipeline.machine import claims, process, signals, slots
from pipeline.machine.progress import Progress
from pipeline.trial import (
    asking,
    at_work,
    cached,
    capacity,
    checks,
    evals,
    guard,
    hardware,
    health,
    incumbent,
    kept,
    preflight,
    twin,
)
from pipeline.trial.kept import Tenant
from pipeline.trial.levels import Ladder
from pipeline.trial.story import Place, Story, save, to_record

TRACKER_LEAST_S = 30.0  # with less than this, what the tracker's server does not take could not be written here either
DEATH_S = 1.0  # between a connection that breaks and the end of the process behind it


def run(config: Config, place: Place, progress: Progress) -> Record:
    """Run one trial to its record, also where somebody has stopped it alone.

    Raises:
        Interrupted: a signal stopped it; the record is written all the same.
    """
    story = Story(place, config, progress)
    with signals.interruptible(), signals.held(), at_work.noted(story):
        try:
            _deploy_and_measure(story)
        except BaseException as error:  # noqa: BLE001 - recorded; raised again below if it is not an Exception
            story.failure = story.failure or record.failure(story.at, error)
            _note_stop(story, error)
        done = _track(story, guard.judged(to_record(story), place))
        if story.has_folder:
            claims.give_back(place.run_dir.owners)
    progress.ended(done)
    if story.stopped_by is not None and not isinstance(story.stopped_by, Stopped):
        raise story.stopped_by
    return done


def _note_stop(story: Story, error: BaseException) -> None:
    """Remember what stops the trial: what ends the sweep, too, before the wish for the end of the trial alone."""
    if isinstance(error, Stopped):
        story.stopped_by = story.stopped_by or error
        signals.acknowledge_alone()
        return
    if not isinstance(error, Exception) and (story.stopped_by is None or isinstance(story.stopped_by, Stopped)):
        story.stopped_by = error
    signals.acknowledge()


def _deploy_and_measure(story: Story) -> None:
    if (runner := _foreseen(story)) is None:
        return
    planned = _fetched(story, runner)
    with ExitStack() as stack:
        tenant, deployment = _server(story, planned, stack)
        planned = story.plan or planned  # with the GPUs and cores that the trial has for itself
        if _is_measured(story, planned, deployment, runner) and story.place.reuses and kept.is_fit(story):
            kept.keep(tenant, deployment, stack.pop_all())


def _foreseen(story: Story) -> Runner | None:
    """All that is known before anything is deployed; None where an earlier trial's result is this one's."""
    config = story.config
    sweep = SweepDir(story.place.run_dir.path.parent)
    with story.step("preflight", timeout_s=config.timeouts.preflight_s):
        _claim(story)
        story.verdict = preflight.foresee(config)
        story.difference = hardware.difference(config)
        if story.place.is_of_sweep and story.share(twin.by_rules(sweep, config, story.verdict)):
            return None
        preflight.refuse(story.verdict)
        if story.place.cache and story.recall(cached.find(story)):
            return None
        http.use(config.backend)
        is_there = config.backend.is_endpoint  # a key of ours would be none of its keys
        if http.API_KEY_ENV in config.runtime.secret_env.values() and config.bench.hides_key and not is_there:
            http.protect()
        if config.bench.location == "here":
            checks.connections(config)
        runner = bench.runner(config.bench, sweep.bench_log)
        runner.start()
        tracker = trackers.load(config.tracker.target)
        with suppress(Exception):  # what ails the tracker is told when it is given the record; it costs no trial
            tracker.start(config.tracker, story.place.run_dir)
        preflight.run(config)
    return runner


def _fetched(story: Story, runner: Runner) -> Plan:
    """What is to be deployed, with its files here."""
    with story.step("model", timeout_s=story.config.timeouts.download_s):
        assets = preflight.fetch(story.config)
        runner.start(assets.tokenizer_dir)
        story.plan = planned = _plan(story, assets)
        backends.load(planned.backend).prepare(planned, story.tell)
    return planned


def _is_measured(story: Story, planned: Plan, deployment: Deployment, runner: Runner) -> bool:
    """Measure every level; not where the engine turns out to be set as in an earlier trial: then its result counts."""
    config, timeouts = story.config, story.config.timeouts
    backend = backends.load(planned.backend)
    with story.step("health", timeout_s=planned.health.timeout_s + HEALTH_GRACE_S):
        health.wait_ready(backend, deployment, planned)
    asking.before_measuring(story, deployment)
    sweep = SweepDir(story.place.run_dir.path.parent)
    if story.place.is_of_sweep and story.share(twin.by_settings(sweep, config, story.settings)):
        return False
    with story.step("warmup", timeout_s=timeouts.warmup_s + WARMUP_GRACE_S):
        _warm_up(deployment, backend, planned, timeout_s=timeouts.warmup_s)
    if config.quality.evals.now:
        evals.run(story, deployment, planned)
        return False
    best = incumbent.of(story.place)
    ladder = Ladder(
        config, planned, deployment, backend, runner, story.progress, best,
        in_time=story.insist_time, engine_version=story.engine_version,
    )  # fmt: skip
    with story.step("bench_start"):  # what is imported meanwhile must not take time from a measurement
        runner.wait_ready(timeout_s=config.bench.start_timeout_s, watch=ladder.check)
        trackers.load(config.tracker.target).wait_ready(timeout_s=config.tracker.timeout_s)
    with story.step("bench"):
        story.neighbours = lease.neighbours(deployment.lease)
        capacity.climb(ladder, story.levels)
        story.neighbours = max(story.neighbours, lease.neighbours(deployment.lease))
        asking.after_measuring(story, deployment)
        story.objective = objectives.of(story.levels, config)
    guard.after_measuring(story, deployment, best)
    return True


def _claim(story: Story) -> None:
    """The folder is there, writable, unused, and ours alone."""
    run_dir = story.place.run_dir
    files.claim(run_dir)
    claims.take(run_dir.owners)
    files.insist_unused(run_dir)  # again: it may have been used while we asked
    story.has_folder = True


def _server(story: Story, planned: Plan, stack: ExitStack) -> tuple[Tenant, Deployment]:
    """The server of the trial before where that is the very one that we need, else a new one."""
    if found := kept.take(story, planned, stack):
        return found
    locks = stack.enter_context(_slots(story, planned))
    tenant = Tenant(story)
    return tenant, stack.enter_context(_deployed(tenant, story.plan or planned, locks))


@contextmanager
def _slots(story: Story, planned: Plan) -> Iterator[tuple[int, ...]]:
    """The trial has its GPUs and cores in this scope, and the plan says which; the open files that are their locks."""
    with ExitStack() as stack:
        with story.step("slots", timeout_s=story.config.timeouts.slots_s):
            backends.load(planned.backend).await_room(planned, story.tell)  # first: here nothing is held meanwhile
            held = stack.enter_context(slots.taken(story.config, planned.run_dir, story.tell))
            story.plan = plan.with_slots(planned, held.slots)
            files.save(story.place.run_dir.plan, story.plan)
        yield held.files


def _plan(story: Story, assets: Assets) -> Plan:
    place = story.place
    made = planning.make(
        story.config,
        assets,
        sweep_id=place.sweep_id,
        number=place.number,
        run_dir=place.run_dir.path.resolve(),
    )
    files.save(place.run_dir.config, story.config)
    return made


def _warm_up(deployment: Deployment, backend: Backend, planned: Plan, *, timeout_s: float) -> None:
    users = max(1, min(level.concurrency for level in planned.levels))

    def alive() -> None:
        signals.check()
        health.check_alive(backend, deployment, RunDir(planned.run_dir).server_log)

    try:
        health.warm_up(deployment, planned, concurrency=users, timeout_s=timeout_s, alive=alive)
    except WarmupFailed:
        process.wait_until(lambda: backend.death(deployment) is not None, timeout_s=DEATH_S)
        alive()  # its death says more
        raise


@contextmanager
def _deployed(tenant: Tenant, planned: Plan, locks: tuple[int, ...]) -> Iterator[Deployment]:
    """The server exists in this scope; it is gone, and looked for, when the scope is left in whatever way."""
    owned, story = lease.make(planned), tenant.story
    guard = None
    try:
        with story.step("lease", timeout_s=FILES_TIMEOUT_S, is_held=True):
            lease.update(owned)
            guard = keeper.start(owned, locks) if planned.keeper else None
        with story.step("deploy", timeout_s=story.config.backend.deploy_s or story.config.timeouts.deploy_s):
            story.deployment = backends.load(planned.backend).deploy(planned, owned)
        yield story.deployment
    finally:
        seen = _tear_down(tenant.story, owned)
        if guard:
            keeper.dismiss(guard, owned, is_clean=seen.is_clean)
        tenant.story.teardown = seen if seen.is_clean else lease.current(owned).released or seen


def _tear_down(story: Story, owned: lease.Lease) -> Teardown:
    """Teardown by the lease on disk. What goes wrong is kept, never raised: the trial's first error stays first."""
    timeout_s = story.config.timeouts.teardown_s
    seen = None
    try:
        with story.step("teardown", timeout_s=timeout_s, is_held=True):
            seen = teardown.run(lease.current(owned), by="trial")
            _insist(seen)
    except BaseException as error:  # noqa: BLE001 - kept in the record
        words = str(error) or type(error).__name__
        return seen or Teardown(by="trial", seconds=timeout_s, remaining=(), error=words)
    return seen


def _insist(seen: Teardown) -> None:
    if not seen.is_clean:
        raise TeardownFailed("; ".join(seen.remaining) or str(seen.error))


def _track(story: Story, done: Record) -> Record:
    """Publish; the record is complete on disk already, and is written again with what became of this."""
    config = story.config.tracker
    trouble = None
    try:
        limit_s, is_shown = max(config.timeout_s, TRACKER_LEAST_S), config.name != "none"
        with story.step("tracker", timeout_s=limit_s, is_shown=is_shown):
            trackers.load(config.target).publish(done, config, story.place.run_dir)
    except BaseException as error:  # noqa: BLE001 - recorded; raised again by `run` if it is not an Exception
        if isinstance(error, Exception) and not isinstance(error, PipelineError):
            error = TrackerFailed(f"{type(error).__name__}: {error}")
        trouble = record.failure("tracker", error)
        story.progress.step("tracker", trouble.message)
        _note_stop(story, error)
    done = replace(done, tracker=trouble, steps=tuple(story.timings.done))
    save(story, done)
    return done
