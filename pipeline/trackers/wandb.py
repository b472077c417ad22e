"""Weights & Biases: one run per trial, in a group per sweep, offline unless a key is there.

This end imports no wandb: it hands each record to a process of its own (`wandb_publisher.py`), which can be ended when
wandb hangs. That process is started while the first engine loads and kept for all trials of this one.
"""

import os
import time
from typing import Any

from pipeline import schema
from pipeline.companion import Companion
from pipeline.errors import TrackerFailed
from pipeline.files import RunDir, SweepDir
from pipeline.record import Record
from pipeline.values import plain

# A user's shell may be inside another run; its identity is not ours to continue.
FOREIGN = ("WANDB_SERVICE", "WANDB_RUN_ID", "WANDB_RESUME", "WANDB_SWEEP_ID", "WANDB_NOTES")


class WandB:
    """Publishes each record as a W&B run; offline runs lie in <sweep>/wandb/."""

    def __init__(self) -> None:
        self.publisher: Companion | None = None
        self.is_ready = False

    def start(self, config: schema.Tracker, run_dir: RunDir) -> None:
        """Start the process that publishes; it imports wandb, which takes seconds."""
        if _is_off(config) or (self.publisher and self.publisher.is_alive):
            return
        self.close()
        log = SweepDir(run_dir.path.resolve().parent).tracker_log
        log.parent.mkdir(parents=True, exist_ok=True)
        self.publisher = Companion("pipeline.trackers.wandb_publisher", log=log, env=_environment())

    def wait_ready(self, *, timeout_s: float) -> None:
        """Wait until wandb is imported."""
        if self.publisher and not self.is_ready:
            self.is_ready = self.publisher.answer(timeout_s=timeout_s) is not None

    def publish(self, record: Record, config: schema.Tracker, run_dir: RunDir) -> str | None:
        """Publish; see trackers.Tracker. WANDB_MODE=disabled publishes nothing."""
        if _is_off(config):
            return None
        job = {"record": plain(record), "tracker": plain(config), "run_dir": str(run_dir.path.resolve())}
        try:
            self.start(config, run_dir)
            answer = self._ask(job, config.timeout_s)
        except OSError as error:
            raise TrackerFailed(f"W&B could not be started: {error.strerror or error}.") from error
        except BaseException:
            self.close()  # broken off: what it is at must not go on
            raise
        if "error" in answer:
            raise TrackerFailed(answer["error"], hint=answer["hint"])
        return str(answer["where"])

    def close(self) -> None:
        """End the publisher."""
        publisher, self.publisher, self.is_ready = self.publisher, None, False
        if publisher:
            publisher.close()

    def _ask(self, job: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        end = time.monotonic() + timeout_s
        self.wait_ready(timeout_s=timeout_s)
        answer = None
        if self.publisher and self.is_ready:
            self.publisher.send(job)
            answer = self.publisher.answer(timeout_s=end - time.monotonic())
        if self.publisher is None or answer is None:
            how = "did not take the record in time" if self.publisher and self.publisher.is_alive else "ended"
            log = self.publisher.log if self.publisher else "tracker.log"
            raise TrackerFailed(f"W&B {how} (tracker.timeout_s={timeout_s:g}); see {log}.")
        return answer


def _is_off(config: schema.Tracker) -> bool:
    return config.mode == "auto" and os.environ.get("WANDB_MODE") == "disabled"


def _environment() -> dict[str, str]:
    quiet = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": os.environ.get("WANDB_ERROR_REPORTING", "false")}
    return {name: text for name, text in os.environ.items() if name not in FOREIGN} | quiet
