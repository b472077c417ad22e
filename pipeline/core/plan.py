"""A trial's plan: the exact command, environment and levels, as frozen values (made in pipeline.config.planning)."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from pipeline.core.loads import AtLoad
from pipeline.core.schema_backends import Container, Kubernetes
from pipeline.core.schema_engine import Health, Tells
from pipeline.core.values import value


@value
class Assets:
    """What a trial needs on disk before it can be planned."""

    model_path: Path
    tokenizer_dir: Path
    served_name: str | None = None  # what the server calls the model, where it has been asked


@value
class Slots:
    """GPUs and CPU cores that the trial has for itself (pipeline/machine/slots.py)."""

    gpu_ids: tuple[str, ...] = ()  # as CUDA_VISIBLE_DEVICES takes them
    gpu_used_mib: Mapping[str, int] = Field(default_factory=dict)  # by UUID, before the trial; empty without NVML
    cores: tuple[int, ...] = ()


@value
class LevelPlan(AtLoad):
    """One level to measure."""

    max_requests: int
    max_time_s: float
    drain_s: float = 10.0
    seed: int
    output_tokens_asked: float  # mean
    first_prompt: int = 0  # of the prompts of a file, in the order of the seed
    output_tokens_exact: int | None = None  # of every answer: the scenario is fixed, and the end of text is ignored


@value
class OmeModel:
    """The fields of a ClusterBaseModel, and the ClusterServingRuntime that serves it."""

    name: str
    uri: str
    path: str | None  # on the nodes; None: a claim's
    key: str | None  # a Secret with the hub's token
    vendor: str | None
    version: str | None
    format: str
    architecture: str | None
    quantization: str | None
    parameters: str | None  # e.g. 8.2B
    max_tokens: int | None
    runtime: str
    sizes: tuple[str, str] | None  # of the models that the runtime serves; None: any


@value
class Plan:
    """All that deploying and measuring need. In `argv`, {port} stands for the port chosen at deploy time."""

    trial_id: str
    sweep_id: str
    number: int
    backend: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    secret_env: Mapping[str, str]
    host: str
    run_dir: Path
    model_path: Path
    tokenizer_dir: Path
    served_name: str
    health: Health
    settings_path: str | None
    tells: Tells = Tells()
    cache_reset: str
    stop_grace_s: float
    keeper: bool
    url: str | None = None  # of a server that is there already
    container: Container | None = None  # with its image, and with the model among its mounts
    kubernetes: Kubernetes | None = None  # with its image
    ome_model: OmeModel | None = None
    gpus: int = 0
    slots: Slots = Slots()
    gpu_vendor: str | None = None
    levels: tuple[LevelPlan, ...]
    warmup_requests: int


def with_slots(planned: Plan, slots: Slots) -> Plan:
    """The plan on these GPUs and cores. NVIDIA's containers are given their GPUs by Docker, all others by variables.

    Variables that the runtime sets itself win.
    """
    ids, variables = ",".join(slots.gpu_ids), {}
    if ids and planned.gpu_vendor == "amd":
        variables = {"HIP_VISIBLE_DEVICES": ids}
    elif ids and planned.container is None:
        variables = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ids}  # numbered as NVML numbers them
    return replace(planned, slots=slots, env={**variables, **planned.env})
