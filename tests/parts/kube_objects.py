"""What tests put into a cluster: nodes that are only objects, and users with few rights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parts.kube import Cluster
from parts.kube_api import OME, Api
from pipeline.machine import process

RBAC = "/apis/rbac.authorization.k8s.io/v1"
GONE_S = 90.0
KEPT = ("default", "kube-node-lease", "kube-public", "kube-system", "ome")


def add_node(
    cluster: Cluster,
    name: str,
    gpus: int = 0,
    labels: Mapping[str, str] | None = None,
    *,
    cpu: int = 64,
    memory: str = "512Gi",
    pods: int = 110,
) -> Any:
    """A node that is ready; its kubelet is the operator's."""
    amounts = {"cpu": str(cpu), "memory": memory, "pods": str(pods), "ephemeral-storage": "1Ti"}
    amounts |= {"nvidia.com/gpu": str(gpus)} if gpus else {}
    told = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **(labels or {})}
    status = {
        "capacity": amounts,
        "allocatable": amounts,
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "played by the tests"}],
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": cluster.settings["kubelet"]}},
    }
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": told}, "status": status}
    return cluster.api.create("/api/v1/nodes", body)


def add_user(cluster: Cluster, namespace: str, name: str, *roles: Any) -> Path:
    """The kubeconfig of a new ServiceAccount with nothing but these roles: manifests of Role or ClusterRole."""
    api, account = cluster.api, f"/api/v1/namespaces/{namespace}/serviceaccounts"
    api.create(account, {"metadata": {"name": name}})
    for role in roles:
        _grant(api, namespace, name, role)
    return kubeconfig_of(cluster, namespace, name)


def kubeconfig_of(cluster: Cluster, namespace: str, name: str) -> Path:
    """Of a ServiceAccount that is there."""
    api, account = cluster.api, f"/api/v1/namespaces/{namespace}/serviceaccounts"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = api.create(f"{account}/{name}/token", request)["status"]["token"]
    path = cluster.root / f"kubeconfig.{namespace}.{name}"
    path.write_text(cluster.kubeconfig_for(token, namespace))
    return path


def apply(cluster: Cluster, documents: Sequence[Any]) -> None:
    """Have objects of RBAC as `kubectl apply` would; what is there under the name is taken for the same."""
    for one in documents:
        space = f"/namespaces/{one['metadata']['namespace']}" if "namespace" in one["metadata"] else ""
        group = "/api/v1" if one["apiVersion"] == "v1" else f"/apis/{one['apiVersion']}"
        path = f"{group}{space}/{one['kind'].lower()}s"
        if cluster.api.find(f"{path}/{one['metadata']['name']}") is None:
            cluster.api.create(path, one)


def _grant(api: Api, namespace: str, name: str, role: Any) -> None:
    kind, role_name = role["kind"], role["metadata"]["name"]
    space = f"{RBAC}/namespaces/{role['metadata'].get('namespace', namespace)}" if kind == "Role" else RBAC
    plural = f"{kind.lower()}s"
    if api.find(f"{space}/{plural}/{role_name}") is None:
        api.create(f"{space}/{plural}", role)
    binding = {
        "metadata": {"name": f"{namespace}-{name}-{role_name}"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role_name},
    }
    api.create(f"{space}/{kind.lower()}bindings", binding)


def add_namespace(cluster: Cluster, name: str) -> None:
    cluster.api.create("/api/v1/namespaces", {"metadata": {"name": name}})


def clean(cluster: Cluster) -> None:
    """As at the beginning: no InferenceService, model, runtime, pod or node; namespaces go in their own time."""
    api = cluster.api
    _delete_ome_objects(api)
    _delete_rights(api)
    for path in ("deployments", "daemonsets"):
        api.delete(f"/apis/apps/v1/namespaces/ome/{path}", propagationPolicy="Background")
    for one in api.list("/api/v1/namespaces"):
        if one["metadata"]["name"] not in KEPT:
            api.delete(f"/api/v1/namespaces/{one['metadata']['name']}")
    gone = process.wait_until(lambda: _is_empty(api), timeout_s=GONE_S)
    assert gone, "InferenceServices or pods are left"
    for one in api.list("/api/v1/nodes"):
        api.delete(f"/api/v1/nodes/{one['metadata']['name']}")


def _delete_ome_objects(api: Api) -> None:
    for one in api.list(f"{OME}/inferenceservices"):
        path = f"{OME}/namespaces/{one['metadata']['namespace']}/inferenceservices/{one['metadata']['name']}"
        api.delete(path, propagationPolicy="Background")
    for kind in ("clusterbasemodels", "clusterservingruntimes"):
        for one in api.list(f"{OME}/{kind}"):
            api.delete(f"{OME}/{kind}/{one['metadata']['name']}")


def _delete_rights(api: Api) -> None:
    """Those beyond a namespace, given by add_user to an account of a test's namespace."""
    for one in api.list(f"{RBAC}/clusterrolebindings"):
        if one["metadata"]["name"].startswith(("test-", "servetune-test-")):
            api.delete(f"{RBAC}/clusterrolebindings/{one['metadata']['name']}")
            api.delete(f"{RBAC}/clusterroles/{one['roleRef']['name']}")


def _is_empty(api: Api) -> bool:
    """Pods are asked to go at once: those of a namespace would get their whole grace period, one after the other."""
    pods = api.list("/api/v1/pods")
    for one in pods:
        path = f"/api/v1/namespaces/{one['metadata']['namespace']}/pods/{one['metadata']['name']}"
        api.delete(path, gracePeriodSeconds=0 if not one["spec"].get("nodeName") else 1)
    return not pods and not api.list(f"{OME}/inferenceservices")
