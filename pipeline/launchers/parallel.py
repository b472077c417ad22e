"""Hydra's launcher `parallel`: the trials of a sweep in a pool of workers on this machine."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from pipeline import sweep
from pipeline.files import SweepDir
from pipeline.launchers.pool import Lost, Pool, Task
from pipeline.record import Record

WITHOUT_GPUS = 2  # trials at once, where no number of GPUs says how many


class Parallel(Launcher):
    """Runs up to `n_jobs` trials at once; null: one per GPU of the hardware, 2 without GPUs."""

    def __init__(self, n_jobs: int | None) -> None:
        self.n_jobs = n_jobs
        self.pool: Pool[JobReturn] | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's own; the task is always `sweep.trial`."""
        self.context = hydra_context
        self.config = config
        self.folder = Path(config.hydra.sweep.dir).absolute()
        sweep.expect(self.folder)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run a batch; the workers stay for the next one, until the end of the sweep."""
        setup_globals()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.pool is None:
            size = self.n_jobs or self.config.hardware.gpu_count or WITHOUT_GPUS
            self.pool = Pool(size, SweepDir(self.folder), sweep.display(), self._bury)
            sweep.at_end(self.pool.close)
        return self.pool.run(self._tasks(job_overrides, initial_job_idx))

    def _tasks(self, job_overrides: Sequence[Sequence[str]], first: int) -> Iterator[Task]:
        """Composed one at a time, as workers become free."""
        for number, overrides in enumerate(job_overrides, start=first):
            tree = sweep.tree_of(self.context, self.config, overrides, number)
            yield Task(number, sweep.telling(tree.hydra.overrides.task), (self.context, tree))

    def _bury(self, lost: Lost) -> tuple[Record, JobReturn]:
        _, tree = lost.task.payload
        return sweep.bury(tree, lost.error, at=lost.at, started_at=lost.given_at)
