"""What a trial needs in its namespace: a claim, room in quotas, image pull secrets. Pure: plain objects in."""

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.backends.kube import capacity
from pipeline.core.errors import FailureKind, PreflightFailed

Object = Mapping[str, Any]
TYPES = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg")


def claim(uri: str, namespace: str, find: Callable[[str], Object | None]) -> str:
    """Check that the claim of `pvc://namespace:claim/path` is bound, in a namespace where the trial can mount it.

    Raises:
        PreflightFailed: it is elsewhere, missing or not bound.
    """
    where, _, name = uri.removeprefix("pvc://").partition("/")[0].rpartition(":")
    if where and where != namespace:
        raise PreflightFailed(
            f"The claim {name} is in namespace {where}, the trial in {namespace}: "
            "a pod can mount only claims of its own namespace.",
            hint=f"Set backend.kubernetes.cluster.namespace={where}.",
        )
    found = find(name)
    if found is None:
        raise PreflightFailed(
            f"Namespace {namespace} has no PersistentVolumeClaim {name}.",
            kind=FailureKind.MODEL_MISSING,
            hint=f"kubectl -n {namespace} get pvc",
        )
    phase = found.get("status", {}).get("phase", "Pending")
    if phase != "Bound":
        raise PreflightFailed(
            f"The PersistentVolumeClaim {name} is {phase}, expected Bound.",
            kind=FailureKind.MODEL_MISSING,
            hint=f"kubectl -n {namespace} describe pvc {name}",
        )
    return f"{name} is Bound in {namespace}"


def quota(quotas: list[dict[str, Any]], want: capacity.Want) -> str:
    """Check that the namespace's quotas allow the trial's pod; a quota used up by others at the moment is no failure.

    Raises:
        PreflightFailed: a limit is below what the trial asks.
    """
    told = []
    for one in quotas:
        name, status = one["metadata"]["name"], one.get("status") or {}
        hard = {**(one["spec"].get("hard") or {}), **(status.get("hard") or {})}
        for resource, asked in want.asked.items():
            limit = hard.get(f"requests.{resource}") or (hard.get(resource) if "/" not in resource else None)
            if limit is None:
                continue
            if capacity.amount(limit) < asked:
                raise PreflightFailed(
                    f"The trial requests {asked:g} {resource}; the ResourceQuota {name} allows {limit}.",
                    kind=FailureKind.UNSCHEDULABLE,
                    hint=f"kubectl -n {one['metadata'].get('namespace')} describe resourcequota {name}",
                )
            used = (status.get("used") or {}).get(f"requests.{resource}", 0)
            is_busy = capacity.amount(used) + asked > capacity.amount(limit)
            told.append(f"{name}: {used} of {limit} {resource} used{': the trial would wait' if is_busy else ''}")
    return "; ".join(told) or "no quota limits what the trial requests"


def pull_secrets(found: Mapping[str, Object | None], namespace: str) -> str:
    """Check that each secret exists and is an image pull secret.

    Raises:
        PreflightFailed: one is missing, or no image pull secret.
    """
    for name, secret in found.items():
        if secret is None or secret.get("type") not in TYPES:
            seen = "is missing" if secret is None else f"is of type {secret.get('type')}, expected {TYPES[0]}"
            raise PreflightFailed(
                f"The image pull secret {name} {seen} in namespace {namespace}.",
                kind=FailureKind.IMAGE_MISSING,
                hint=f"kubectl -n {namespace} create secret docker-registry {name} --docker-server=... "
                "--docker-username=... --docker-password=...",
            )
    return ", ".join(found)
