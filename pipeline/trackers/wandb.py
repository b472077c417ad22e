"""Weights & Biases: one run per trial, in a group per sweep, offline unless there is an API key.

This side does not import wandb: it sends each record to a separate process (`wandb_publisher.py`), which can be ended
when wandb hangs. That process starts while the first engine loads and serves all trials of this process.
"""

import os
import shlex
import time
from dataclasses import replace

from pipeline.core import schema
from pipeline.core.errors import TrackerFailed
from pipeline.core.files import RunDir, SweepDir
from pipeline.core.record import Record
from pipeline.core.values import parse, plain
from pipeline.machine.companion import Companion, Watch
from pipeline.trackers import wandb_away
from pipeline.trackers.jobs import Answer, Request, SweepJob, TrialJob
from pipeline.trackers.result import SweepResult
from pipeline.trackers.wandb_publisher import choose_mode, has_netrc_key

ONLINE_SHARE = 0.5  # of tracker.timeout_s: what a sweep waits for W&B in all; the rest is for writing offline instead
READY_S = 60.0  # at least, for importing wandb and for writing offline: nobody else is waited for there
USUAL_S = 10.0  # that a publication may take without being slow
OFFLINE = "From now on this sweep is written offline. To upload it later: servetune sync {folder}"
# A user's shell may be inside another run; its identity is not ours to continue.
FOREIGN = ("WANDB_SERVICE", "WANDB_RUN_ID", "WANDB_RESUME", "WANDB_SWEEP_ID", "WANDB_NOTES")


