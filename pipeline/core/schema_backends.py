"""The settings of the backends that run containers: Docker, and OME in Kubernetes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.core.values import value

MountPath = Annotated[str, Field(pattern=r"^/[^:,]*(:/[^:,]*)?$")]


@value
class Container:
    """How the engine's container is run. It is never privileged."""

    image: str | None = None  # None: runtime.image
    python: str = "python3"  # the interpreter in the image that has the engine
    socket: str | None = None  # e.g. unix:///run/docker.sock; None: DOCKER_HOST, else Docker's own default
    pull: Literal["missing", "always", "never"] = "missing"
    network: str = "bridge"
    shm_size_gib: float = Field(default=32, gt=0)  # NCCL and tensor parallelism need more than Docker's 64 MiB
    memory_gib: float | None = Field(default=None, gt=0)
    ulimits: Mapping[str, int | None] = Field(default_factory=dict)  # -1: no limit; None: Docker's own
    # Read-only, besides the model: /path, or /path/on/host:/path/in/container
    mounts: tuple[MountPath, ...] = ()
    writable_mounts: tuple[MountPath, ...] = ()  # e.g. a cache of compiled kernels, kept between trials


@value
class Cluster:
    """Which cluster and namespace to use, with kubectl's names."""

    kubeconfig: Path | None = None  # None: KUBECONFIG, else ~/.kube/config, else the service account of our pod
    context: str | None = None
    namespace: str | None = None  # None: the context's, else the pod's, else default


@value
class Storage:
    """Where OME's model agent gets the weights, and where it stores them on the nodes."""

    uri: str | None = None  # hf://, oci://, pvc://, local://; None: the model's repository on the hub
    path: str | None = None  # on the nodes, under the agent's host path; None: /mnt/data/models/<repository>
    key: str | None = None  # name of a Secret with the Hugging Face token


@value
class Kubernetes:
    """How OME serves a trial in a Kubernetes cluster."""

    cluster: Cluster = Cluster()
    image: str | None = None  # None: runtime.image
    python: str = "python3"  # the interpreter in the image that has the engine
    port: int = Field(default=8080, gt=0, lt=65536)  # the engine's port in its pod
    access: Literal["auto", "in_cluster", "port_forward", "url"] = "auto"
    url: str | None = None  # for access=url; {name} and {namespace} are filled in
    base_model: str | None = None  # a ClusterBaseModel; None: named after the model, created if missing
    serving_runtime: str | None = None  # a ClusterServingRuntime; None: named after the runtime, created if missing
    storage: Storage = Storage()
    gpu_resource: str = "nvidia.com/gpu"
    cpu: str | None = None  # CPU request of the pod, e.g. "16"
    memory: str | None = None  # memory request of the pod, e.g. "200Gi"
    shm_size_gib: float = Field(default=32, gt=0)
    node_selector: Mapping[str, str] = Field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    affinity: Mapping[str, Any] | None = None
    image_pull_secrets: tuple[str, ...] = ()
    schedule_s: float = Field(default=120, gt=0)  # limit for finding a node; waiting for other trials does not count
    wait_for_gpus_s: float = Field(default=0, ge=0)  # how long to wait for GPUs of pods that are not trials
    image_s: float = Field(default=3600, gt=0)  # limit for pulling the image
    model_s: float = Field(default=14400, gt=0)  # limit for the base model to arrive on a node
    lifetime_s: int = Field(default=14400, gt=0)  # after this time the cluster removes the trial by itself
