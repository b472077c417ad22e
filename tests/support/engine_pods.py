"""The pod that OME makes for an engine, in every state."""

from typing import Any

UID = "1"
GPUS = "0/4 nodes are available: 1 Insufficient nvidia.com/gpu, 3 node(s) didn't match Pod's node affinity/selector."


def pod(state: Any = None, *, node: str | None = "one", uid: str = UID, **status: Any) -> dict[str, Any]:
    """A pod; `state` is that of the engine's container."""
    extra: dict[str, Any] = {name: status.pop(name) for name in ("lastState", "ready") if name in status}
    told: dict[str, Any] = {"name": "ome-container", "image": "engine:1", "state": state, **extra}
    statuses = [{"name": "sidecar", "state": {"running": {}}}, told] if state is not None else []
    meta = {"name": "st-x-engine-0", "namespace": "space", "uid": uid, "creationTimestamp": f"2026-01-0{uid}"}
    spec: dict[str, Any] = {"nodeSelector": {"zone": "a"}} | ({"nodeName": node} if node else {})
    return {"metadata": meta, "spec": spec, "status": {"containerStatuses": statuses, **status}}


def unscheduled(words: str) -> dict[str, Any]:
    told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    return pod(node=None, conditions=[told])
