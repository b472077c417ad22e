"""Weights & Biases: one run per trial, in a group per sweep, offline unless there is an API key.

This side does not import wandb: it sends each record to a separate process (`wandb_publisher.py`), which can be ended
when wandb hangs. That process starts while the first engine loads and serves all trials of this process.
"""

import os
import time
from dataclasses import replace

from pipeline.core import schema
from pipeline.core.errors import TrackerFailed
from pipeline.core.files import RunDir, SweepDir
from pipeline.core.record import Record
from pipeline.core.values import parse, plain
from pipeline.machine.companion import Companion
from pipeline.trackers.result import SweepResult
from pipeline.trackers.wandb_jobs import Answer, Request, SweepJob, TrialJob

# A user's shell may be inside another run; its identity is not ours to continue.
FOREIGN = ("WANDB_SERVICE", "WANDB_RUN_ID", "WANDB_RESUME", "WANDB_SWEEP_ID", "WANDB_NOTES")


class WandB:
    """Publishes each record as a W&B run; offline runs lie in <sweep>/wandb/."""

    def __init__(self) -> None:
        self.publisher: Companion | None = None
        self.is_ready = False

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
        return self._do(TrialJob(record=record, tracker=config, run_dir=path), SweepDir(path.parent)).where

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
        if run.is_online:
            return (f"W&B: {run.where}", f"W&B report: {report.where}")
        return (f"W&B: offline. To upload: make sync; then for the report: {again}",)

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
            self._start(job.tracker, sweep)
            answer = self._ask(Request(job=job), job.tracker.timeout_s)
        except OSError as error:
            raise TrackerFailed(f"W&B could not be started: {error.strerror or error}.") from error
        except BaseException:
            self.close()  # broken off: what it is at must not go on
            raise
        if answer.error is not None:
            raise TrackerFailed(answer.error, hint=answer.hint)
        return answer

    def _ask(self, request: Request, timeout_s: float) -> Answer:
        end = time.monotonic() + timeout_s
        self.wait_ready(timeout_s=timeout_s)
        answer = None
        if self.publisher and self.is_ready:
            self.publisher.send(plain(request))
            answer = self.publisher.answer(timeout_s=end - time.monotonic())
        if self.publisher is None or answer is None:
            what = "record" if isinstance(request.job, TrialJob) else "sweep"
            how = f"did not accept the {what} in time" if self.publisher and self.publisher.is_alive else "ended"
            log = self.publisher.log if self.publisher else "tracker.log"
            raise TrackerFailed(f"W&B {how} (tracker.timeout_s={timeout_s:g}); see {log}.")
        return parse(Answer, answer)


def _is_off(config: schema.Tracker) -> bool:
    return config.mode == "auto" and os.environ.get("WANDB_MODE") == "disabled"


def _environment() -> dict[str, str]:
    quiet = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": os.environ.get("WANDB_ERROR_REPORTING", "false")}
    return {name: text for name, text in os.environ.items() if name not in FOREIGN} | quiet
