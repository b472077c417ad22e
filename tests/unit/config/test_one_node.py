"""A trial is one engine on one node: what would need more is refused, with what is possible."""

import pytest

from pipeline.config import command_line
from pipeline.core.errors import ConfigError

SGLANG, VLLM = ("runtime=sglang", "hardware=h100"), ("runtime=vllm", "hardware=h100")
SLURM = ("hydra/launcher=submitit_slurm", "n_threads=1,2")
KNOB = "+runtime.knobs.nnodes={kind: int, flag: --nnodes, help: nodes}"


def refused(*overrides: str, is_sweep: bool = False) -> str:
    with pytest.raises(ConfigError) as caught:
        command_line.check(overrides, is_sweep=is_sweep)
    return str(caught.value)


@pytest.mark.parametrize("backend", ["local", "docker", "ome"])
@pytest.mark.parametrize(
    ("overrides", "seen"),
    [
        ((*SGLANG, "tp_size=16", "hardware.gpu_count=16", "runtime.extra_args=[--nnodes,2]"), "--nnodes 2"),
        ((*SGLANG, "runtime.extra_args=['--node-rank=1']"), "--node-rank 1"),
        ((*SGLANG, "runtime.version=1.2.3", "runtime.extra_args=[--nnodes,4]"), "--nnodes 4"),
        ((*VLLM, "runtime.extra_args=[-n,2]"), "--nnodes 2"),
        ((*VLLM, "runtime.extra_args=[--headless]"), "--headless"),
        ((*VLLM, "data_parallel_size=4", "runtime.extra_args=[-dpl,2]"), "--data-parallel-size-local 2 of 4"),
        ((*VLLM, "data_parallel_size=2", "runtime.extra_args=[-dpn,0]"), "--data-parallel-rank 0"),
        ((*VLLM, "runtime.extra_args=[-dpr,2]"), "--data-parallel-start-rank 2"),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_an_engine_over_several_nodes_is_refused(backend: str, overrides: tuple[str, ...], seen: str) -> None:
    told = refused(*overrides, f"backend={backend}")
    assert told.startswith(f"{seen}: a trial's engine runs on one node: rank 1, on another one, is never started")
    assert "as many GPUs as one node has" in told


def test_a_knob_for_nodes_is_refused_too() -> None:
    assert refused(*SGLANG, KNOB, "+nnodes=2").startswith("--nnodes 2: ")
    assert refused(*SGLANG, KNOB, "+nnodes=1,2", is_sweep=True).startswith("--nnodes 2: ")
    assert "nnodes is not a knob of runtime=sglang. A trial's engine runs on one node" in refused(*SGLANG, "nnodes=2")


@pytest.mark.parametrize(
    "overrides",
    [
        (*SGLANG, "tp_size=8", "runtime.extra_args=[--nnodes,1,--node-rank,0]"),
        (*VLLM, "data_parallel_size=4", "runtime.extra_args=[-dpl,4,--data-parallel-backend,ray]"),
        ("runtime=sglang", "hardware.gpu_count=16"),
        ("runtime=sglang", "hardware=a100_40", "hardware.gpu_count=16", "tp_size=16"),
        ("runtime=sglang", "hardware=h100", "hardware.gpu_count=10", "hardware.node_gpus=10"),
    ],
    ids=["one node", "all here", "counted", "a machine of sixteen", "who knows better"],
)
def test_what_one_node_can_have_is_let_through(overrides: tuple[str, ...]) -> None:
    command_line.check(overrides, is_sweep=False)


@pytest.mark.parametrize("backend", ["local", "ome"])
def test_more_gpus_than_a_machine_has_are_refused(backend: str) -> None:
    told = refused(*SGLANG, "tp_size=16", "hardware.gpu_count=16", f"backend={backend}")
    assert told.startswith("hardware.gpu_count=16: a machine with hardware=h100 has at most 8 GPUs")
    assert "Set hardware.gpu_count=8 or fewer, and tp_size x pp_size x dp_size to no more" in told


@pytest.mark.parametrize(
    "setting",
    [
        "hydra.launcher.nodes=2",
        "hydra.launcher.tasks_per_node=2",
        "+hydra.launcher.additional_parameters.ntasks=2",
        "hydra.launcher.srun_args=['--nodes=2']",
        "hydra.launcher.srun_args=[-N,2]",
    ],
)
def test_several_nodes_or_tasks_for_a_trial_are_refused(setting: str) -> None:
    told = refused(*SLURM, setting, is_sweep=True)
    assert told.startswith(setting.lstrip("+").split("=")[0])
    assert "hydra.launcher.array_parallelism=N runs N trials at once" in told


def test_so_they_are_for_jobs_of_this_machine() -> None:
    told = refused("hydra/launcher=submitit_local", "hydra.sweeper.n_jobs=2", "hydra.launcher.tasks_per_node=2",
                   "n_threads=1,2", is_sweep=True)  # fmt: skip
    assert "hydra.sweeper.n_jobs=N runs N trials at once" in told


def test_one_node_and_one_task_are_let_through() -> None:
    words = (*SLURM, "hydra.launcher.nodes=1", "hydra.launcher.srun_args=['--cpus-per-task=8',-N1]")
    assert command_line.check(words, is_sweep=True).total == 3
