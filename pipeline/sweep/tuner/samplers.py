"""The sampler of a search, made of its option in `conf/hydra/sweeper/sampler` or of Hydra's Optuna plugin."""

from collections.abc import Mapping
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

TRUSTED = ["optuna.samplers.*", "pipeline.sweep.search.*", "hydra_plugins.hydra_optuna_sweeper.*"]


def is_grid(option: Mapping[Any, Any]) -> bool:
    """Whether it means every combination in turn: that is the policy's."""
    return "Grid" in str(option.get("_target_"))


def made(option: DictConfig, *, done: int, slots: int) -> Any:
    """Optuna's, with a seed that does not repeat itself in a resumed search, and told of trials that still run.

    None for a grid.

    Args:
        option: as composed.
        done: trials that the search has had.
        slots: trials at once.
    """
    if is_grid(option):
        return None
    target, seed = str(option.get("_target_")), option.get("seed")
    # Ours draws anew for each trial's number, so that a resumed search goes on as if it had never stopped
    own: dict[str, Any] = {} if seed is None or "Strategy" in target else {"seed": seed + done}
    if "TPE" in target and slots > 1:
        own["constant_liar"] = True
    return instantiate(option, _execution_whitelist_=TRUSTED, **own)
