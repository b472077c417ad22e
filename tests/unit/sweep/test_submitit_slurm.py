"""How a cluster is described to hydra/launcher=submitit_slurm."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from pipeline.config import command_line
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.sweep.launchers.submitit_slurm import _parameters

ASKED = {
    "submitit_folder": "/out/%j",
    "max_requeues": 3,
    "poll_s": 5,
    "timeout_min": 60,
    "partition": "gpu",
    "qos": None,
}


def test_a_trial_s_own_gpus_are_asked_for() -> None:
    assert _parameters(ASKED, 2) == {
        "timeout_min": 60,
        "gpus_per_node": 2,
        "slurm_partition": "gpu",
        "slurm_additional_parameters": {"requeue": True},
    }


@pytest.mark.parametrize(
    "own", [{"gres": "gpu:h100:8"}, {"gpus_per_task": 8}, {"additional_parameters": {"gpus": 8}}], ids=str
)
def test_gpus_that_are_named_are_left_as_they_are(own: dict[str, object]) -> None:
    assert "gpus_per_node" not in _parameters({**ASKED, **own}, 2)


def test_srun_is_told_of_the_cores() -> None:
    assert _parameters({**ASKED, "cpus_per_task": 8}, 0)["slurm_srun_args"] == ["--cpus-per-task=8"]


def test_without_requeues_slurm_is_told_so() -> None:
    asked = _parameters({**ASKED, "max_requeues": 0}, 0)
    assert asked["slurm_additional_parameters"] == {"no-requeue": True}


def test_a_site_is_one_file_also_outside_of_the_repository(tmp_path: Path) -> None:
    site = tmp_path / "hydra" / "launcher" / "mine.yaml"
    site.parent.mkdir(parents=True)
    site.write_text("defaults: [submitit_slurm]\npartition: a100\nadditional_parameters: {reservation: tuning}\n")
    words = [f"hydra.searchpath=[file://{tmp_path}]", "hydra/launcher=mine"]
    with initialize_config_dir(str(CONF)):
        launcher = compose("config", words, return_hydra_config=True).hydra.launcher
    assert launcher._target_ == "pipeline.sweep.launchers.submitit_slurm.SubmititSlurm"
    assert (launcher.partition, launcher.additional_parameters) == ("a100", {"reservation": "tuning"})
    assert command_line.check([*words, "n_threads=1,2"], is_sweep=True).total == 3


def test_no_jobs_at_once_is_refused() -> None:
    words = ["hydra/launcher=example_site", "hydra.launcher.array_parallelism=0", "n_threads=1,2"]
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.array_parallelism=0: expected a number above 0"):
        command_line.check(words, is_sweep=True)
