"""Hydra's sweeper `tuner`: a thin shell that gives `pipeline.sweep.search` its space, and its trials a launcher."""


def register() -> None:
    """Make the sweeper known to Hydra, which finds by itself only those of its plugin packages."""
    from hydra.core.plugins import Plugins

    from pipeline.sweep.tuner.sweeper import Tuner

    Plugins.instance().register(Tuner)
