"""Collects what happens in one trial, step by step, and writes it as a Record to disk."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pipeline.backends import Deployment
from pipeline.config import trial_limit
from pipeline.config.trial_limit import FILES_TIMEOUT_S
from pipeline.core import disk, files, objectives, record, resolved
from pipeline.core.answers import Asked
from pipeline.core.errors import PipelineError, StepTimedOut
from pipeline.core.evaluation import Evaluation
from pipeline.core.files import RunDir
from pipeline.core.findings import Verdict
from pipeline.core.origin import Origin
from pipeline.core.plan import Plan
from pipeline.core.reasons import Reason
from pipeline.core.record import Failure, Level, Phase, Record, Timings
from pipeline.core.schema import Config
from pipeline.core.teardown import Teardown
from pipeline.core.values import now, value
from pipeline.machine import gpus, signals
from pipeline.machine.environment import describe
from pipeline.machine.progress import Progress
from pipeline.models import bottleneck
from pipeline.trial import already_there, notes

LIMIT_GRACE_S = 10.0  # beyond the trial's limit, for who looks at the clock himself and ends what he has begun
LEAST_S = 0.01  # of a deadline: none at all would be no deadline


@value
class Place:
    """Which trial of which sweep this is, and where it may write."""

    sweep_id: str
    number: int
    overrides: tuple[str, ...]
    run_dir: RunDir
    origin: Origin = Origin()  # what the overrides alone do not say
    repeat_of: int | None = None  # the number of the trial that this one measures again
    phase: Phase = "search"
    reason: Reason | None = None  # why the search proposed it
    rounds: int | None = None  # of the confirmation; None: as many as its test takes
    may_change_answers: bool = True  # by what its sweep varies; True where nobody can tell
    is_reference: bool = False  # among the trials of its sweep, the one that others are held against
    reuses: bool = False  # the server may be taken over from the trial before, and left to the next one
    cache: Path | None = None  # below which records of other sweeps may answer

    @property
    def is_of_sweep(self) -> bool:
        """Whether the folders beside it are trials of the same sweep; not those of single runs, which people name."""
        return self.run_dir.path.name == str(self.number)


@dataclass
class Story:
    """What has happened so far in one trial: the only mutable state of it, turned into a Record at the end."""

    place: Place
    config: Config
    progress: Progress
    started_at: datetime = field(default_factory=now)
    began_s: float = field(default_factory=time.monotonic)
    timings: Timings = field(default_factory=Timings)
    at: str = "run"  # the step that was last begun
    has_folder: bool = False  # the run directory is ours to write to
    plan: Plan | None = None
    deployment: Deployment | None = None
    verdict: Verdict | None = None
    settings: Mapping[str, Any] | None = None
    unsaid: str | None = None  # why the engine has not told its settings, though it was asked
    engine_version: str | None = None  # by its own word
    server: str | None = None  # of one that was there already: what it says that it is
    swapped: str | None = None  # that it is another one than before
    same_as: int | None = None
    cached_from: str | None = None
    shares: int | None = None  # the number of the trial that deployed the server
    uncached: str | None = None  # why the cache was not asked
    difference: str | None = None  # of the hardware that was named from what is there
    levels: list[Level] = field(default_factory=list)
    objective: Mapping[str, float] | None = None
    asked: Asked | None = None  # by the quality guard
    evaluation: Evaluation | None = None
    neighbours: int = 0  # other trials on this machine meanwhile
    failure: Failure | None = None
    teardown: Teardown | None = None
    stopped_by: BaseException | None = None

    def share(self, twin: Record | None) -> bool:
        """Take over what a twin measured; whether there is one. A repeat measures anew: that is what it is for."""
        if twin is None or self.place.repeat_of is not None:
            return False
        self.same_as, self.asked = twin.number, twin.asked
        self.levels, self.objective = list(twin.levels), twin.objective
        return True

    def recall(self, found: Record | None) -> bool:
        """Take over what another sweep measured; whether it did."""
        if found is None:
            return False
        self.cached_from, self.asked = found.trial_id, found.asked
        self.levels, self.objective = list(found.levels), found.objective
        return True

    def tell(self, said: str) -> None:
        """Show how far the running step is. Raises Interrupted when a signal has come."""
        signals.check()
        self.progress.step(self.at, said)

    @property
    def left_s(self) -> float:
        """What is left of the time that the trial may take, in seconds: negative when it is over."""
        uncounted = sum(done.seconds for done in self.timings.done if done.step in trial_limit.UNCOUNTED)
        return trial_limit.of(self.config) - (time.monotonic() - self.began_s - uncounted)

    def insist_time(self) -> None:
        """Raise StepTimedOut when the trial has had its time."""
        if self.left_s <= 0:
            raise self._too_long()

    def _too_long(self) -> StepTimedOut:
        return StepTimedOut(
            f"The trial did not end within {trial_limit.of(self.config):g} s "
            f"({'' if self.config.timeouts.trial_s else 'the sum of the limits of its steps; '}timeouts.trial_s; "
            f"downloads and waiting for GPUs do not count).",
            hint="Raise timeouts.trial_s, or give it fewer levels or a shorter traffic.max_time_per_level_s.",
        )

    @contextmanager
    def _deadline(self, name: str, timeout_s: float | None, *, is_counted: bool) -> Iterator[None]:
        """The step's own deadline or the end of the trial's time, whichever comes first."""
        grace_s = 0.0 if timeout_s else LIMIT_GRACE_S
        left_s = self.left_s + grace_s if is_counted else float("inf")
        if (timeout_s or float("inf")) <= left_s:
            with signals.deadline(timeout_s, f"Step {name}"):
                yield
            return
        try:
            with signals.deadline(max(left_s, LEAST_S), f"Step {name}"):
                yield
        except StepTimedOut as error:
            raise self._too_long() from error

    @contextmanager
    def step(
        self, name: str, *, timeout_s: float | None = None, is_held: bool = False, is_shown: bool = True
    ) -> Iterator[None]:
        """Time a step, show it, keep its failure (the first one of the trial stays), break it off when asked to.

        Signals are heard inside of steps only, and not in those that must run to their end (`is_held`).
        """
        self.at = name
        if is_shown:
            self.progress.step(name)
        start = time.monotonic()
        failed = True
        try:
            hearing = signals.held() if is_held else signals.heard()
            is_counted = not is_held and name not in (*trial_limit.UNCOUNTED, "tracker")
            with self._deadline(name, timeout_s, is_counted=is_counted), hearing:
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
            origin=place.origin,
            status=_status(story),
            is_baseline=already_there.is_baseline(story.config, place.reason),
            verdict=story.verdict,
            failure=story.failure,
            config=story.config,
            argv=_argv(planned, deployment),
            deployment={**_own(story), **(deployment.facts if deployment else {})},
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
            asked=story.asked,
            evaluation=story.evaluation,
            objective=story.objective,
            best_level=best.name if best else None,
            advice=bottleneck.advice(story.config, story.levels, best, story.settings),
            notes=notes.of(story, rewrites),
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
        DiskFull: there is no space for them.
        PipelineError: they cannot be written.
    """
    if not story.has_folder:
        return
    run_dir = story.place.run_dir
    try:
        files.save(run_dir.metrics, list(done.levels))
        files.save(run_dir.record, done)
    except OSError as error:
        if disk.is_about_it(error):
            raise disk.full(run_dir.path) from error
        raise PipelineError(
            f"The record cannot be written to {run_dir.record}: {error.strerror or error}.",
            hint="Free some disk space; genai-bench's results are in bench/ of the same folder.",
        ) from error


def _own(story: Story) -> dict[str, str]:
    """What the trial had for itself, and whose server it was."""
    own = story.plan.slots if story.plan else None
    told = {"gpus": ",".join(own.gpu_ids), "cores": ",".join(map(str, own.cores))} if own else {}
    whose = "" if story.shares is None else f"trial {story.shares}"
    made = {**told, "server_of": whose, already_there.SERVER: story.server or ""}
    return {name: said for name, said in made.items() if said}


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
