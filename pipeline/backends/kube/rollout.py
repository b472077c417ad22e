"""Judges a trial's objects: still starting, engine started, will never start, or ended and how. Pure.

Words and reasons are Kubernetes' own (pkg/kubelet/images/types.go, pkg/kubelet/kuberuntime, the scheduler's
PodScheduled condition, the replica set controller's ReplicaFailure) and OME's (ModelStatus of InferenceService).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.backends.kube import taken
from pipeline.core.errors import FailureKind as Kind
from pipeline.engines import pod_ends

CONTAINER = "ome-container"
Object = Mapping[str, Any]
Phase = Literal["schedule", "image"]

PULL_FAILED = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
CONFIG_FAILED = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
SCALING = ("TriggeredScaleUp", "Nominated")  # the cluster autoscaler's and Karpenter's word that a node will come
_NO_MATCH = re.compile(r"didn't (match|satisfy)|taint")
_BEFORE = "Kubernetes ended the pod before the engine ran"
_AFTER = "Kubernetes ended the pod after the engine had started"
_MODEL = "See the conditions: kubectl -n {namespace} describe inferenceservice {name}"


@dataclass(frozen=True)
class Seen:
    """All that the cluster says of one trial; None or empty where there is nothing yet."""

    service: Object | None = None  # the InferenceService
    deployment: Object | None = None
    pods: tuple[Object, ...] = ()
    events: tuple[Object, ...] = ()  # oldest first
    gone: tuple[Object, ...] = ()  # pods that were deleted, as they were seen last
    is_removed: bool = False  # the InferenceService or the engine's pod was there, and is not any more


@dataclass(frozen=True)
class Waiting:
    """The trial may still start."""

    words: str
    phase: Phase
    is_ignored: bool = False  # OME has not even looked at it
    is_untimed: bool = False  # it has a limit of its own, or stands behind other trials: the phase's time stands still


@dataclass(frozen=True)
class Running:
    """The process of the engine has been started in this pod."""

    pod: Object


@dataclass(frozen=True)
class Broken:
    """The trial will never start. `is_sure`: fail at once; else only if it is still so a few seconds later."""

    kind: Kind
    message: str
    hint: str
    is_sure: bool = True
    lacks_gpus: bool = False  # whoever has them may give them back


Verdict = Waiting | Running | Broken


def verdict(seen: Seen, *, gpu_resource: str = "nvidia.com/gpu") -> Verdict:
    """What has become of a trial that was just deployed."""
    if seen.is_removed:
        return _removed(seen)
    pod = engine_pod(seen)
    if pod is None:
        return _without_pod(seen)
    return (
        _of_container(seen, pod) or _of_model(seen) or _of_scheduling(seen, pod, gpu_resource) or _on_its_way(seen, pod)
    )


def _removed(seen: Seen) -> Broken:
    last = _newest(seen.gone)
    said = taken.words(last, _about(seen, last), is_gone=True) if last else ""
    if said and (known := pod_ends.pattern(said)):
        return Broken(known.kind, f"{_BEFORE}: {said}.", known.hint)
    return Broken(Kind.CANCELLED, "The InferenceService or its pod was deleted by somebody else.", "Find out who did.")


def engine_pod(seen: Seen) -> Object | None:
    """The pod of the engine; the newest where there are several."""
    return _newest(seen.pods)


def _newest(pods: Iterable[Object]) -> Object | None:
    return max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)


def container(pod: Object) -> Object:
    """The status of the engine's container; empty before a kubelet has looked at the pod."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return next((one for one in statuses if one["name"] == CONTAINER), {})


def ended(pod: Object) -> Object | None:
    """How the engine's first process ended (ContainerStateTerminated), also where another was started in its place."""
    status = container(pod)
    found: Object | None = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")
    return found


def how(end: Object) -> str:
    """`exit code 1`, in the words that pipeline.engines.diagnose knows."""
    code = f"exit code {end.get('exitCode')}"
    return f"{code} (killed by the memory limit)" if end.get("reason") == "OOMKilled" else code


def death(seen: Seen, uid: str) -> str | None:
    """How the engine in the pod `uid` ended, in Kubernetes' words where it took the pod away; None while it runs."""
    pod = next((one for one in seen.pods if one["metadata"]["uid"] == uid), None)
    if pod is None:
        return _gone(seen, uid)
    end, status, is_deleted = ended(pod), pod.get("status", {}), "deletionTimestamp" in pod["metadata"]
    is_over = end is not None or is_deleted or status.get("phase") in {"Failed", "Succeeded"}
    if is_over and (said := taken.words(pod, _about(seen, pod))):
        return taken.how(said)
    if is_deleted:
        return taken.how(taken.DELETED)
    if is_over:
        return how(end) if end is not None else f"its pod is {status['phase']}"
    given_up = _of_model(seen) if not container(pod).get("ready") else None
    return given_up.message if given_up else None