class WandB:
    """Publishes each record as a W&B run; offline runs lie in <sweep>/wandb/."""

    def __init__(self) -> None:
        self.publisher: Companion | None = None
        self.is_ready = False
        self.lost_s = 0.0  # to a W&B that answers slowly
        self.note = ""  # that W&B is away, until that is told

    def outlook(self, config: schema.Tracker) -> str:
        """Online where there is a key; see trackers.Tracker. Other keys than the usual ones, wandb alone knows."""
        if _is_off(config):
            return "WANDB_MODE=disabled: nothing is published"
        url = os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
        has_key = bool(os.environ.get("WANDB_API_KEY")) or has_netrc_key(url, os.environ)
        if choose_mode(config.mode, user=os.environ.get("WANDB_MODE"), has_key=has_key) == "online":
            return f"runs go to {url}" + ("" if has_key else ", which wants a key: wandb login")
        why = "" if has_key else "no key (wandb login, or WANDB_API_KEY): "
        return f"{why}runs are written offline, and wait for servetune sync"

    def start(self, config: schema.Tracker, run_dir: RunDir) -> None:
        """Start the process that publishes; it imports wandb, which takes seconds."""
        self._start(config, SweepDir(run_dir.path.resolve().parent))

    def wait_ready(self, *, timeout_s: float) -> None:
        """Wait until wandb is imported."""
        if self.publisher and not self.is_ready:
            self.is_ready = self.publisher.answer(timeout_s=timeout_s) is not None

    def publish(self, record: Record, config: schema.Tracker, run_dir: RunDir) -> str | None:
        """Publish; see trackers.Tracker. WANDB_MODE=disabled publishes nothing."""
        if _is_off(config):
            return None
        path = run_dir.path.resolve()
        done = self._do(TrialJob(record=record, tracker=config, run_dir=path), SweepDir(path.parent))
        if done.note:
            raise TrackerFailed(done.note)
        return done.where

    def publish_sweep(self, result: SweepResult, config: schema.Tracker, sweep: SweepDir) -> tuple[str, ...]:
        """Publish the sweep's own run and its Report; see trackers.Tracker."""
        if _is_off(config):
            return ()
        folder = SweepDir(sweep.path.resolve())
        job = SweepJob(what="run", result=result, tracker=config, sweep=folder.path)
        run = self._do(job, folder)
        again = f"python {sweep.tracker_script}"
        try:
            report = self._do(replace(job, what="report"), folder)
        except TrackerFailed as error:  # the run is there all the same
            words = " ".join(str(error).split())
            return (f"W&B: {run.where}", f"W&B report: not saved. {words} To try again: {again}")
        if run.is_online and report.is_online:
            return (f"W&B: {run.where}", f"W&B report: {report.where}")
        if run.is_online:
            return (f"W&B: {run.where}", f"W&B report: not saved. {run.note} To try again: {again}")
        why = f" {run.note}" if run.note else ""
        return (f"W&B: offline.{why} To upload: make sync; then for the report: {again}",)

    def close(self) -> None:
        """End the publisher."""
        publisher, self.publisher, self.is_ready = self.publisher, None, False
        if publisher:
            publisher.close()

    def _start(self, config: schema.Tracker, sweep: SweepDir) -> None:
        if _is_off(config) or (self.publisher and self.publisher.is_alive):
            return
        self.close()
        sweep.tracker_log.parent.mkdir(parents=True, exist_ok=True)
        self.publisher = Companion("pipeline.trackers.wandb_publisher", log=sweep.tracker_log, env=_environment())

    def _do(self, job: TrialJob | SweepJob, sweep: SweepDir) -> Answer:
        try:
            answer = self._offline(job, sweep) if wandb_away.is_marked(sweep) else self._online(job, sweep)
        except OSError as error:
            raise TrackerFailed(f"W&B could not be started: {error.strerror or error}.") from error
        except BaseException:
            self.close()  # broken off: what it is at must not go on
            raise
        if answer.error is not None:
            raise TrackerFailed(answer.error, hint=answer.hint)
        return answer

    def _online(self, job: TrialJob | SweepJob, sweep: SweepDir) -> Answer:
        """Where W&B has no time for it, or does not take it, it is written offline, and so is all that follows."""
        budget_s = job.tracker.timeout_s * ONLINE_SHARE
        patience_s = max(budget_s - self.lost_s, min(USUAL_S, budget_s))
        self._make_ready(job, sweep)
        began = time.monotonic()
        try:
            answer = self._ask(Request(job=job, patience_s=patience_s), patience_s, watch=lambda: _look(sweep))
        except _AwayError:  # for another process of this sweep
            self.close()
            return self._offline(job, sweep)
        if answer is not None and not (answer.error and answer.is_online):
            self.lost_s += max(0.0, time.monotonic() - began - USUAL_S) if answer.is_online else 0.0
            is_slow = self.lost_s >= budget_s and wandb_away.mark(sweep)
            return (
                replace(answer, note=_note(f"W&B is slow, {self.lost_s:.0f} s were lost to it", sweep))
                if is_slow
                else answer
            )
        why = answer.error if answer and answer.error else self._silence(job, patience_s)
        if isinstance(job, SweepJob) and job.what == "report":  # a script is there instead
            raise TrackerFailed(why)
        self.close()
        if wandb_away.mark(sweep):
            self.note = _note(why, sweep)
        return self._offline(job, sweep)

    def _offline(self, job: TrialJob | SweepJob, sweep: SweepDir) -> Answer:
        """Ask nobody: written into the sweep's folder, for `sync`."""
        self._make_ready(job, sweep)
        timeout_s = max(job.tracker.timeout_s, READY_S)
        answer = self._ask(Request(job=job, patience_s=timeout_s, is_offline=True), timeout_s)
        if answer is None:
            raise TrackerFailed(self._silence(job, timeout_s))
        note, self.note = self.note, ""
        return replace(answer, note=note)

    def _make_ready(self, job: TrialJob | SweepJob, sweep: SweepDir) -> None:
        self._start(job.tracker, sweep)
        timeout_s = max(job.tracker.timeout_s, READY_S)
        self.wait_ready(timeout_s=timeout_s)
        if not self.is_ready:
            raise TrackerFailed(self._silence(job, timeout_s))

    def _ask(self, request: Request, timeout_s: float, *, watch: Watch = lambda: None) -> Answer | None:
        """None: no answer in time, or the publisher is gone."""
        if self.publisher is None:
            return None
        self.publisher.send(plain(request))
        answer = self.publisher.answer(timeout_s=timeout_s, watch=watch)
        return None if answer is None else parse(Answer, answer)

    def _silence(self, job: TrialJob | SweepJob, timeout_s: float) -> str:
        what = "record" if isinstance(job, TrialJob) else "sweep"
        how = f"did not accept the {what} in time" if self.publisher and self.publisher.is_alive else "ended"
        log = self.publisher.log if self.publisher else "tracker.log"
        limit = f"waited {timeout_s:g} s, tracker.timeout_s={job.tracker.timeout_s:g}"
        return f"W&B {how} ({limit}); see {log}."


class _AwayError(Exception):
    """Another process of this sweep has found W&B away while we were waiting for it."""


def _note(why: str, sweep: SweepDir) -> str:
    return f"{why.rstrip('.')}. {OFFLINE.format(folder=shlex.quote(str(sweep.path)))}"


def _look(sweep: SweepDir) -> None:
    if wandb_away.is_marked(sweep):
        raise _AwayError


def _is_off(config: schema.Tracker) -> bool:
    return config.mode == "auto" and os.environ.get("WANDB_MODE") == "disabled"


def _environment() -> dict[str, str]:
    quiet = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": os.environ.get("WANDB_ERROR_REPORTING", "false")}
    return {name: text for name, text in os.environ.items() if name not in FOREIGN} | quiet
