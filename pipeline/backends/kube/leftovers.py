"""Finds trials in a cluster by label, without a lease: for when the machine or the folder that had it is gone."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import ValidationError

from pipeline.backends import lease
from pipeline.backends.kube import client, manifests
from pipeline.core.schema_backends import Cluster
from pipeline.core.values import from_json, now, value
from pipeline.machine import identity

BACKEND = "pipeline.backends.ome.Ome"
FORBIDDEN = 403
GRACE_S = 30.0  # Kubernetes' own, where an InferenceService says nothing
State = Literal["in use", "orphan", "elsewhere"]


@value
class Leftover:
    """A trial in a cluster, as its owner Job tells of it."""

    label: str
    cluster: Cluster  # its namespace too
    owner: identity.Identity | None  # None: it cannot be read
    created_at: datetime
    ends_at: datetime  # the cluster removes it then

    @property
    def state(self) -> State:
        """Whether its process runs on this machine, ran here and is gone, or cannot be looked at from here."""
        if self.owner is None:
            return "elsewhere"
        if not identity.is_alive(self.owner):
            return "orphan"
        here = identity.of()
        is_here = (self.owner.host, self.owner.pid_namespace) == (here.host, here.pid_namespace)
        return "in use" if is_here else "elsewhere"

    @property
    def words(self) -> str:
        """`NAMESPACE/LABEL  elsewhere  host gpu-7 pid 12  2.5 h old, removed by the cluster in 1.5 h`."""
        who = f"host {self.owner.host} pid {self.owner.pid}" if self.owner else "owner cannot be read"
        age, rest = now() - self.created_at, self.ends_at - now()
        told = f"{_hours(age)} old, removed by the cluster in {_hours(rest)}"
        return f"{self.cluster.namespace}/{self.label}  {self.state}  {who}  {told}"

    def lease(self) -> lease.Lease:
        """What teardown needs."""
        return lease.Lease(
            label=self.label,
            backend=BACKEND,
            owner=self.owner or identity.of(),
            run_dir=lease.state_dir(),
            created_at=self.created_at,
            stop_grace_s=GRACE_S,
            host="127.0.0.1",
            cluster=self.cluster,
        )


def find(cluster: Cluster) -> tuple[tuple[Leftover, ...], str]:
    """The trials in all namespaces, or in the cluster's own where we may see no others; where it was looked, in words.

    Raises:
        PreflightFailed: there is no way to a cluster.
        ApiError, Unreachable: it refuses or does not answer.
    """
    where = client.resolved(cluster)
    api = client.connect(where)
    try:
        jobs, place = _jobs(api)
    finally:
        api.close()
    switches = [job for job in jobs if not job["metadata"].get("ownerReferences")]  # the others are theirs
    return tuple(_leftover(job, where) for job in switches), place


def _jobs(api: client.Api) -> tuple[list[dict[str, Any]], str]:
    try:
        return api.list("Job", labels=manifests.LABEL, everywhere=True), "all namespaces"
    except client.ApiError as error:
        if error.code != FORBIDDEN:
            raise
    place = f"namespace {api.namespace} only: no right to list jobs in all namespaces"
    return api.list("Job", labels=manifests.LABEL), place


def _leftover(job: Mapping[str, Any], where: Cluster) -> Leftover:
    meta = job["metadata"]
    begun = job.get("status", {}).get("startTime") or meta["creationTimestamp"]
    lifetime = timedelta(seconds=int(job["spec"].get("activeDeadlineSeconds") or 0))
    return Leftover(
        label=meta["labels"][manifests.LABEL],
        cluster=replace(where, namespace=meta["namespace"]),
        owner=_owner(meta.get("annotations", {}).get(manifests.OWNER, "")),
        created_at=datetime.fromisoformat(meta["creationTimestamp"]),
        ends_at=datetime.fromisoformat(begun) + lifetime,
    )


def _owner(text: str) -> identity.Identity | None:
    try:
        return from_json(identity.Identity, text)
    except ValidationError:
        return None


def _hours(span: timedelta) -> str:
    hours = max(0.0, span.total_seconds()) / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"