def _gone(seen: Seen, uid: str) -> str:
    last = next((one for one in seen.gone if one["metadata"]["uid"] == uid), None)
    events = _about(seen, uid)
    return taken.how((taken.words(last, events, is_gone=True) if last else taken.told(events)) or taken.DELETED)


def condition(seen: Seen) -> str | None:
    """What pod and InferenceService say of an engine that is not ready: the last warning and every False condition."""
    pod = engine_pod(seen)
    words = [_last_warning(seen, pod)] if pod else []
    words += [f"pod {said}" for said in _false(pod) if not said.startswith("ContainersReady")]
    words += [f"InferenceService {said}" for said in _false(seen.service) if not said.startswith("Ready ")]
    return "; ".join(filter(None, words)) or None


def _without_pod(seen: Seen) -> Verdict:
    """A Deployment that may make none says so by its ReplicaFailure condition: quota, admission webhooks."""
    refused = _condition(seen.deployment, "ReplicaFailure")
    if refused.get("status") == "True":
        hint = "Fix what the message names; for a quota: kubectl describe resourcequota."
        words = f"Kubernetes creates no pod for the engine: {refused.get('message')}"
        return Broken(Kind.UNSCHEDULABLE, words, hint, is_sure=False)
    broken = _of_model(seen)
    if broken:
        return broken
    if not (seen.service or {}).get("status"):
        return Waiting("OME has not processed the InferenceService yet", "schedule", is_ignored=True)
    return Waiting(f"no pod yet; {condition(seen) or 'OME says nothing'}", "schedule")


def _of_model(seen: Seen) -> Broken | None:
    """Not sure at first: OME may not know yet a model or runtime that was made a moment ago."""
    told = (seen.service or {}).get("status", {}).get("modelStatus", {})
    failure = told.get("lastFailureInfo") or {}
    words = ": ".join(filter(None, [failure.get("reason"), failure.get("message")])) or "no reason given"
    meta = (seen.service or {}).get("metadata", {})
    hint = _MODEL.format(name=meta.get("name"), namespace=meta.get("namespace"))
    if told.get("transitionStatus") == "InvalidSpec":
        kind = Kind.MODEL_MISSING if failure.get("reason") == "BaseModelNotFound" else Kind.LOAD_FAILED
        return Broken(kind, f"OME cannot serve the InferenceService: {words}", hint, is_sure=False)
    if told.get("transitionStatus") == "BlockedByFailedLoad":
        return Broken(Kind.LOAD_FAILED, f"OME gave up on the model: {words}", hint, is_sure=False)
    return None


def _of_container(seen: Seen, pod: Object) -> Verdict | None:
    status = container(pod)
    state = status.get("state", {})
    why = state.get("waiting", {}).get("reason", "")
    said = state.get("waiting", {}).get("message", "")
    end = ended(pod)
    if failed := _failed(seen, pod, is_over=end is not None):
        return failed
    if end is not None:
        return _crashed(pod, end)
    if "running" in state:
        return _of_model(seen) or Running(pod)
    if why in PULL_FAILED:
        return _not_pulled(pod, f"{status.get('image')}: {_pull_words(seen, pod) or said or why}")
    if why in CONFIG_FAILED:
        words = f"The container cannot be created: {why}: {said}"
        return Broken(Kind.LOAD_FAILED, words, _describe(pod), is_sure=False)
    return None


def _crashed(pod: Object, end: Object) -> Broken:
    more = ": ".join(filter(None, [end.get("reason"), end.get("message")]))
    hint = f"Read server.log; kubectl -n {pod['metadata']['namespace']} logs {pod['metadata']['name']} --previous"
    return Broken(Kind.CRASH_LOOP, f"The engine ended right after its start ({how(end)}; {more}).", hint)


def _not_pulled(pod: Object, words: str) -> Broken:
    from pipeline.backends import pull_errors  # it needs the docker library, which takes its time

    said = pull_errors.failure("", words)
    hint = "Check the image (runtime.image, backend.kubernetes.image) and backend.kubernetes.image_pull_secrets. "
    return Broken(said.kind, f"The image cannot be pulled: {words}", hint + _describe(pod))


