"""The worker process of a pool: `python -m pipeline.sweep.launchers.worker`, started by `pool.py` and by nobody else.

Trials come as pickled (context, configuration) on stdin, messages go to what was stdout; prints go to the log. It lives
for many trials, because importing the pipeline and genai-bench takes seconds; it ends with the sweep's process.
"""

import os
import sys
from multiprocessing.connection import Connection
from typing import Any

from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig

from pipeline.core.errors import Interrupted
from pipeline.machine import console, owner, signals
from pipeline.sweep import session
from pipeline.sweep.launchers.messages import Done, Ready, Reporter

Job = tuple[HydraContext, DictConfig]


def main() -> int:
    """Run trials until there are no more, a signal comes or the sweep's process is gone."""
    jobs, reporter = _pipes()
    setup_globals()
    session.report_to(reporter)
    with signals.interruptible(), signals.held():
        try:
            owner.obey()
            reporter.send(Ready())
            while (job := _next(jobs)) is not None:
                reporter.send(Done(_run(job)))
        except Interrupted as stop:
            signals.acknowledge()
            return 128 + stop.signum
        finally:
            session.end()
    return 0


def _pipes() -> tuple["Connection[Any, Any]", Reporter]:
    """The pipes that we were started with, out of the way of libraries that print or read."""
    jobs, answers = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    console.endure()
    return jobs, Reporter(answers)


def _next(jobs: "Connection[Any, Any]") -> Job | None:
    with signals.heard():
        try:
            job: Job = jobs.recv()
        except EOFError:
            return None
    return job


def _run(job: Job) -> JobReturn:
    context, config = job
    with signals.heard():
        return run_job(
            hydra_context=context,
            task_function=session.trial,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


if __name__ == "__main__":
    sys.exit(main())
