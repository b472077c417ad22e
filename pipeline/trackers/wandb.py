"""Weights & Biases: one run per trial, in a group per sweep, offline unless a key is there.

This end imports no wandb: it hands each record to a process of its own (`wandb_publisher.py`), which can be ended when
wandb hangs. That process is started at the first publication and kept for the later ones.
"""

import os
from pathlib import Path
from typing import Any

from pipeline import config as conf
from pipeline.companion import Companion
from pipeline.errors import TrackerFailed
from pipeline.record import Record, RunDir, SweepDir
from pipeline.values import plain

# A user's shell may be inside another run; its identity is not ours to continue.
FOREIGN = ("WANDB_SERVICE", "WANDB_RUN_ID", "WANDB_RESUME", "WANDB_SWEEP_ID", "WANDB_NOTES")


class WandB:
    """Publishes each record as a W&B run; offline runs lie in <sweep>/wandb/."""

    def __init__(self) -> None:
        self.publisher: Companion | None = None

    def publish(self, record: Record, config: conf.Tracker, run_dir: RunDir) -> str | None:
        """Publish; see trackers.Tracker. WANDB_MODE=disabled publishes nothing."""
        if config.mode == "auto" and os.environ.get("WANDB_MODE") == "disabled":
            return None
        folder = run_dir.path.resolve()
        job = {"record": plain(record), "tracker": plain(config), "run_dir": str(folder)}
        try:
            answer = self._ask(job, SweepDir(folder.parent).tracker_log, config.timeout_s)
        except OSError as error:
            raise TrackerFailed(f"W&B could not be started: {error.strerror or error}.") from error
        if "error" in answer:
            raise TrackerFailed(answer["error"], hint=answer["hint"])
        return str(answer["where"])

    def close(self) -> None:
        """End the publisher."""
        publisher, self.publisher = self.publisher, None
        if publisher:
            publisher.close()

    def _ask(self, job: dict[str, Any], log: Path, timeout_s: float) -> dict[str, Any]:
        if self.publisher is None or not self.publisher.is_alive:
            self.close()
            log.parent.mkdir(parents=True, exist_ok=True)
            self.publisher = Companion("pipeline.trackers.wandb_publisher", log=log, env=_environment())
        try:
            self.publisher.send(job)
            answer = self.publisher.answer(timeout_s=timeout_s)
        except BaseException:
            self.close()  # broken off: what it is at must not go on
            raise
        if answer is None:
            how = "did not take the record in time" if self.publisher.is_alive else "ended"
            self.close()
            raise TrackerFailed(f"W&B {how} (timeout_s={timeout_s:g}); see {log}.")
        return answer


def _environment() -> dict[str, str]:
    quiet = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": os.environ.get("WANDB_ERROR_REPORTING", "false")}
    return {name: text for name, text in os.environ.items() if name not in FOREIGN} | quiet
