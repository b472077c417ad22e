"""The sampler of a search, made of its option in `conf/hydra/sweeper/sampler` or of Hydra's Optuna plugin."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig

from pipeline.core.errors import ConfigError
from pipeline.sweep.search.strategy.earlier import Earlier

TRUSTED = ["optuna.samplers.*", "pipeline.sweep.search.*", "hydra_plugins.hydra_optuna_sweeper.*"]


def is_grid(option: Mapping[Any, Any]) -> bool:
    """Whether it means every combination in turn: that is the policy's."""
    return "Grid" in str(option.get("_target_"))


def insist_learns(option: Mapping[Any, Any]) -> None:
    """Refuse to learn from earlier sweeps with a sampler that cannot.

    Raises:
        ConfigError: it is none of ours.
    """
    if "Strategy" not in str(option.get("_target_")):
        raise ConfigError(
            "hydra.sweeper.learn_from needs hydra/sweeper/sampler=servetune, the default: other samplers learn from "
            "no earlier sweeps."
        )


def check(option: DictConfig) -> None:
    """Make it for trial; what is fetched of others' for that is left to the search.

    Raises:
        ConfigError: the option does not make a sampler.
    """
    if "hub" not in str(option.get("_target_")) or not (option.get("module") and option.get("name")):
        with warnings.catch_warnings(action="ignore"):  # said when it is used
            made(option, done=0, slots=1)


def made(option: DictConfig, *, done: int, slots: int, earlier: Sequence[Earlier] = ()) -> Any:
    """Optuna's, with a seed that does not repeat itself in a resumed search, and told of trials that still run.

    None for a grid.

    Raises:
        ConfigError: the option does not make one.

    Args:
        option: as composed.
        done: trials that the search has had.
        slots: trials at once.
        earlier: sweeps that it learns from.
    """
    if is_grid(option):
        return None
    target, seed = str(option.get("_target_")), option.get("seed")
    # Ours draws anew for each trial's number, so that a resumed search goes on as if it had never stopped
    if seed is not None and (type(seed) is not int or seed < 0):
        raise ConfigError(f"hydra.sweeper.sampler.seed={seed}: expected a whole number, 0 or more, or null.")
    own: dict[str, Any] = {} if seed is None or "Strategy" in target else {"seed": seed + done}
    if "TPE" in target and slots > 1:
        own["constant_liar"] = True
    try:
        found = instantiate(option, _execution_whitelist_=TRUSTED, **own)
    except ConfigError:
        raise
    except HydraException as error:
        raise ConfigError(
            f"hydra.sweeper.sampler._target_={target} is no sampler that can be used; e.g. optuna.samplers.TPESampler, "
            f"or an option of hydra/sweeper/sampler."
        ) from error
    except Exception as error:
        raise ConfigError(f"hydra.sweeper.sampler cannot be made: {error}. Check its keys and values.") from error
    if earlier:
        found.learn(earlier)
    return found
