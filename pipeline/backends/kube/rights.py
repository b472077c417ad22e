"""The rights that a trial needs; templates/ome/rbac.yaml grants them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Rule:
    """Rights on a resource in the trials' namespace, in OME's namespace, or in the whole cluster."""

    group: str
    resource: str  # with its subresource, as RBAC writes it: pods/log
    verbs: tuple[str, ...]
    place: Literal["namespace", "ome", "cluster"] = "namespace"
    is_needed: bool = True  # False: preflight says less without

    def __str__(self) -> str:
        where = {"namespace": "", "ome": " in namespace ome", "cluster": " in the whole cluster"}[self.place]
        return f"{','.join(self.verbs)} {self.resource}{f'.{self.group}' if self.group else ''}{where}"


OWN = ("get", "list", "watch", "create", "delete")
READ = ("get", "list", "watch")
RULES = (
    Rule("ome.io", "inferenceservices", OWN),
    Rule("batch", "jobs", OWN),
    Rule("", "secrets", OWN),
    # Teardown deletes what a controller or node that does not answer leaves
    Rule("", "pods", (*READ, "delete")),
    Rule("", "pods/log", ("get",)),
    # A websocket begins with GET; since Kubernetes 1.35 it takes the right to create as well
    Rule("", "pods/portforward", ("get", "create")),
    Rule("", "events", READ),
    Rule("apps", "deployments", (*READ, "delete")),
    Rule("ome.io", "clusterbasemodels", (*READ, "create"), "cluster"),
    Rule("ome.io", "clusterservingruntimes", ("get", "list", "create"), "cluster"),
    Rule("", "nodes", ("get", "list"), "cluster"),
    Rule("", "persistentvolumeclaims", ("get",), is_needed=False),
    Rule("", "resourcequotas", ("list",), is_needed=False),
    Rule("", "namespaces", ("get",), "cluster", is_needed=False),
    Rule("", "pods", ("list",), "cluster", is_needed=False),
    Rule("apiextensions.k8s.io", "customresourcedefinitions", ("get",), "cluster", is_needed=False),
    Rule("apps", "deployments", ("list",), "ome", is_needed=False),
    Rule("apps", "daemonsets", ("list",), "ome", is_needed=False),
    Rule("", "pods", ("list",), "ome", is_needed=False),
    Rule("", "pods/log", ("get",), "ome", is_needed=False),
    Rule("", "configmaps", ("list",), "ome", is_needed=False),
)
