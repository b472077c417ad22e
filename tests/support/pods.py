"""Nodes, and pods that hold their GPUs, as the API server lists them."""

from typing import Any

from pipeline.backends.kube import manifests
from pipeline.backends.kube.capacity import Want

GPU = "nvidia.com/gpu"
WANT = Want(GPU, 4)


def node(name: str = "one", gpus: int = 8, *, ready: bool = True, **spec: Any) -> dict[str, Any]:
    labels = spec.pop("labels", {})
    conditions = [{"type": "Ready", "status": "True" if ready else "False", "reason": "KubeletNotReady"}]
    amounts = {"cpu": "64", "memory": "512Gi", **({GPU: str(gpus)} if gpus else {})}
    status = {"conditions": conditions, "allocatable": amounts}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status}


def pod(gpus: int, on: str = "one", phase: str = "Running", name: str = "holder") -> dict[str, Any]:
    container = {"resources": {"limits": {GPU: str(gpus)}}}
    spec = {"nodeName": on, "containers": [container]}
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": spec, "status": {"phase": phase}}


def trial(gpus: int, number: int, on: str = "one", **meta: Any) -> dict[str, Any]:
    """A pod that OME made for a trial; without a node where `on` is empty."""
    label = f"sweep-{number}"
    labels = {manifests.LABEL: label, "ome.io/inferenceservice": manifests.name(label)}
    made = pod(gpus, on, name=f"st-{label}-engine-x")
    return {**made, "metadata": {**made["metadata"], "labels": labels, **meta}}
