"""Runs the trials of a sweep as Slurm jobs: submits them when there is room, follows them, collects their records."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig

from pipeline.core.errors import CannotRun, FailureKind, Interrupted, JobEnded
from pipeline.core.files import SweepDir
from pipeline.core.record import Record
from pipeline.core.values import now, value
from pipeline.machine import process, signals
from pipeline.machine.progress import Progress
from pipeline.sweep import adoption, session
from pipeline.sweep.launchers import slurm, slurm_verdict
from pipeline.sweep.launchers.slurm import Seen, SlurmSilent
from pipeline.sweep.launchers.streaming import Job, Told

STOP_S = 240.0  # for the teardown, the record and the tracker of trials that were told to stop
AGAIN_S = 10.0  # a trial that has only begun may not hear a signal
LATE_S = 60.0  # until a file of another node is seen here, and until Slurm knows of a new job
LOOK_S = 1.0  # while stopping


@value
class Terms:
    """What hydra.launcher says."""

    slots: int
    poll_s: float
    pending_timeout_min: float | None
    max_requeues: int
    signal_delay_s: int
    silent_timeout_min: float | None  # None: no limit
    logs: str  # the folder of a job's logs, with %j for its id


@dataclass
class Trial:
    """A trial in the queue."""

    number: int
    overrides: Sequence[str]
    tree: DictConfig
    shown: Progress
    job: str = ""
    submitted_at: datetime = field(default_factory=now)
    seen: Seen | None = None  # as Slurm told it last
    waits_since: float | None = None  # by time.monotonic
    hopeless: str = ""  # the reason of the last look, if it was one that does not pass
    lost_since: float | None = None  # Slurm does not know it, or its record is not seen here
    requeues: int = 0
    requeued_at: float | None = None  # when Slurm itself ran the job again last, by time.monotonic
    error: JobEnded | None = None  # why we have cancelled it


class Stream:
    """Jobs of one sweep. `compose` makes the tree of a trial; `submit` gives Slurm its job, and returns the id."""

    def __init__(
        self,
        terms: Terms,
        folder: SweepDir,
        compose: Callable[[Sequence[str], int], DictConfig],
        submit: Callable[[int, Sequence[str], DictConfig], str],
    ) -> None:
        self.terms, self.folder = terms, folder
        self.compose, self.submit = compose, submit
        self.trials: list[Trial] = []
        self.silent_since: float | None = None  # by time.monotonic; None: Slurm answers

    def run(self, jobs: Iterator[Job], told: Told) -> None:
        """Run them all; `told` hears of each as soon as it has ended.

        Raises:
            CannotRun: the first trial has failed of what ails them all; none of the jobs is in the queue any more.
            SlurmSilent: it has not answered for too long; its jobs go on, and the same command with them.
            Interrupted: a signal came; none of the jobs is in the queue any more.
        """
        try:
            with signals.held():
                self._fill(jobs, told)
                while self.trials:
                    with signals.heard():
                        time.sleep(self.terms.poll_s)
                    self._look(told)
                    self._fill(jobs, told)
        except Interrupted as stop:
            signals.acknowledge()  # by what follows; a second signal waits for it
            with signals.held():
                self._stop(stop)
            raise

    def _fill(self, jobs: Iterator[Job], told: Told) -> None:
        while self.silent_since is None and len(self.trials) < self.terms.slots and (job := next(jobs, None)):
            number, overrides = job
            trial = Trial(number, overrides, self.compose(overrides, number), session.display().beside())
            trial.shown.begin(number, session.telling(overrides))
            self.trials.append(trial)
            self._give(trial, told)
            signals.check()

    def _give(self, trial: Trial, told: Told) -> None:
        """Submit it; one that Slurm does not take has ended. A Slurm that does not answer is asked again."""
        trial.job, trial.submitted_at, trial.seen = "", now(), None
        trial.waits_since = trial.lost_since = trial.requeued_at = None
        try:
            trial.job = self.submit(trial.number, trial.overrides, trial.tree)
        except SlurmSilent as error:
            self._is_silent(error)
        except JobEnded as error:
            self._bury(trial, error, told)
        else:
            self.silent_since = None
            trial.shown.step("queue", f"job {trial.job} submitted")

    def _look(self, told: Told) -> None:
        """Ask for all jobs at once. A Slurm that does not answer is asked again: the jobs go on without it."""
        given = [trial for trial in self.trials if trial.job]
        for trial in [trial for trial in self.trials if not trial.job]:
            self._give(trial, told)
        try:
            found = slurm.look([trial.job for trial in given]) if given else {}
        except SlurmSilent as error:
            self._is_silent(error)
            return
        if given:
            self.silent_since = None
        for trial in given:
            with suppress(SlurmSilent):
                self._follow(trial, found.get(trial.job) or self._unknown(trial), told)

    def _is_silent(self, error: SlurmSilent) -> None:
        """Say so, for as long as there is patience."""
        self.silent_since = self.silent_since or time.monotonic()
        for trial in self.trials:
            trial.shown.step("queue", f"job {trial.job}: {error}" if trial.job else f"not submitted: {error}")
        limit_min = self.terms.silent_timeout_min
        if limit_min is not None and time.monotonic() - self.silent_since > 60 * limit_min:
            raise slurm_verdict.gone(error, limit_min, {trial.job: trial.number for trial in self.trials if trial.job})

    def _unknown(self, trial: Trial) -> Seen | None:
        """A job that Slurm has forgotten; None for one that it may not know yet."""
        is_over = self._is_late(trial)
        return Seen(job=trial.job, state="UNKNOWN") if is_over else None

    def _is_late(self, trial: Trial) -> bool:
        trial.lost_since = trial.lost_since or time.monotonic()
        return time.monotonic() - trial.lost_since > LATE_S

    def _follow(self, trial: Trial, seen: Seen | None, told: Told) -> None:
        if seen is None:
            return
        before, trial.seen = trial.seen, seen
        if seen.has_ended:
            self._end(trial, seen, told)
            return
        if seen.state in slurm.WAITING:
            self._await(trial, seen)
        else:
            trial.waits_since, trial.hopeless = None, ""
            trial.shown.step("run", f"job {seen.job} {seen.state.lower()} on {seen.node or 'its node'}")
        if seen.restarts > (before.restarts if before else 0) and trial.error is None:
            trial.requeues, trial.requeued_at = trial.requeues + 1, time.monotonic()
            trial.shown.step("queue", f"job {seen.job} requeued by Slurm: its trial starts again")
        if trial.requeued_at is not None and trial.error is None:
            self._judge(trial, seen, time.monotonic() - trial.requeued_at)

    def _await(self, trial: Trial, seen: Seen) -> None:
        trial.shown.step("queue", f"job {seen.job} pending: {seen.reason}")
        trial.waits_since = trial.waits_since or time.monotonic()
        limit_min = self.terms.pending_timeout_min
        is_hopeless = seen.is_hopeless and trial.hopeless == seen.reason  # twice: a reason may be of the moment
        is_over = limit_min is not None and time.monotonic() - trial.waits_since > 60 * limit_min
        trial.hopeless = seen.reason if seen.is_hopeless else ""
        if is_hopeless or is_over:
            self._condemn(trial, slurm_verdict.never_started(seen, limit_min if is_over else None))

    def _judge(self, trial: Trial, seen: Seen, since_s: float) -> None:
        """Whether a job that Slurm runs again may: after a preemption. Accounting may tell late that a node died."""
        is_open = seen.state in slurm.WAITING or since_s < LATE_S
        if is_open and "NODE_FAIL" in slurm.past(seen.job):
            self._condemn(trial, slurm_verdict.node_failed(seen))
        elif trial.requeues > self.terms.max_requeues:
            self._condemn(trial, slurm_verdict.preempted(seen, trial.requeues))

    def _condemn(self, trial: Trial, error: JobEnded) -> None:
        """Cancel a job; its trial has failed for that reason."""
        if trial.error is None:
            slurm.cancel([trial.job])
            trial.error = error

    def _end(self, trial: Trial, seen: Seen, told: Told) -> None:
        found = adoption.record_of(self.folder.trial(trial.number))
        if found is None and seen.state == "COMPLETED" and not self._is_late(trial):
            return
        past = slurm.past(seen.job) | slurm.logged(self._logs(trial))
        error = trial.error or slurm_verdict.of(seen, past, self._stopped_by(found), self.terms)
        if self._may_run_again(trial, error, found):
            trial.requeues += 1
            trial.shown.step("queue", f"job {seen.job} was preempted: its trial is submitted again")
            adoption.put_aside(self.folder, trial.number)
            self._give(trial, told)
            return
        self._bury(trial, error, told)

    def _may_run_again(self, trial: Trial, error: JobEnded, found: Record | None) -> bool:
        return (
            error.kind == FailureKind.PREEMPTED
            and not adoption.is_final(found)
            and trial.requeues < self.terms.max_requeues
        )

    def _stopped_by(self, found: Record | None) -> str | None:
        """The signal that the trial's record names."""
        if found is None or found.status != "interrupted" or found.failure is None:
            return None
        seen = re.search(r"SIG\w+", found.failure.message)
        return seen[0] if seen else None

    def _logs(self, trial: Trial) -> Path:
        return Path(self.terms.logs.replace("%j", trial.job))

    def _bury(self, trial: Trial, error: JobEnded | Interrupted, told: Told | None) -> None:
        """Its record, its own or ours, and the end of it."""
        if isinstance(error, JobEnded) and trial.job:
            error = JobEnded(f"{error} Logs: {self._logs(trial)}", kind=error.kind, hint=error.hint)
        self.trials.remove(trial)
        has_begun = session.folder_of(trial.tree).exists()
        done, result = session.bury(trial.tree, error, started_at=trial.submitted_at)
        if told and self._ails_all(done, has_begun=has_begun):
            raise self._given_up(trial, done)
        trial.shown.ended(done)
        if told:
            told(trial.number, result)

    def _ails_all(self, done: Record, *, has_begun: bool) -> bool:
        """Whether the first trial has failed of what every other one would fail of: no trial has had its plan made."""
        if next(self.folder.path.glob(f"*/{self.folder.trial(0).plan.name}"), None):
            return False
        kind = done.failure.kind if done.failure else None
        return session.is_for_all(done) or (kind == FailureKind.WORKER_DIED and not has_begun)

    def _given_up(self, trial: Trial, done: Record) -> CannotRun:
        """Leave no job in the queue, and the trials to the same command, given again; what to tell."""
        others, self.trials = self.trials, []
        jobs = [one.job for one in others if one.job]
        with suppress(SlurmSilent):
            slurm.tell_to_stop(jobs)
            if not process.wait_until(lambda: _have_ended(jobs), timeout_s=STOP_S, interval_s=LOOK_S):
                slurm.cancel(jobs)
        for one in (trial, *others):
            adoption.put_aside(self.folder, one.number)
        seen, failure = f"trial {trial.number}, job {trial.job}", done.failure
        where = f" on {trial.seen.node}" if trial.seen and trial.seen.node else ""
        return CannotRun(
            f"No trial of this sweep can run where Slurm runs it: {failure.message if failure else done.status} "
            f"({seen}{where}). Nothing else was submitted; what waited in the queue is cancelled.",
            kind=failure.kind if failure else None,
            hint=f"{failure.hint if failure else ''} Then give the same command again. What the job left: "
            f"{self.folder.attempts}.".lstrip(),
        )

    def _stop(self, stop: Interrupted) -> None:
        """Have every trial torn down by its own job, and leave none in the queue.

        By SIGTERM, whatever came to us: a scancel of Slurm's own would leave them its KillWait alone.
        """
        end, again = time.monotonic() + STOP_S, 0.0
        while self.trials and time.monotonic() < end + STOP_S:
            jobs = [trial.job for trial in self.trials if trial.job]
            with suppress(SlurmSilent):
                if time.monotonic() > end:
                    slurm.cancel(jobs)
                elif time.monotonic() > again:
                    again = time.monotonic() + AGAIN_S
                    slurm.tell_to_stop(jobs)
                found = slurm.look(jobs) if jobs else {}
                for trial in [one for one in self.trials if one.job not in found or found[one.job].has_ended]:
                    self._settle(trial, stop)
            time.sleep(LOOK_S)

    def _settle(self, trial: Trial, stop: Interrupted) -> None:
        """The end of a trial that was told to stop; nothing where it had not begun."""
        if session.folder_of(trial.tree).exists():
            self._bury(trial, stop, None)
        else:
            self.trials.remove(trial)


def _have_ended(jobs: Sequence[str]) -> bool:
    found = slurm.look(jobs) if jobs else {}
    return all(seen.has_ended for seen in found.values())
