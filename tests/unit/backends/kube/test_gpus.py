"""hardware=auto in a cluster: what the nodes' labels say of their GPUs."""

from typing import Any

import pytest

from pipeline.backends.kube import gpus
from pipeline.backends.kube.capacity import Want
from pipeline.core.errors import ConfigError
from pipeline.core.schema_hardware import Seen

WANT = Want("nvidia.com/gpu", 0)
LABELS = {
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.memory": "81559",
    "nvidia.com/gpu.compute.major": "9",
    "nvidia.com/gpu.compute.minor": "0",
}
H100 = Seen(vendor="nvidia", name="NVIDIA-H100-80GB-HBM3", count=8, memory_gib=81559 / 1024, compute_capability=9.0)


def node(name: str, count: int, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    resource = "amd.com/gpu" if any(key.startswith("amd") for key in labels or {}) else "nvidia.com/gpu"
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": spec,
        "status": {"allocatable": {resource: str(count)}, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def test_the_node_with_the_most_counts() -> None:
    assert gpus.kinds([node("a", 4, LABELS), node("b", 8, LABELS), node("c", 0)], WANT) == (H100,)


def test_kinds_are_told_apart() -> None:
    other = {**LABELS, "nvidia.com/gpu.product": "NVIDIA-L4"}
    found = gpus.kinds([node("a", 1, other), node("b", 8, LABELS)], WANT)
    assert [(kind.name, kind.count) for kind in found] == [("NVIDIA-H100-80GB-HBM3", 8), ("NVIDIA-L4", 1)]


def test_nodes_that_trials_cannot_go_to_do_not_count() -> None:
    nodes = [node("a", 8, LABELS, unschedulable=True), node("b", 8, {**LABELS, "pool": "x"})]
    assert gpus.kinds(nodes[:1], WANT) == ()
    assert gpus.kinds(nodes, Want("nvidia.com/gpu", 0, selector={"pool": "y"})) == ()


def test_a_node_that_does_not_say_which_gpus_it_has() -> None:
    with pytest.raises(ConfigError, match=r"node a has 8 nvidia.com/gpu, but no label nvidia.com/gpu.product"):
        gpus.kinds([node("a", 8)], WANT)


def test_labels_by_amd() -> None:
    labels = {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.vram": "192G"}
    [seen] = gpus.kinds([node("a", 8, labels)], Want("amd.com/gpu", 0))
    assert (seen.vendor, seen.name, seen.count, seen.memory_gib) == ("amd", "AMD_Instinct_MI300X_OAM", 8, 192.0)
