"""Collects what happens in one trial, step by step, and writes it as a Record to disk."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pipeline.backends import Deployment
from pipeline.core import files, objectives, record, resolved
from pipeline.core.errors import PipelineError
from pipeline.core.files import RunDir
from pipeline.core.findings import Verdict
from pipeline.core.plan import Plan
from pipeline.core.reasons import Reason
from pipeline.core.record import Failure, Level, Phase, Record, Timings
from pipeline.core.resolved import Rewrite
from pipeline.core.schema import Config
from pipeline.core.teardown import Teardown
from pipeline.core.values import now, value
from pipeline.engines.prefix_cache import FAILED
from pipeline.engines.versions import is_same_release
from pipeline.machine import gpus, signals
from pipeline.machine.environment import describe
from pipeline.machine.progress import Progress

FILES_TIMEOUT_S = 30.0  # for writing the lease, for writing the record


@value
class Place:
    """Which trial of which sweep this is, and where it may write."""

    sweep_id: str
    number: int
    overrides: tuple[str, ...]
    run_dir: RunDir
    repeat_of: int | None = None  # the number of the trial that this one measures again
    phase: Phase = "search"
    reason: Reason | None = None  # why the search proposed it
    rounds: int | None = None  # of the confirmation; None: as many as its test takes
    reuses: bool = False  # the server may be taken over from the trial before, and left to the next one
    cache: Path | None = None  # below which records of other sweeps may answer


@dataclass
class Story:
    """What has happened so far in one trial: the only mutable state of it, turned into a Record at the end."""

    place: Place
    config: Config
    progress: Progress
    started_at: datetime = field(default_factory=now)
    timings: Timings = field(default_factory=Timings)
    at: str = "run"  # the step that was last begun
    has_folder: bool = False  # the run directory is ours to write to
    plan: Plan | None = None
    deployment: Deployment | None = None
    verdict: Verdict | None = None
    settings: Mapping[str, Any] | None = None
    unsaid: str | None = None  # why the engine has not told its settings, though it was asked
    engine_version: str | None = None  # by its own word
    same_as: int | None = None
    cached_from: str | None = None
    shares: int | None = None  # the number of the trial that deployed the server
    uncached: str | None = None  # why the cache was not asked
    difference: str | None = None  # of the hardware that was named from what is there
    levels: list[Level] = field(default_factory=list)
    objective: Mapping[str, float] | None = None
    neighbours: int = 0  # other trials on this machine meanwhile
    failure: Failure | None = None
    teardown: Teardown | None = None
    stopped_by: BaseException | None = None

    def share(self, twin: Record | None) -> bool:
        """Take over what a twin measured; whether there is one. A repeat measures anew: that is what it is for."""
        if twin is None or self.place.repeat_of is not None:
            return False
        self.same_as, self.levels, self.objective = twin.number, list(twin.levels), twin.objective
        return True

    def recall(self, found: Record | None) -> bool:
        """Take over what another sweep measured; whether it did."""
        if found is None:
            return False
        self.cached_from, self.levels, self.objective = found.trial_id, list(found.levels), found.objective
        return True

    def tell(self, said: str) -> None:
        """Show how far the running step is. Raises Interrupted when a signal has come."""
        signals.check()
        self.progress.step(self.at, said)

    @contextmanager
    def step(self, name: str, *, timeout_s: float | None = None, is_held: bool = False) -> Iterator[None]:
        """Time a step, show it, keep its failure (the first one of the trial stays), break it off when asked to.

        Signals are heard inside of steps only, and not in those that must run to their end (`is_held`).
        """
        self.at = name
        self.progress.step(name)
        start = time.monotonic()
        failed = True
        try:
            hearing = signals.held() if is_held else signals.heard()
            with signals.deadline(timeout_s, f"Step {name}"), hearing:
                yield
            failed = False
        except BaseException as error:
            self.failure = self.failure or record.failure(name, error)
            raise
        finally:
            self.timings.add(name, time.monotonic() - start, failed=failed)


def to_record(story: Story) -> Record:
    """The record, on disk. Not being able to write it is the one error that only the caller can be told."""
    place, planned, deployment = story.place, story.plan, story.deployment
    with story.step("record", timeout_s=FILES_TIMEOUT_S, is_held=True):
        best = objectives.best_level(story.levels, story.config)
        rewrites = resolved.rewrites(story.config, story.settings)
        done = Record(
            trial_id=f"{place.sweep_id}/{place.number}",
            sweep_id=place.sweep_id,
            number=place.number,
            overrides=place.overrides,
            status=_status(story),
            is_baseline=story.config.is_baseline,
            verdict=story.verdict,
            failure=story.failure,
            config=story.config,
            argv=_argv(planned, deployment),
            deployment={**_own(planned), **(deployment.facts if deployment else {}), **_shared(story)},
            settings=story.settings,
            settings_unknown=story.unsaid,
            engine_version=story.engine_version,
            rewrites=rewrites,
            repeat_of=place.repeat_of,
            phase=place.phase,
            reason=place.reason,
            rounds=place.rounds,
            same_as=story.same_as,
            cached_from=story.cached_from,
            levels=tuple(story.levels),
            objective=story.objective,
            best_level=best.name if best else None,
            notes=_notes(story, rewrites),
            steps=tuple(story.timings.done),
            teardown=story.teardown,
            environment={**describe(), **gpus.describe()},
            started_at=story.started_at,
            ended_at=now(),
        )
        save(story, done)
    return done


def save(story: Story, done: Record) -> None:
    """Write the record and the levels; nothing where preflight refused the folder.

    Raises:
        PipelineError: they cannot be written.
    """
    if not story.has_folder:
        return
    run_dir = story.place.run_dir
    try:
        files.save(run_dir.metrics, list(done.levels))
        files.save(run_dir.record, done)
    except OSError as error:
        raise PipelineError(
            f"The record cannot be written to {run_dir.record}: {error.strerror or error}.",
            hint="Free some disk space; genai-bench's results are in bench/ of the same folder.",
        ) from error


def _notes(story: Story, rewrites: Sequence[Rewrite]) -> tuple[str, ...]:
    """What a reader of the numbers has to know."""
    foreseen = story.verdict.findings if story.verdict else ()
    return (
        *(f"{finding.verdict}: {finding.reason}" for finding in foreseen if finding.verdict != "refused"),
        *(f"{item.knob}: asked {item.asked}, the engine set {item.got}" for item in rewrites),
        *([] if story.difference is None else [f"warned: {story.difference}"]),
        *_unknown(story),
        *([] if story.same_as is None else [f"same settings as trial {story.same_as}, whose levels are shown"]),
        *([] if story.cached_from is None else [f"cached: measured as trial {story.cached_from} of another sweep"]),
        *([] if story.uncached is None else [f"cache=read was not used: {story.uncached}"]),
        *([_crowd(story)] if story.neighbours else []),
        *_uncleared(story.levels),
        *(f"{level.name}: {note}" for level in story.levels for note in level.warnings),
    )


def _uncleared(levels: Sequence[Level]) -> Iterator[str]:
    """A note for each reason why the prefix cache was not cleared, with the levels."""
    reasons = dict.fromkeys(level.cache_reset for level in levels if level.cache_reset.startswith(FAILED))
    for reason in reasons:
        names = ", ".join(level.name for level in levels if level.cache_reset == reason)
        yield f"warned: the prefix cache was not cleared before {names}: {reason.removeprefix(FAILED)}"


def _unknown(story: Story) -> Iterator[str]:
    """What the engine did not say of itself, and where what it said is not what was planned with."""
    if story.unsaid:
        told = filter(None, (story.unsaid, story.config.runtime.tells.settings_help))
        yield f"settings unknown: {'. '.join(told)}. Whether the engine set knobs to other values cannot be told"
    said, planned = story.engine_version, story.config.runtime.version
    if said and planned and not is_same_release(said, planned):
        yield (
            f"the engine is version {said}, runtime.version is {planned}: its flags and rules were "
            "taken for those of the latter"
        )


def _crowd(story: Story) -> str:
    own = story.plan.slots if story.plan else None
    shared = "memory, buses and the cores of the load generator" if own and (own.cores or own.gpu_ids) else "CPU cores"
    return (
        f"warned: {story.neighbours} other trial{'s' * (story.neighbours > 1)} ran on this machine meanwhile and "
        f"shared {shared}: measure important trials again, one at a time"
        + ("" if shared != "CPU cores" else ", or give each trial its own cores (hardware.cores_per_trial)")
    )


def _own(planned: Plan | None) -> dict[str, str]:
    """What the trial had for itself."""
    own = planned.slots if planned else None
    told = {"gpus": ",".join(own.gpu_ids), "cores": ",".join(map(str, own.cores))} if own else {}
    return {name: ids for name, ids in told.items() if ids}


def _shared(story: Story) -> dict[str, str]:
    return {} if story.shares is None else {"server_of": f"trial {story.shares}"}


def _status(story: Story) -> Literal["ok", "failed", "refused", "interrupted"]:
    if story.stopped_by is not None:
        return "interrupted"
    if story.verdict and story.verdict.word == "refused":
        return "refused"
    return "failed" if story.failure else "ok"


def _argv(planned: Plan | None, deployment: Deployment | None) -> tuple[str, ...]:
    if planned is None:
        return ()
    port = str(deployment.port) if deployment else "{port}"
    return tuple(part.replace("{port}", port) for part in planned.argv)
