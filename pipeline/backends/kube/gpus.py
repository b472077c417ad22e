"""Which GPUs a cluster's nodes have, by their labels: for hardware=auto. `kinds` is pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.backends.kube import capacity, client
from pipeline.backends.kube.client import ApiError, Unreachable
from pipeline.core.errors import ConfigError, FailureKind, PreflightFailed
from pipeline.core.schema_hardware import Seen, Vendor

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.core.schema import Config

Object = Mapping[str, Any]
ANSWER_S = 5.0
# Labels by NVIDIA's GPU feature discovery (github.com/NVIDIA/k8s-device-plugin, docs/gpu-feature-discovery), memory in
# MiB; by AMD's node labeller (github.com/ROCm/k8s-device-plugin, cmd/k8s-node-labeller), memory like 192G
LABELS: Mapping[Vendor, tuple[str, str]] = {
    "nvidia": (capacity.PRODUCT, "nvidia.com/gpu.memory"),
    "amd": ("amd.com/gpu.product-name", "amd.com/gpu.vram"),
}
COMPUTE = ("nvidia.com/gpu.compute.major", "nvidia.com/gpu.compute.minor")
NAME_IT = "Name the hardware of the nodes, e.g. hardware=h100 hardware.gpu_count=8."


def of(config: "Config") -> tuple[Seen, ...]:
    """The GPUs of the nodes that could run a trial, one item per kind.

    Raises:
        PreflightFailed: the cluster cannot be asked for its nodes.
        ConfigError: a node with GPUs has no label that says which.
    """
    settings = config.backend.kubernetes
    if settings is None:
        return ()
    api = client.connect(settings.cluster, answer_s=ANSWER_S)
    try:
        with closing(api):
            nodes = api.list("Node")
    except Unreachable as error:
        raise PreflightFailed(
            f"hardware=auto: the cluster at {api.host} cannot be reached: {error}",
            kind=FailureKind.BACKEND_DOWN,
            hint=f"Check kubectl cluster-info and backend.kubernetes.cluster. Without the cluster: {NAME_IT}",
        ) from error
    except ApiError as error:
        raise PreflightFailed(
            f"hardware=auto: the cluster does not show its nodes: {error}", hint=f"{NAME_IT} Or: kubectl get nodes"
        ) from error
    return kinds(nodes, capacity.want_of(settings, 0))


def kinds(nodes: Sequence[Object], want: capacity.Want) -> tuple[Seen, ...]:
    """The kinds among the nodes that take the trial's pod, whatever runs there; the largest number first.

    Raises:
        ConfigError: a node with GPUs has no label that says which.
    """
    found: dict[Seen, int] = {}
    for seen in _seen(capacity.usable(nodes, want), want.resource):
        kind = replace(seen, count=0)
        found[kind] = max(found.get(kind, 0), seen.count)
    return tuple(replace(kind, count=count) for kind, count in Counter(found).most_common())


def _seen(nodes: Sequence[Object], resource: str) -> Iterator[Seen]:
    vendor: Vendor = "amd" if resource.startswith("amd.com/") else "nvidia"
    product, memory = LABELS[vendor]
    for node in nodes:
        count = int(capacity.amount((node.get("status", {}).get("allocatable") or {}).get(resource, 0)))
        labels = node["metadata"].get("labels") or {}
        if not count:
            continue
        if product not in labels:
            raise ConfigError(
                f"hardware=auto: node {node['metadata']['name']} has {count} {resource}, but no label {product} that "
                f"says which. {NAME_IT}"
            )
        yield Seen(
            vendor=vendor,
            name=_spelled(str(labels[product]), vendor),
            count=count,
            memory_gib=_gib(labels.get(memory)),
            compute_capability=_capability(labels),
        )


def _spelled(label: str, vendor: Vendor) -> str:
    """AMD's labels leave the maker out; a label has no spaces."""
    return label if label.upper().startswith(vendor.upper()) else f"{vendor.upper()}-{label}"


def _gib(text: object) -> float | None:
    """MiB, or a number with a unit that means a power of two: 81559, 192G."""
    words = str(text or "")
    number = capacity.amount(f"{words}i" if words[-1:].isalpha() else f"{words or 0}Mi")
    return number / 2**30 or None


def _capability(labels: Mapping[str, Any]) -> float | None:
    major, minor = (labels.get(name) for name in COMPUTE)
    return float(f"{major}.{minor}") if major and minor else None
