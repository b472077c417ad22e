"""Where the trials of a sweep run: `parallel`, workers of our own on this machine; `submitit_local`, submitit's.

`submitit_slurm`, the nodes of a Slurm cluster.
"""

from pipeline.core.errors import CannotRun, FailureKind
from pipeline.sweep.launchers import slurm


def register() -> None:
    """Make the launchers known to Hydra, which finds by itself only those of its plugin packages."""
    from hydra.core.plugins import Plugins

    from pipeline.sweep.launchers.parallel import Parallel
    from pipeline.sweep.launchers.submitit_local import SubmititLocal
    from pipeline.sweep.launchers.submitit_slurm import SubmititSlurm

    for launcher in (Parallel, SubmititLocal, SubmititSlurm):
        Plugins.instance().register(launcher)


def insist() -> None:
    """Check that Slurm answers, before anything is made for a sweep that it is to run.

    Raises:
        CannotRun: it does not.
    """
    try:
        slurm.has_accounting()
    except slurm.SlurmSilent as error:
        raise CannotRun(
            f"No trial of this sweep can run: {error}",
            kind=FailureKind.BACKEND_DOWN,
            hint="Start the sweep where `scontrol ping` answers.",
        ) from error