def _pull_words(seen: Seen, pod: Object) -> str:
    """What the registry said: the waiting container says later only that it backs off."""
    events = [one for one in _about(seen, pod) if one.get("reason") == "Failed"]
    found = [str(one["message"]) for one in events if "pull image" in str(one.get("message"))]
    return found[-1] if found else ""


def _failed(seen: Seen, pod: Object, *, is_over: bool) -> Broken | None:
    """Taken away (evicted, preempted) or refused by a kubelet. `is_over`: its engine has ended, too."""
    is_failed = pod.get("status", {}).get("phase") == "Failed"
    said = taken.words(pod, _about(seen, pod)) if is_failed or is_over else ""
    known = pod_ends.pattern(said) if said else None
    if known:
        return Broken(known.kind, f"{_AFTER if is_over else _BEFORE}: {said}.", f"{known.hint} {_describe(pod)}")
    if is_failed and not is_over:
        return Broken(Kind.LOAD_FAILED, f"The pod failed: {said or 'no reason given'}", _describe(pod))
    return None


def _of_scheduling(seen: Seen, pod: Object, gpu_resource: str) -> Broken | None:
    """A failure only if waiting cannot help: missing GPUs (but see room.py), or no node that fits and none to come."""
    told = _condition(pod, "PodScheduled")
    if told.get("reason") != "Unschedulable" or any(one.get("reason") in SCALING for one in _about(seen, pod)):
        return None
    words = str(told.get("message", ""))
    if f"Insufficient {gpu_resource}" in words:
        hint = f"Use fewer GPUs, or wait: kubectl describe nodes shows {gpu_resource} under Allocatable and Allocated."
        said = f"No node has enough free GPUs: {words}"
        return Broken(Kind.UNSCHEDULABLE, said, hint, is_sure=False, lacks_gpus=True)
    reasons = re.split(r"(?<=[a-z}]), (?=\d)", words.partition("available: ")[2].rstrip("."))
    if all(_NO_MATCH.search(reason) for reason in reasons) and "didn't" in words:
        hint = f"Compare the node labels that the pod requires ({_wanted(pod)}) with kubectl get nodes --show-labels."
        return Broken(Kind.UNSCHEDULABLE, f"The pod may run on no node: {words}", hint, is_sure=False)
    return None


def _on_its_way(seen: Seen, pod: Object) -> Waiting:
    name = pod["metadata"]["name"]
    if not pod["spec"].get("nodeName"):
        words = _condition(pod, "PodScheduled").get("message", "the scheduler has not processed it yet")
        return Waiting(f"pod {name} waits for a node: {words}", "schedule")
    why = container(pod).get("state", {}).get("waiting", {}).get("reason", "bound")
    said = "; ".join(filter(None, [f"pod {name} on {pod['spec']['nodeName']}: {why}", _last_warning(seen, pod)]))
    return Waiting(said, "image")


def _wanted(pod: Object) -> str:
    selector = pod["spec"].get("nodeSelector") or {}
    return ", ".join(f"{name}={text}" for name, text in selector.items()) or "none, only an affinity"


def _describe(pod: Object) -> str:
    return f"kubectl -n {pod['metadata']['namespace']} describe pod {pod['metadata']['name']}"


def _about(seen: Seen, thing: Object | str) -> list[Object]:
    uid = thing if isinstance(thing, str) else thing["metadata"]["uid"]
    return [one for one in seen.events if one.get("involvedObject", {}).get("uid") == uid]


def _last_warning(seen: Seen, pod: Object) -> str:
    """The last warning about the pod, except the scheduler's, which is also a condition."""
    found = [one for one in _about(seen, pod) if one.get("type") == "Warning" and one["reason"] != "FailedScheduling"]
    return str(found[-1].get("message", "")).strip() if found else ""


def _conditions(thing: Object | None) -> Iterable[Object]:
    found: Iterable[Object] = (thing or {}).get("status", {}).get("conditions", [])
    return found


def _condition(thing: Object | None, kind: str) -> Object:
    return next((one for one in _conditions(thing) if one["type"] == kind), {})


def _false(thing: Object | None) -> list[str]:
    """`Ready False ContainersNotReady: ...` of each that is."""
    bad = [one for one in _conditions(thing) if one["status"] == "False"]
    return [
        ": ".join(filter(None, [f"{one['type']} False {one.get('reason', '')}".strip(), one.get("message")]))
        for one in bad
    ]
