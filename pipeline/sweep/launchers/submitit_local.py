"""submitit's local launcher, changed to keep the teardown promise. Prefer `parallel` (docs/parallel-and-slurm.md).

submitit starts every trial of a batch at once, each in two processes; one that dies raises away the results of all
others; when we are told to stop, it leaves them all running.
"""

import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher
from omegaconf import DictConfig

from pipeline.core.errors import Interrupted, WorkerDied
from pipeline.core.values import now
from pipeline.machine import owner, process, signals
from pipeline.sweep import session

CONTROLLER, TASK = "submitit.local._local", "submitit.core._submit"
STOP_S = 240.0  # for the teardown, the record and the tracker of trials that were told to stop
AGAIN_S = 10.0  # submitit swallows a SIGTERM in the moment before the trial listens
LOOK_S = 0.2
VISIBLE = "CUDA_VISIBLE_DEVICES"


class SubmititLocal(LocalLauncher):  # type: ignore[misc, unused-ignore]
    """Its jobs end with the sweep; one that dies is one failed trial."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's own."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.context, self.tree = hydra_context, config
        self.visible = os.environ.get(VISIBLE)
        session.expect(Path(config.hydra.sweep.dir).absolute())

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run a batch, all of it at once.

        Raises:
            Interrupted: a signal came. Every trial has been torn down by its own process.
        """
        batch = Batch(tuple(enumerate(job_overrides, start=initial_job_idx)), now())
        sys.stdout.write(f"{len(job_overrides)} trials start at once. Their logs: {self.params['submitit_folder']}\n")
        try:
            return self._run(batch)
        except Interrupted as stop:
            signals.acknowledge()  # by what follows; a second signal waits for it
            with signals.held():
                _stop()
                self._told(batch, stop)
            raise

    def __call__(self, *args: Any, **kwargs: Any) -> JobReturn:
        """In the trial's process: submitit hides all GPUs there, unless it is to choose them; trials choose theirs."""
        os.environ.pop(VISIBLE, None)
        os.environ |= {VISIBLE: self.visible} if self.visible is not None else {}
        with signals.interruptible():  # submitit's own handler only logs
            owner.obey()
            return super().__call__(*args, **kwargs)

    def _run(self, batch: "Batch") -> list[JobReturn]:
        from submitit.core.utils import UncompletedJobError

        try:
            return list(super().launch([overrides for _, overrides in batch.jobs], batch.jobs[0][0]))
        except UncompletedJobError as error:
            seen = str(error).splitlines()[0]
            process.wait_until(lambda: not _living(TASK, CONTROLLER), timeout_s=math.inf, interval_s=LOOK_S)
            return self._told(batch, WorkerDied(f"The process of this trial is gone; submitit reports: {seen}"))

    def _told(self, batch: "Batch", died: WorkerDied | Interrupted) -> list[JobReturn]:
        """What the trials' records say; one is written for each trial that has begun and has none."""
        trees = [session.tree_of(self.context, self.tree, overrides, n) for n, overrides in batch.jobs]
        if isinstance(died, Interrupted):
            trees = [tree for tree in trees if session.folder_of(tree).exists()]
        return [session.bury(tree, died, started_at=batch.started_at)[1] for tree in trees]


@dataclass(frozen=True)
class Batch:
    """Trials that are started together, with their numbers."""

    jobs: tuple[tuple[int, Sequence[str]], ...]
    started_at: datetime


def _stop() -> None:
    """Tell every trial to stop and wait until all are gone; what takes too long is killed, its keeper tears it down.

    By SIGTERM, whatever came to us: a trial that still starts does not hear a SIGINT (conf/hydra/launcher).
    """
    told: dict[psutil.Process, float] = {}
    end = time.monotonic() + STOP_S
    while living := _living(TASK, CONTROLLER):
        is_late = time.monotonic() > end
        for one in living if is_late else _living(TASK):
            if is_late or time.monotonic() > told.get(one, 0.0):
                told[one] = time.monotonic() + AGAIN_S
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGKILL if is_late else signal.SIGTERM)
        time.sleep(LOOK_S)


def _living(*modules: str) -> list[psutil.Process]:
    """The processes below this one that run these modules."""
    found = []
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if one.status() != psutil.STATUS_ZOMBIE and not {*modules}.isdisjoint(one.cmdline()):
                found.append(one)
    return found
