"""What OME makes of an InferenceService, its runtime and its model: one Deployment and its Services.

Source: pkg/controller/v1beta1/inferenceservice/utils/merging.go and components/engine.go of OME.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PORT = 8080
MAIN = "ome-container"
KEYS = {"env": "name", "volumes": "name", "volumeMounts": "mountPath", "ports": "containerPort", "containers": "name"}
OF_COMPONENT = ("runner", "leader", "worker", "minReplicas", "maxReplicas", "labels", "annotations")


class InvalidError(Exception):
    """The InferenceService cannot be served; `reason` is one of OME's FailureReason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Parts:
    """The three objects."""

    service: Any
    runtime: Any
    model: Any

    @property
    def name(self) -> str:
        return str(self.service["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.service["metadata"]["namespace"])

    @property
    def labels(self) -> dict[str, str]:
        """Of the pods; what selects them too."""
        return {"app": f"isvc.{self.name}-engine", "ome.io/inferenceservice": self.name, "component": "engine"}


def merged(base: Any, over: Any, key: str = "") -> Any:
    """A strategic merge: maps merge, some lists merge by a key, all else is replaced whole."""
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        names = [*base, *(name for name in over if name not in base)]
        return {name: _either(base, over, name) for name in names}
    if isinstance(base, list) and isinstance(over, list) and key in KEYS:
        known = {one[KEYS[key]]: one for one in base}
        for one in over:
            known[one[KEYS[key]]] = merged(known.get(one[KEYS[key]], {}), one)
        return list(known.values())
    return over


def _either(base: Mapping[str, Any], over: Mapping[str, Any], name: str) -> Any:
    if name not in over:
        return base[name]
    return merged(base[name], over[name], name) if name in base else over[name]


def deployment(parts: Parts) -> dict[str, Any]:
    """Of the engine.

    Raises:
        InvalidError: no runner, or one with another name than OME's.
    """
    engine = merged(parts.runtime["spec"].get("engineConfig", {}), parts.service["spec"]["engine"])
    labels = {**parts.labels, "serving-runtime": parts.runtime["metadata"]["name"], **engine.get("labels", {})}
    template = {
        "metadata": {"labels": labels, "annotations": engine.get("annotations", {})},
        "spec": _pod(parts, engine),
    }
    spec = {"replicas": engine.get("minReplicas", 1), "selector": {"matchLabels": parts.labels}, "template": template}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(parts, f"{parts.name}-engine"),
        "spec": {**spec, "strategy": {"rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}},
    }


def services(parts: Parts) -> list[dict[str, Any]]:
    """That of the engine, and the one outside clients use where OME makes no ingress."""
    port = {"name": f"{parts.name}-engine", "port": PORT, "targetPort": PORT, "protocol": "TCP"}
    spec = {"type": "ClusterIP", "selector": parts.labels, "ports": [port]}
    names = (f"{parts.name}-engine", parts.name)
    return [{"apiVersion": "v1", "kind": "Service", "metadata": _metadata(parts, name), "spec": spec} for name in names]


def model_label(model: Any) -> str:
    """Of the nodes that have it; OME hashes names beyond 32 characters, which is not played."""
    meta = model["metadata"]
    kind = f"{meta['namespace']}.basemodel" if "namespace" in meta else "clusterbasemodel"
    return f"models.ome.io/{kind}.{meta['name']}"


def _pod(parts: Parts, engine: Any) -> dict[str, Any]:
    runner = engine.get("runner")
    if not runner or runner.get("name") != MAIN:
        raise InvalidError("InvalidPredictorSpec", f"the runner must be a container named {MAIN}")
    path = parts.model["spec"]["storage"]["path"]
    volume = {"name": parts.model["metadata"]["name"], "hostPath": {"path": path}}
    pod = {name: item for name, item in engine.items() if name not in OF_COMPONENT}
    selector = {**pod.get("nodeSelector", {}), model_label(parts.model): "Ready"}
    container = _filled(parts, _with_model(runner, path, volume["name"]))
    others = [one for one in pod.get("containers", []) if one["name"] != MAIN]
    volumes = merged(pod.get("volumes", []), [volume], "volumes")
    return {**pod, "containers": [container, *others], "volumes": volumes, "nodeSelector": selector}


def _with_model(runner: Any, path: str, volume: str) -> Any:
    gpus = runner.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0)
    env = [{"name": "MODEL_PATH", "value": path}]
    env += [{"name": "PARALLELISM_SIZE", "value": str(gpus)}] if int(gpus) else []
    mount = {"name": volume, "mountPath": path, "readOnly": True}
    return merged(runner, {"env": env, "volumeMounts": [mount]})


def _filled(parts: Parts, runner: Any) -> Any:
    """OME renders the runner as a Go template with three names; any other braces break it."""
    text = json.dumps(runner).replace("{{.Name}}", parts.name).replace("{{.Namespace}}", parts.namespace)
    for name, value in parts.service["metadata"].get("labels", {}).items():
        text = text.replace(f"{{{{.Labels.{name}}}}}", value)
    if "{{" in text:
        raise InvalidError("InvalidPredictorSpec", "failed to parse the runner as a template")
    return json.loads(text)


def _metadata(parts: Parts, name: str) -> dict[str, Any]:
    meta = parts.service["metadata"]
    owner = {"apiVersion": "ome.io/v1beta1", "kind": "InferenceService", "name": parts.name, "uid": meta["uid"]}
    owners = [{**owner, "controller": True, "blockOwnerDeletion": True}]
    return {"name": name, "namespace": parts.namespace, "labels": parts.labels, "ownerReferences": owners}
