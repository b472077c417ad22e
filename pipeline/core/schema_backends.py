"""What backends are configured with, where that is more than a word."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.core.values import value

MountPath = Annotated[str, Field(pattern=r"^/[^:,]*(:/[^:,]*)?$")]


@value
class Container:
    """What a container is given. Nothing is privileged."""

    image: str | None = None  # None: runtime.image
    python: str = "python3"  # the interpreter inside that has the engine
    socket: str | None = None  # e.g. unix:///run/docker.sock; None: DOCKER_HOST, else Docker's own default
    pull: Literal["missing", "always", "never"] = "missing"
    network: str = "bridge"
    shm_size_gib: float = Field(default=32, gt=0)  # NCCL and tensor parallelism need more than Docker's 64 MiB
    memory_gib: float | None = Field(default=None, gt=0)
    ulimits: Mapping[str, int | None] = Field(default_factory=dict)  # -1: no limit; None: Docker's own
    # Read-only, beside the model: a path, or another one inside after a colon
    mounts: tuple[MountPath, ...] = ()
    writable_mounts: tuple[MountPath, ...] = ()  # e.g. for what engines compile, kept from trial to trial


@value
class Cluster:
    """Which cluster and namespace, as kubectl would be told."""

    kubeconfig: Path | None = None  # None: KUBECONFIG, else ~/.kube/config, else the account of the pod we run in
    context: str | None = None
    namespace: str | None = None  # None: the context's, else the pod's, else default


@value
class Storage:
    """Where OME's model agent gets the weights from, and where on the nodes it keeps them."""

    uri: str | None = None  # hf://, oci://, pvc://, local://; None: the model's repository on the hub
    path: str | None = None  # on the nodes, under the agent's host path; None: /mnt/data/models/<repository>
    key: str | None = None  # a Secret with the hub's token


@value
class Kubernetes:
    """How a trial is served by OME in a Kubernetes cluster."""

    cluster: Cluster = Cluster()
    image: str | None = None  # None: runtime.image
    python: str = "python3"  # the interpreter inside that has the engine
    port: int = Field(default=8080, gt=0, lt=65536)  # that the engine listens on in its pod
    access: Literal["auto", "in_cluster", "port_forward", "url"] = "auto"
    url: str | None = None  # for access=url; {name} and {namespace} are filled in
    base_model: str | None = None  # a ClusterBaseModel; None: named after the model, made when missing
    serving_runtime: str | None = None  # a ClusterServingRuntime; None: named after the runtime, made when missing
    storage: Storage = Storage()
    gpu_resource: str = "nvidia.com/gpu"
    cpu: str | None = None  # that the pod requests, e.g. "16"
    memory: str | None = None  # e.g. "200Gi"
    shm_size_gib: float = Field(default=32, gt=0)
    node_selector: Mapping[str, str] = Field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    affinity: Mapping[str, Any] | None = None
    image_pull_secrets: tuple[str, ...] = ()
    schedule_s: float = Field(default=120, gt=0)  # until a node is found; time behind other trials does not count
    wait_for_gpus_s: float = Field(default=0, ge=0)  # until others than trials give GPUs back; trials are waited for
    image_s: float = Field(default=3600, gt=0)  # until the image is pulled
    model_s: float = Field(default=14400, gt=0)  # until the base model is on a node
    lifetime_s: int = Field(default=14400, gt=0)  # after which the cluster removes the trial by itself
