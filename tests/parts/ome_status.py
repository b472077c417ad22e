"""What OME says of an InferenceService, from its Deployment and its pods.

Source: pkg/controller/v1beta1/inferenceservice/status/ of OME; InvalidSpec for a missing model is not verified. The
real one says activeModelState "" where this says "Pending": Kubernetes 1.20 takes an empty string for null.
"""

from __future__ import annotations

from typing import Any

from parts.kubelet_container import now
from parts.ome_behaviour import Behaviour
from parts.ome_render import MAIN, PORT, InvalidError

NOT_READY = ("ComponentNotReady", "Target service not ready for ingress creation")
Condition = dict[str, str]


def of(service: Any, deployment: Any, pods: list[Any], behaviour: Behaviour) -> dict[str, Any]:
    """The status of a service that is being served."""
    engine = _engine_condition(deployment)
    is_ready = engine["status"] == "True" or behaviour.is_ready_early
    ingress = _condition("IngressReady", is_true=is_ready, why=NOT_READY)
    ready = _condition("Ready", is_true=is_ready, why=NOT_READY)
    meta = service["metadata"]
    url = f"http://{meta['name']}.{meta['namespace']}.svc.cluster.local:{PORT}"
    told = {"url": url, "address": {"url": url}} if is_ready else {}
    component = {"latestCreatedRevision": "1", **({"latestReadyRevision": "1", "url": url} if is_ready else {})}
    return {
        **told,
        "observedGeneration": meta["generation"],
        "components": {"engine": component},
        "conditions": _dated([engine, ingress, ready], service),
        "modelStatus": _model_status(pods, behaviour, is_ready=is_ready),
    }


def invalid(service: Any, error: InvalidError) -> dict[str, Any]:
    """The status of one that cannot be."""
    failure = {"reason": error.reason, "message": str(error)}
    states = {"activeModelState": "Pending", "targetModelState": "FailedToLoad"}
    conditions = [_condition(kind, is_true=False, why=NOT_READY) for kind in ("IngressReady", "Ready")]
    model = {"transitionStatus": "InvalidSpec", "lastFailureInfo": failure, "modelRevisionStates": states}
    return {
        "observedGeneration": service["metadata"]["generation"],
        "conditions": _dated(conditions, service),
        "modelStatus": model,
    }


def _engine_condition(deployment: Any) -> Condition:
    """The Deployment's own words."""
    found = [one for one in deployment.get("status", {}).get("conditions", []) if one["type"] == "Available"]
    if not found:
        why = ("Initializing", "engine component initializing")
        return {**_condition("EngineReady", is_true=False, why=why), "severity": "Info"}
    is_true = found[0]["status"] == "True"
    return _condition("EngineReady", is_true=is_true, why=(found[0]["reason"], found[0]["message"]))


def _condition(kind: str, *, is_true: bool, why: tuple[str, str]) -> Condition:
    told = {} if is_true else {"reason": why[0], "message": why[1]}
    return {"type": kind, "status": "True" if is_true else "False", **told}


def _dated(conditions: list[Condition], service: Any) -> list[Condition]:
    """With the time since when each is as it is."""
    before = {one["type"]: one for one in service.get("status", {}).get("conditions", [])}
    return [{**one, "lastTransitionTime": _since(before.get(one["type"]), one)} for one in conditions]


def _since(before: Condition | None, condition: Condition) -> str:
    is_same = before is not None and before["status"] == condition["status"]
    return before["lastTransitionTime"] if before is not None and is_same else now()


def _model_status(pods: list[Any], behaviour: Behaviour, *, is_ready: bool) -> dict[str, Any]:
    if behaviour.load_error:
        place = {"location": pods[0]["metadata"]["name"]} if pods else {}
        return _failed({**place, "reason": "ModelLoadFailed", "message": behaviour.load_error, "exitCode": 1})
    if is_ready:
        states = {"activeModelState": "Loaded", "targetModelState": "Loaded"}
        copies = {"failedCopies": 0, "totalCopies": max(1, len(pods))}
        return {"transitionStatus": "UpToDate", "modelRevisionStates": states, "modelCopies": copies}
    failure = _failure(pods[0]) if pods else None
    if failure is not None:
        return _failed(failure)
    states = {"activeModelState": "Pending", "targetModelState": "Pending"}
    return {"transitionStatus": "InProgress", "modelRevisionStates": states}


def _failed(failure: Any) -> dict[str, Any]:
    states = {"activeModelState": "Pending", "targetModelState": "FailedToLoad"}
    return {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": failure, "modelRevisionStates": states}


def _failure(pod: Any) -> dict[str, Any] | None:
    """How the engine's container ended, where it ended badly; a failed image pull counts in newer OME only."""
    for status in pod["status"].get("containerStatuses", []):
        ended = status["state"].get("terminated")
        if status["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff":
            ended = status.get("lastState", {}).get("terminated")
        if status["name"] == MAIN and ended and ended["reason"] != "Completed":
            told = {"message": ended["message"]} if ended.get("message") else {}
            place = {"location": pod["metadata"]["name"], "exitCode": ended["exitCode"]}
            return {**place, "reason": "ModelLoadFailed", **told}
    return None
