"""Checks whether a cluster's OME works: its definitions, controller and model agent. Pure: objects in, text out.

Names of the installed objects: OME, charts/ome-resources/templates/{ome-controller,model-agent-daemonset}.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from pipeline.core.errors import FailureKind, PreflightFailed

Object = Mapping[str, Any]
LogOf = Callable[[str, str], str]  # pod, container: the end of what it last said
NAMESPACE = "ome"  # OME works in no other
MANAGER = "ome-controller-manager"
AGENT = "model-agent"
CHARTS = "oci://ghcr.io/moirai-internal/charts"
VERSION = "1.2.2"
INSTALL_CRDS = f"helm upgrade --install ome-crd {CHARTS}/ome-crd --version {VERSION} -n {NAMESPACE} --create-namespace"
INSTALL = f"helm upgrade --install ome {CHARTS}/ome-resources --version {VERSION} -n {NAMESPACE}"
INSTANCE_TYPES = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
ROOT_FLAG = "--models-root-dir"
LOG_LINES = 3


def definitions(served: Mapping[str, bool]) -> str:
    """Check that the API server serves all kinds that a trial needs. `served`: whether it serves each.

    Raises:
        PreflightFailed: at least one is missing.
    """
    missing = sorted(name for name, is_served in served.items() if not is_served)
    if missing:
        raise PreflightFailed(
            f"The cluster has no {', '.join(missing)} of ome.io/v1beta1: OME is not installed, or in another version.",
            hint=f"{INSTALL_CRDS} && {INSTALL}",
        )
    return f"ome.io/v1beta1: {', '.join(sorted(served))}"


def schema(definition: Object) -> Mapping[str, Any]:
    """The schema of v1beta1 in a CustomResourceDefinition; empty where it has none."""
    versions = definition["spec"]["versions"]
    found: Object = next((one for one in versions if one["name"] == "v1beta1"), {})
    told: Mapping[str, Any] = (found.get("schema") or {}).get("openAPIV3Schema") or {}
    return told


def has_claims(base_model: Mapping[str, Any]) -> bool:
    """Whether models on a claim are served, from ClusterBaseModel's schema: OME 1.2 added status.conditions to it."""
    status = (base_model.get("properties") or {}).get("status") or {}
    return "conditions" in (status.get("properties") or {})


def pruned(fields: Mapping[str, Sequence[str]]) -> None:
    """Check that the API server would drop no field silently. `fields`: the paths that it would drop, by kind.

    Raises:
        PreflightFailed: there are some.
    """
    lost = [f"{kind} {path}" for kind, paths in fields.items() for path in paths]
    if lost:
        raise PreflightFailed(
            f"The installed OME does not support {', '.join(lost)}: the API server would drop it silently.",
            hint=f"Update OME's definitions: {INSTALL_CRDS}",
        )


def no_claims() -> PreflightFailed:
    """The failure for a model on a claim that OME would leave In_Transit forever."""
    return PreflightFailed(
        "storage.uri=pvc://... needs OME 1.2.0 or later. The installed OME has no status.conditions in "
        "ClusterBaseModel and would leave the model In_Transit forever.",
        hint=f"{INSTALL_CRDS} && {INSTALL}, or use hf:// or local://.",
    )


def version(workload: Object) -> str:
    """The tag of a workload's first image, e.g. v1.2.2; empty where there is none."""
    image = str(workload["spec"]["template"]["spec"]["containers"][0].get("image", "")).partition("@")[0]
    return image.rpartition(":")[2] if ":" in image.rpartition("/")[2] else ""


def controller(deployments: Sequence[Object], pods: Sequence[Object], log_of: LogOf) -> str:
    """Check that OME's controller is available to serve an InferenceService.

    Raises:
        PreflightFailed: it is missing or none of its pods is available.
    """
    found = next((one for one in deployments if "controller-manager" in one["metadata"]["name"]), None)
    if found is None:
        raise PreflightFailed(
            f"OME's controller is not installed: namespace {NAMESPACE} has no Deployment {MANAGER}.", hint=INSTALL
        )
    name, wanted = found["metadata"]["name"], found["spec"].get("replicas", 1)
    available = found.get("status", {}).get("availableReplicas", 0)
    if not available:
        why = "; ".join(_troubles(_own(pods, found), log_of)) or f"{wanted} wanted"
        raise PreflightFailed(
            f"OME's controller is not available ({name}: {why}).",
            kind=FailureKind.BACKEND_DOWN,
            hint=f"kubectl -n {NAMESPACE} describe pods -l control-plane={MANAGER}; "
            f"kubectl -n {NAMESPACE} rollout restart deployment {name}",
        )
    return f"{name} {version(found)}: {available} of {wanted} available"


def agent(daemons: Sequence[Object]) -> Object:
    """The model agent's DaemonSet.

    Raises:
        PreflightFailed: there is none.
    """
    found = next((one for one in daemons if AGENT in one["metadata"]["name"]), None)
    if found is None:
        raise PreflightFailed(
            f"OME's model agent is not installed: namespace {NAMESPACE} has no DaemonSet for it, so no node would "
            "ever get a model.",
            hint=f"{INSTALL} --set modelAgent.enabled=true",
        )
    return found


