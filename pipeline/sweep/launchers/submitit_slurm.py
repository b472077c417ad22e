"""Hydra's launcher `submitit_slurm`: runs every trial of a sweep as a Slurm job.

submitit writes the script, submits it and starts the trial on the node. Following the jobs is our own: submitit asks
the accounting alone, and one job that dies raises away the results of all others.
"""

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, setup_globals
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
from omegaconf import DictConfig

from pipeline.core.errors import FailureKind, Interrupted, JobEnded, PipelineError
from pipeline.core.files import SweepDir
from pipeline.core.values import load
from pipeline.machine import identity, owner, process, signals, slots
from pipeline.sweep import adoption, resume, session
from pipeline.sweep.launchers import slurm
from pipeline.sweep.launchers.slurm_stream import Stream, Terms
from pipeline.sweep.launchers.streaming import Job, Told

OURS = ("submitit_folder", "pending_timeout_min", "silent_timeout_min", "max_requeues", "poll_s")
GENERAL = (
    "name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node", "stderr_to_stdout"
)  # fmt: skip
GPUS = ("gres", "gpus_per_node", "gpus_per_task", "gpus", "gpus-per-node", "gpus-per-task")
EVERY_TRIAL = ("nvalid partition", "nvalid account", "nvalid qos", "unrecognized option")
# Source: slurm/src/common/slurm_errno.c, of errors in reaching slurmctld
SILENT = ("ontact slurm controller", "Socket timed out", "Zero Bytes were transmitted", "Communication connection fail")
CANCEL_S = 120.0  # for jobs that an earlier process of this sweep has left in the queue


class SubmititSlurm(SlurmLauncher):  # type: ignore[misc, unused-ignore]
    """Keeps `array_parallelism` jobs in the queue; whatever Slurm does to one of them costs no other trial."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's own; ends what a killed process of the same sweep has left in the queue."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.context, self.tree = hydra_context, config
        self.folder = Path(config.hydra.sweep.dir).absolute()
        self.is_counted = slurm.has_accounting()
        session.expect(self.folder)
        self._cancel_left()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run a batch, `array_parallelism` jobs at a time."""
        results: dict[int, JobReturn] = {}
        self.stream(zip(count(initial_job_idx), job_overrides, strict=False), results.__setitem__)
        return [results[number] for number in sorted(results)]

    @property
    def slots(self) -> int:
        """Jobs in the queue at once."""
        return int(self.params["array_parallelism"])

    def stream(self, jobs: Iterator[Job], told: Told) -> None:
        """Submit each job as soon as there is room for it.

        Raises:
            Interrupted: a signal came. Every trial that ran has been torn down by its own process.
        """
        setup_globals()
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.is_counted:
            self.is_counted = True
            sys.stdout.write(
                "This Slurm has no accounting: after some minutes offline, servetune may not learn how a job ended.\n"
            )
        terms = Terms(
            slots=self.slots,
            poll_s=float(self.params["poll_s"]),
            pending_timeout_min=self.params["pending_timeout_min"],
            max_requeues=int(self.params["max_requeues"]),
            signal_delay_s=int(self.params["signal_delay_s"]),
            silent_timeout_min=self.params["silent_timeout_min"],
            logs=str(self.params["submitit_folder"]),
        )
        Stream(terms, SweepDir(self.folder), self._tree, self._submit).run(jobs, told)

    def __call__(self, overrides: list[str], key: str, number: int, *rest: Any) -> JobReturn:
        """Run the trial, in the job. A requeued trial starts again, unless it had already finished."""
        try:
            with signals.interruptible():  # submitit's own handlers only log
                owner.obey()
                if int(os.environ.get("SLURM_RESTART_COUNT") or 0):
                    if adoption.is_final(adoption.record_of(SweepDir(self.folder).trial(number))):
                        return JobReturn()
                    adoption.put_aside(SweepDir(self.folder), number)
                return super().__call__(overrides, key, number, *rest)
        except Interrupted as stop:
            raise SystemExit(128 + stop.signum) from None

    def _tree(self, overrides: Sequence[str], number: int) -> DictConfig:
        return session.tree_of(self.context, self.tree, overrides, number)

    def _submit(self, number: int, overrides: Sequence[str], tree: DictConfig) -> str:
        """The id of a new job for the trial.

        Raises:
            JobEnded: Slurm refuses it.
            SlurmSilent: Slurm does not answer.
            PipelineError: Slurm would refuse every job of this sweep.
        """
        import submitit
        from submitit.core.utils import FailedJobError

        executor = submitit.AutoExecutor(folder=self.params["submitit_folder"], cluster="slurm")
        try:
            executor.update_parameters(**_parameters(self.params, slots.gpu_count(session.config_of(tree))))
            with _undisturbed():
                job = executor.submit(self, list(overrides), "hydra.sweep.dir", number, "", Singleton.get_state())
        except (FailedJobError, OSError, ValueError) as error:
            said = str(error).strip().splitlines()[-1]
            if any(words in str(error) for words in SILENT):
                raise slurm.SlurmSilent(f"sbatch failed: {said.rstrip('.')}.") from error
            if isinstance(error, ValueError) or any(words in str(error) for words in EVERY_TRIAL):
                raise PipelineError(
                    f"Slurm rejects every job: {said}", hint="Check hydra.launcher.* and `sinfo`."
                ) from error
            raise never_submitted(said) from error
        return str(job.job_id)

    def _cancel_left(self) -> None:
        try:
            mark = load(resume.Mark, SweepDir(self.folder).mark)
        except (OSError, ValueError):
            return
        if mark.is_done or identity.is_alive(mark.owner):
            return
        place = str(Path(str(self.params["submitit_folder"])).absolute()).partition("/%")[0]
        if jobs := slurm.left_in(place):
            sys.stdout.write(f"Cancelling jobs that an earlier run of this sweep left in the queue: {' '.join(jobs)}\n")
            slurm.tell_to_stop(jobs)
            if not process.wait_until(lambda: not slurm.left_in(place), timeout_s=CANCEL_S, interval_s=1):
                slurm.cancel(jobs)


def never_submitted(said: str) -> JobEnded:
    """Slurm has refused the job of a trial."""
    return JobEnded(
        f"Slurm rejected the job of this trial: {said}",
        kind=FailureKind.NEVER_STARTED,
        hint="Request what the partition's nodes offer: see hydra.launcher.* and `scontrol show partition`.",
    )


def _parameters(params: Mapping[str, Any], gpu_count: int) -> dict[str, Any]:
    """What submitit is told; a trial is given the GPUs that it takes where nothing else is asked for."""
    more = {"requeue": True} if params["max_requeues"] else {"no-requeue": True}
    more |= params.get("additional_parameters") or {}
    given = {name: seen for name, seen in params.items() if name not in OURS and seen is not None}
    given["additional_parameters"] = more
    if gpu_count and not any(given.get(name) or name in more for name in GPUS):
        given["gpus_per_node"] = gpu_count
    if "srun_args" not in given and "cpus_per_task" in given:
        given["srun_args"] = [f"--cpus-per-task={given['cpus_per_task']}"]
    return {name if name in GENERAL else f"slurm_{name}": seen for name, seen in given.items()}


@contextmanager
def _undisturbed() -> Iterator[None]:
    """What is started in here does not hear the Ctrl-C of a terminal: a job must not be submitted by half."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals.STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
