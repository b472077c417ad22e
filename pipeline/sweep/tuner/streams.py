"""How the trials of a search reach a launcher: one by one where it can stream, else in batches."""

from collections.abc import Iterator
from itertools import islice

from hydra.plugins.launcher import Launcher

from pipeline.sweep.launchers.streaming import Job, Streaming, Told


def slots(launcher: Launcher, n_jobs: int | None) -> int:
    """Trials at once."""
    return launcher.slots if isinstance(launcher, Streaming) else n_jobs or 1


def stream(launcher: Launcher, n_jobs: int | None, jobs: Iterator[Job], told: Told) -> None:
    """Run every job and tell how it ended.

    Raises:
        Interrupted: a signal came. Every trial that ran has been torn down.
    """
    if isinstance(launcher, Streaming):
        launcher.stream(jobs, told)
        return
    while batch := list(islice(jobs, n_jobs or 1)):
        for run in _runs(batch):
            done = launcher.launch([overrides for _, overrides in run], run[0][0])
            for (number, _), result in zip(run, done, strict=True):
                told(number, result)


def _runs(batch: list[Job]) -> Iterator[list[Job]]:
    """Parts of a batch whose numbers follow each other: all that a launcher is told is the first one."""
    run: list[Job] = []
    for job in batch:
        if run and job[0] != run[-1][0] + 1:
            yield run
            run = []
        run.append(job)
    yield run
