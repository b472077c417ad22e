"""What an OME user writes, and what an installed OME looks like from outside.

The names of the installed objects are those of OME's chart, charts/ome-resources/templates/ (ome-controller/
deployment.yaml, model-agent-daemonset/daemonset.yaml); their commands and requests are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from parts.kube import Cluster
from parts.kube_api import OME
from pipeline.machine import process

NAMESPACE = "ome"
MANAGER = "ome-controller-manager"
AGENT = "ome-model-agent-daemonset"
MAIN = "ome-container"
UP_S = 90.0


def install(cluster: Cluster, *, managers: int = 1) -> None:
    """The objects in the namespace `ome`; the operator plays their pods on the nodes there are."""
    api = cluster.api
    if api.find(f"/api/v1/namespaces/{NAMESPACE}") is None:
        api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        api.create(f"/api/v1/namespaces/{NAMESPACE}/configmaps", _config())
    apps = f"/apis/apps/v1/namespaces/{NAMESPACE}"
    labels = {"control-plane": MANAGER, "controller-tools.k8s.io": "1.0"}
    api.create(f"{apps}/deployments", _workload(MANAGER, labels, "manager", replicas=managers))
    api.create(f"{apps}/daemonsets", _workload(AGENT, {"app.kubernetes.io/component": AGENT}, "model-agent"))


def wait_until_up(cluster: Cluster) -> None:
    """As preflight wants it: the controller and an agent are ready."""
    apps = f"/apis/apps/v1/namespaces/{NAMESPACE}"

    def is_up() -> bool:
        manager = cluster.api.get(f"{apps}/deployments/{MANAGER}").get("status", {})
        agent = cluster.api.get(f"{apps}/daemonsets/{AGENT}").get("status", {})
        return bool(manager.get("availableReplicas") and agent.get("numberReady"))

    assert process.wait_until(is_up, timeout_s=UP_S, interval_s=0.1), "OME does not start"


def add_model(cluster: Cluster, name: str, path: str = "/mnt/data/models/tiny", **spec: Any) -> Any:
    """A ClusterBaseModel."""
    body = {
        "apiVersion": "ome.io/v1beta1",
        "kind": "ClusterBaseModel",
        "metadata": {"name": name},
        "spec": {
            "modelFormat": {"name": "safetensors", "version": "1.0.0"},
            "modelArchitecture": "LlamaForCausalLM",
            "modelParameterSize": "1B",
            "storage": {"storageUri": f"hf://tests/{name}", "path": path},
            **spec,
        },
    }
    return cluster.api.create(f"{OME}/clusterbasemodels", body)


def add_runtime(cluster: Cluster, name: str, runner: Mapping[str, Any] | None = None, **spec: Any) -> Any:
    """A ClusterServingRuntime."""
    given = {"name": MAIN, "image": "tests/engine:1", "command": ["python3"], **(runner or {})}
    framework = {"name": "transformers", "version": "4.51.0"}
    formats = [{"modelFormat": {"name": "safetensors"}, "modelFramework": framework, "autoSelect": False}]
    told = {"supportedModelFormats": formats, **spec}
    body = {
        "apiVersion": "ome.io/v1beta1",
        "kind": "ClusterServingRuntime",
        "metadata": {"name": name},
        "spec": {"engineConfig": {"runner": given}, **told},
    }
    return cluster.api.create(f"{OME}/clusterservingruntimes", body)


def service(name: str, model: str, runtime: str, *, engine: Mapping[str, Any] | None = None, **meta: Any) -> Any:
    """The manifest of an InferenceService with one engine."""
    return {
        "apiVersion": "ome.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, **meta},
        "spec": {
            "model": {"name": model, "kind": "ClusterBaseModel"},
            "runtime": {"name": runtime, "kind": "ClusterServingRuntime"},
            "engine": {"minReplicas": 1, "maxReplicas": 1, **(engine or {})},
        },
    }


def runner(command: Sequence[str], *args: str, gpus: int = 0, health: str = "/health", **more: Any) -> dict[str, Any]:
    """The container of an engine that listens on 8080."""
    amounts = {"limits": {"nvidia.com/gpu": gpus}, "requests": {"nvidia.com/gpu": gpus}} if gpus else {}
    return {
        "name": MAIN,
        "image": "tests/engine:1",
        "command": list(command),
        "args": list(args),
        "ports": [{"containerPort": 8080, "name": "http"}],
        "readinessProbe": {"httpGet": {"path": health, "port": 8080}, "periodSeconds": 5},
        "resources": amounts,
        **more,
    }


def _config() -> Any:
    """What users look at in it; the real one has more."""
    deploy = json.dumps({"defaultDeploymentMode": "RawDeployment"})
    ingress = json.dumps({"disableIngressCreation": True})
    return {"metadata": {"name": "inferenceservice-config"}, "data": {"deploy": deploy, "ingress": ingress}}


def _workload(name: str, labels: Mapping[str, str], container: str, *, replicas: int | None = None) -> Any:
    pod = {"containers": [{"name": container, "image": f"ghcr.io/moirai-internal/{container}:v1.2.2"}]}
    template = {"metadata": {"labels": labels}, "spec": {**pod, "terminationGracePeriodSeconds": 1}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec | ({"replicas": replicas} if replicas else {})}
