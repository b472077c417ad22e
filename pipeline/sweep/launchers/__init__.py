"""Where the trials of a sweep run: `parallel`, workers of our own on this machine; `submitit_local`, submitit's.

`submitit_slurm`, the nodes of a Slurm cluster.
"""


def register() -> None:
    """Make the launchers known to Hydra, which finds by itself only those of its plugin packages."""
    from hydra.core.plugins import Plugins

    from pipeline.sweep.launchers.parallel import Parallel
    from pipeline.sweep.launchers.submitit_local import SubmititLocal
    from pipeline.sweep.launchers.submitit_slurm import SubmititSlurm

    for launcher in (Parallel, SubmititLocal, SubmititSlurm):
        Plugins.instance().register(launcher)