def agents(daemon: Object, pods: Sequence[Object], usable: Sequence[Object], log_of: LogOf) -> str:
    """Check that a model agent is ready on a node that can run the trial; name the agents that are not.

    Raises:
        PreflightFailed: no such node has one; the message has the reason and the end of its log.
    """
    own, names = _own(pods, daemon), {node["metadata"]["name"] for node in usable}
    ready = {pod["spec"].get("nodeName") for pod in own if _is_ready(pod)} & names
    troubles = "; ".join(_troubles(own, log_of))
    if ready:
        rest = f"; elsewhere: {troubles}" if troubles else ""
        return f"{version(daemon) or 'there'}: ready on {len(ready)} of {len(names)} nodes for the trial{rest}"
    raise PreflightFailed(
        f"OME's model agent is ready on no node that can run the trial ({', '.join(sorted(names)[:5])}): "
        f"{troubles or 'it has no pod there'}.",
        kind=FailureKind.CRASH_LOOP if "CrashLoopBackOff" in troubles else FailureKind.BACKEND_DOWN,
        hint=_mend_agent(daemon, usable, troubles),
    )


def root(daemon: Object) -> PurePosixPath | None:
    """Where on the nodes the agent keeps models; None where its pod does not say."""
    pod = daemon["spec"]["template"]["spec"]
    container = pod["containers"][0]
    words = [str(word) for word in (*(container.get("command") or []), *(container.get("args") or []))]
    for spot, word in enumerate(words):
        if word == ROOT_FLAG and spot + 1 < len(words):
            return PurePosixPath(words[spot + 1])
        if word.startswith(f"{ROOT_FLAG}="):
            return PurePosixPath(word.partition("=")[2])
    paths = [
        one["hostPath"]["path"] for one in pod.get("volumes") or [] if "hostPath" in one and "model" in one["name"]
    ]
    return PurePosixPath(paths[0]) if len(paths) == 1 else None


def under(path: str, top: PurePosixPath | None) -> str:
    """Check that the model's path is under the folder where the agent keeps models.

    Raises:
        PreflightFailed: it does not, and would be downloaded into the agent's own container.
    """
    if top is None:
        return f"{path}; not checked: the model agent's folder cannot be read from its DaemonSet"
    if not PurePosixPath(path).is_relative_to(top):
        raise PreflightFailed(
            f"The model's path on the nodes, {path}, is not under the model agent's folder {top}: "
            "the engine would not find it.",
            hint=f"Set backend.kubernetes.storage.path={top}/{PurePosixPath(path).name}, or "
            f"{INSTALL} --reuse-values --set modelAgent.hostPath={PurePosixPath(path).parent}",
        )
    return f"{path} is under the agent's folder {top}"


def _mend_agent(daemon: Object, usable: Sequence[Object], troubles: str) -> str:
    """OME 0.1.2 and earlier end where a node has no instance type. Source: pkg/utils/node_shape_util.go, PR 141."""
    bare = [node["metadata"]["name"] for node in usable if not _instance_type(node)]
    if bare and ("shape" in troubles or re.fullmatch(r"v?0\.1\.[0-2]", version(daemon))):
        return (
            f"Add the node label that OME up to 0.1.2 needs: kubectl label node {' '.join(bare)} "
            f"{INSTANCE_TYPES[0]}=gpu; or install a later OME, which does not need it: {INSTALL}"
        )
    name = daemon["metadata"]["name"]
    return f"kubectl -n {NAMESPACE} logs daemonset/{name} --previous; kubectl -n {NAMESPACE} describe daemonset {name}"


def _instance_type(node: Object) -> str:
    labels = node["metadata"].get("labels") or {}
    return next((str(labels[name]) for name in INSTANCE_TYPES if labels.get(name)), "")


def _own(pods: Sequence[Object], workload: Object) -> list[Object]:
    """Pods with the labels that the workload selects."""
    wanted = workload["spec"]["selector"]["matchLabels"].items()
    return [pod for pod in pods if wanted <= (pod["metadata"].get("labels") or {}).items()]


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _troubles(pods: Sequence[Object], log_of: LogOf) -> Iterator[str]:
    """`agent-x on node-1 is in CrashLoopBackOff, exit code 1: ...` of every pod that is not ready."""
    for pod in pods:
        if _is_ready(pod):
            continue
        name, node = pod["metadata"]["name"], pod["spec"].get("nodeName") or "no node"
        statuses = pod.get("status", {}).get("containerStatuses") or []
        broken = next((one for one in statuses if not one.get("ready")), None)
        if broken is None:
            yield f"{name} on {node} is {pod.get('status', {}).get('phase', 'Pending')}"
            continue
        yield f"{name} on {node} {_state(broken)}{_tail(log_of(name, broken['name']))}"


def _state(status: Object) -> str:
    waiting = status["state"].get("waiting") or {}
    ended = status["state"].get("terminated") or (status.get("lastState") or {}).get("terminated")
    code = f", exit code {ended['exitCode']}" if ended else ""
    is_loop = waiting.get("reason") == "CrashLoopBackOff" or (ended and status.get("restartCount"))
    if is_loop:
        return f"is in CrashLoopBackOff{code}"
    return f"is not ready ({waiting.get('reason') or 'it runs'}{code})"


def _tail(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()][-LOG_LINES:]
    return f": {' | '.join(lines)}" if lines else ""
