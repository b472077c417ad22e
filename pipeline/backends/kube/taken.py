"""What Kubernetes says of a pod that it took away: evicted, preempted, drained, lost with its node, or refused. Pure.

A kubelet evicts by `status.reason` and `status.message` and first tells an event. The API server, the scheduler and the
controllers leave a `DisruptionTarget` condition and delete the pod. Sources: Kubernetes' pkg/kubelet/eviction,
preemption, nodeshutdown and lifecycle/predicate.go; pkg/controller/tainteviction and podgc; k8s.io/api/core/v1.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.engines.pod_ends import POD_ENDED

Object = Mapping[str, Any]
DELETED = "somebody deleted it"  # and nobody said why
# What is said of the pod itself before its containers end. `TaintManagerEviction` may also tell that it was cancelled.
_EVENTS = {"Evicted": "", "Preempting": "", "Preempted": "", "TaintManagerEviction": "Marking for deletion"}


def words(pod: Object, events: Iterable[Object], *, is_gone: bool = False) -> str:
    """`Evicted: The node was low on resource: memory. ...`; empty where nobody took the pod away.

    `events`: those about the pod, oldest first. `is_gone`: this was the last that was seen of it.
    """
    status = pod.get("status", {})
    is_leaving = is_gone or status.get("phase") == "Failed" or "deletionTimestamp" in pod["metadata"]
    if is_leaving and status.get("reason"):
        return _joined(status["reason"], status.get("message"))
    # Of a pod that stays, a condition is left of an eviction that did not come
    return (_disruption(status) if is_leaving else "") or told(events)


def told(events: Iterable[Object]) -> str:
    """What the last event says that announces a pod's end; empty where none does."""
    found = [
        _joined(one["reason"], one.get("message"))
        for one in events
        if one.get("reason") in _EVENTS and str(one.get("message", "")).startswith(_EVENTS[one["reason"]])
    ]
    return found[-1] if found else ""


def how(said: str) -> str:
    """How an engine in such a pod ended, as pipeline.engines.diagnose takes it."""
    return f"{POD_ENDED}{said}"


def _disruption(status: Object) -> str:
    found = (one for one in status.get("conditions", ()) if one["type"] == "DisruptionTarget")
    return next((_joined(one.get("reason", ""), one.get("message")) for one in found if one["status"] == "True"), "")


def _joined(reason: str, message: object) -> str:
    return ": ".join(filter(None, [reason, str(message or "").strip().rstrip(".")]))
