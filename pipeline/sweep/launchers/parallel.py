"""Hydra's launcher `parallel`: the trials of a sweep in a pool of workers on this machine."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from pipeline.core.files import SweepDir
from pipeline.core.record import Record
from pipeline.sweep import session
from pipeline.sweep.launchers.pool import Lost, Pool, Task
from pipeline.sweep.launchers.streaming import Job, Told

WITHOUT_GPUS = 2  # trials at once, where no number of GPUs says how many


class Parallel(Launcher):
    """Runs up to `n_jobs` trials at once; null: one per GPU of the hardware, 2 without GPUs."""

    def __init__(self, n_jobs: int | None) -> None:
        self.n_jobs = n_jobs
        self.pool: Pool[JobReturn] | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's own; the task is always `session.trial`."""
        self.context = hydra_context
        self.config = config
        self.folder = Path(config.hydra.sweep.dir).absolute()
        session.expect(self.folder)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run a batch; the workers stay for the next one, until the end of the sweep."""
        return self._pool().run(self._tasks(enumerate(job_overrides, start=initial_job_idx)))

    @property
    def slots(self) -> int:
        """Trials at once."""
        return int(self.n_jobs or session.gpu_count(self.config) or WITHOUT_GPUS)

    def stream(self, jobs: Iterator[Job], told: Told) -> None:
        """Run each job as soon as a worker is free for it."""
        self._pool().run(self._tasks(jobs), told)

    def _pool(self) -> Pool[JobReturn]:
        setup_globals()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.pool is None:
            self.pool = Pool(self.slots, SweepDir(self.folder), session.display(), self._bury)
            session.at_end(self.pool.close)
        return self.pool

    def _tasks(self, jobs: Iterable[Job]) -> Iterator[Task]:
        """Composed one at a time, as workers become free."""
        for number, overrides in jobs:
            tree = session.tree_of(self.context, self.config, overrides, number)
            yield Task(number, session.telling(tree.hydra.overrides.task), (self.context, tree))

    def _bury(self, lost: Lost) -> tuple[Record, JobReturn]:
        _, tree = lost.task.payload
        return session.bury(tree, lost.error, at=lost.at, started_at=lost.given_at)
