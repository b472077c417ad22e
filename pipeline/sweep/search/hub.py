"""Samplers that others publish on OptunaHub. Only what a command line names is fetched and run."""

from typing import Any

from optuna.samplers import BaseSampler

from pipeline.core.errors import ConfigError


def sampler(module: str | None, name: str | None, **arguments: Any) -> BaseSampler:
    """A sampler by its package in OptunaHub's registry, e.g. `samplers/hebo`, and the name of its class.

    Raises:
        ConfigError: no name is given, or the package `optunahub` is missing.
    """
    if not module or not name:
        raise ConfigError(
            "hydra/sweeper/sampler=optunahub needs hydra.sweeper.sampler.module, e.g. samplers/hebo, and "
            "hydra.sweeper.sampler.name, its class, e.g. HEBOSampler: see https://hub.optuna.org."
        )
    try:
        import optunahub
    except ImportError as error:
        raise ConfigError("hydra/sweeper/sampler=optunahub needs the package optunahub: pip install it.") from error
    made: BaseSampler = getattr(optunahub.load_module(module), name)(**arguments)
    return made
