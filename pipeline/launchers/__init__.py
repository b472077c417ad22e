"""Where the trials of a sweep run: `parallel`, workers of our own on this machine; `submitit_local`, submitit's."""


def register() -> None:
    """Make the launchers known to Hydra, which finds by itself only those of its plugin packages."""
    from hydra.core.plugins import Plugins

    from pipeline.launchers.parallel import Parallel
    from pipeline.launchers.submitit_local import SubmititLocal

    for launcher in (Parallel, SubmititLocal):
        Plugins.instance().register(launcher)
