"""Messages about a trial's objects: what is left of them, and the kubectl command that removes it. Pure."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.backends.kube import manifests
from pipeline.backends.lease import Lease

Object = Mapping[str, Any]
OURS = ("InferenceService", "Secret", "Job")  # what carries the lease's label
NAMES = {  # as kubectl takes them, however many other kinds of the same name a cluster has
    "InferenceService": "inferenceservices.ome.io",
    "Secret": "secrets",
    "Job": "jobs.batch",
    "Deployment": "deployments.apps",
    "Pod": "pods",
}


def kubectl(owned: Lease, *words: str) -> str:
    """The command line, for the lease's cluster and namespace."""
    where = owned.cluster
    told = {
        "--kubeconfig": str(where.kubeconfig) if where and where.kubeconfig else None,
        "--context": where.context if where else None,
        "-n": where.namespace if where else None,
    }
    return shlex.join(["kubectl", *(word for name, text in told.items() if text for word in (name, text)), *words])


def may_run(owned: Lease, error: Exception) -> str:
    """The message when nobody can tell whether the trial is gone, with the command that removes it."""
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    name = manifests.name(owned.label)
    return f"InferenceService {name} may still be running: the cluster did not remove it ({said}); {_by_label(owned)}"


def may_come(owned: Lease) -> str:
    """The message when there was no time to wait for the last object that the cluster was asked to create."""
    return f"InferenceService {manifests.name(owned.label)} may still be created; {_by_label(owned)}"


def _by_label(owned: Lease) -> str:
    kinds = ",".join(NAMES[kind] for kind in OURS)
    return kubectl(owned, "delete", kinds, "-l", f"{manifests.LABEL}={owned.label}")


def left(owned: Lease, kind: str, one: Object) -> str:
    """An object that is still there: why, and what removes it."""
    return f"{kind} {one['metadata']['name']}{''.join(_why(kind, one))}; {_remedy(owned, kind, one)}"


def _why(kind: str, one: Object) -> Iterator[str]:
    if kind == "Pod" and (node := one["spec"].get("nodeName")):
        yield f" on node {node}"
    if "deletionTimestamp" not in one["metadata"]:
        return
    finalizers = one["metadata"].get("finalizers") or []
    waits_for = f", but waits for {', '.join(finalizers)}: its controller does not answer" if finalizers else ""
    yield f" is being deleted{waits_for}"


def _remedy(owned: Lease, kind: str, one: Object) -> str:
    """A finalizer is taken away by hand only: whoever set it has something to clean up."""
    name = str(one["metadata"]["name"])
    if "deletionTimestamp" in one["metadata"] and one["metadata"].get("finalizers"):
        change = '{"metadata":{"finalizers":null}}'
        return kubectl(owned, "patch", NAMES[kind], name, "--type=merge", "-p", change)
    force = ("--grace-period=0", "--force") if kind == "Pod" else ()
    return kubectl(owned, "delete", NAMES[kind], name, *force)
