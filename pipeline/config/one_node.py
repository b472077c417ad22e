"""Refuses launchers and hardware that would give a trial more than one node. Pure."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.core.errors import ConfigError
from pipeline.core.schema import Config

COUNTS = ("nodes", "tasks_per_node")
# sbatch(1) and srun(1): -N, --nodes; -n, --ntasks; --ntasks-per-node
OF_SLURM = ("nodes", "N", "ntasks", "n", "ntasks-per-node", "ntasks_per_node", "tasks-per-node")


def check_launcher(launcher: DictConfig) -> None:
    """Refuse several nodes or tasks for one trial.

    Raises:
        ConfigError: with what runs several trials at once instead.
    """
    if found := next(_several(launcher), None):
        is_slurm = "slurm" in str(launcher.get("_target_"))
        instead = "hydra.launcher.array_parallelism=N" if is_slurm else "hydra.sweeper.n_jobs=N"
        raise ConfigError(
            f"{found}: a trial is one task on one node; each further task would measure the same trial in the same "
            f"folder. Leave it at 1. {instead} runs N trials at once; a "
            "trial may take all GPUs of its node."
        )


def check_hardware(config: Config) -> None:
    """Refuse named hardware with more GPUs than one machine of it has.

    Raises:
        ConfigError: with the most that is possible.
    """
    hardware = config.hardware
    most = hardware.node_gpus
    if most is not None and hardware.gpu_count > most and not hardware.is_auto:
        raise ConfigError(
            f"hardware.gpu_count={hardware.gpu_count}: a machine with hardware={hardware.name} has at most {most} GPUs "
            f"(hardware.node_gpus), and a trial runs on one machine. Set hardware.gpu_count={most} "
            f"or fewer, and {' x '.join(config.runtime.gpu_knobs) or 'its GPUs'} to no more than that. If this machine "
            f"has more, set hardware=auto, which counts them, or hardware.node_gpus."
        )


def _several(launcher: DictConfig) -> Iterator[str]:
    """What asks for more than one node or task, as it was given."""
    given: Any = OmegaConf.to_container(launcher, resolve=False)
    for name in COUNTS:
        if given.get(name) not in {None, 1, "1"}:
            yield f"hydra.launcher.{name}={given[name]}"
    for name, told in (given.get("additional_parameters") or {}).items():
        if name in OF_SLURM and str(told) != "1":
            yield f"hydra.launcher.additional_parameters.{name}={told}"
    yield from _of_srun(given.get("srun_args") or [])


def _of_srun(words: Sequence[Any]) -> Iterator[str]:
    told = " ".join(map(str, words))
    names = "|".join(name for name in OF_SLURM if len(name) > 1)
    for found in re.finditer(rf"(?:^|\s)(--(?:{names})[= ]|-[Nn][ =]?)(\d+)", told):
        if found[2] != "1":
            yield f"hydra.launcher.srun_args: {found[0].strip()}"
