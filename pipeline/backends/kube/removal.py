"""Removes a trial's objects by their label, from a cluster that may be slow, hang, or not answer for a while.

It lists repeatedly instead of watching: what a list does not show is gone, even if connections broke in between.
"""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from pipeline.backends.kube import client, manifests, words
from pipeline.backends.lease import Lease
from pipeline.backends.patience import Patience
from pipeline.core.errors import PreflightFailed
from pipeline.core.schema_backends import Cluster
from pipeline.machine import process

PATIENCE_S = 40.0  # with a cluster that does not answer or does not remove, beyond the engine's own time to stop
AGAIN_S = 0.4  # between two looks
ANSWER_S, LEAST_S = 10.0, 1.0  # for an answer; the second, however late it is
LATE_S = 10.0  # beyond the grace period: then a pod is removed from the API, whatever its node says of it
LAST_S = 3.0  # before the end: for what that takes
SETTLE_S = 2.0  # that a cluster may take for an object that nobody waits for any more
BESIDE_S = 1.0  # for what runs beside the trial to stop by itself
TROUBLE = (client.ApiError, client.Unreachable, PreflightFailed)  # the last: somebody has moved the kubeconfig
ISVC_LABEL = "ome.io/inferenceservice"
POD_OF_JOB = "job-name"  # https://kubernetes.io/docs/reference/labels-annotations-taints/#job-name

Found = Mapping[str, list[dict[str, Any]]]  # by kind


def remove(owned: Lease) -> tuple[str, ...]:
    """Remove everything with the label, here and in the cluster, and look: what is left, in words. Idempotent.

    Here: what runs beside the trial, the port-forward and genai-bench.
    The engine goes first and the Job that owns it last: until nothing else is left, the Job would remove it without us.
    A cluster that does not answer, or refuses, is asked again while the patience and the running deadline last; then
    what may be left is named, with the command that removes it.
    """
    left = process.stop_labelled(owned.label, grace_s=BESIDE_S)
    if owned.cluster is None or owned.cluster.namespace is None:  # it is resolved before anything is made there
        return left
    removal = _Removal(owned, owned.cluster, Patience.of(owned.stop_grace_s, PATIENCE_S))
    while True:
        outcome = removal.attempt()
        if outcome == () or removal.patience.left_s <= AGAIN_S:
            return (*left, *outcome)
        time.sleep(AGAIN_S)


@dataclass
class _Removal:
    """One removal. Each attempt takes things as it finds them, so any may fail, and others may have removed some."""

    owned: Lease
    cluster: Cluster
    patience: Patience
    ends_at: dict[str, float] = field(default_factory=dict)  # by uid: when a pod that ends is removed by force
    has_seen: bool = False  # an InferenceService
    settled_at: float | None = None

    def attempt(self) -> tuple[str, ...]:
        """Look and do what comes next; what is left."""
        answer_s = max(LEAST_S, min(ANSWER_S, self.patience.left_s))
        try:
            with closing(client.connect(self.cluster, answer_s=answer_s)) as api:
                found = self._found(api)
                self._move_on(api, found)
        except TROUBLE as error:
            return (words.may_run(self.owned, error),)
        told = tuple(words.left(self.owned, kind, one) for kind, items in found.items() for one in items)
        return told or self._unborn()

    def _found(self, api: client.Api) -> Found:
        """What makes others comes before them, so that nothing is made behind our back.

        The pods by OME's label too: it does not hand ours on.
        """
        name = manifests.name(self.owned.label)
        ours, theirs = f"{manifests.LABEL}={self.owned.label}", f"{ISVC_LABEL}={name}"
        found = {kind: _listed(api, kind, labels=ours) for kind in words.OURS}
        found["Deployment"] = _listed(api, "Deployment", fields=f"metadata.name={name}-engine")
        pods = [*api.list("Pod", labels=theirs), *api.list("Pod", labels=ours)]
        self.has_seen = self.has_seen or bool(found["InferenceService"])
        return {**found, "Pod": list({pod["metadata"]["uid"]: pod for pod in pods}.values())}

    def _move_on(self, api: client.Api, found: Found) -> None:
        switch = {pod["metadata"]["uid"] for pod in found["Pod"] if POD_OF_JOB in pod["metadata"].get("labels", {})}
        engines = [pod for pod in found["Pod"] if pod["metadata"]["uid"] not in switch]
        _delete(api, found, "InferenceService", "Secret")
        if all("deletionTimestamp" in one["metadata"] for one in found["InferenceService"]):
            _delete(api, found, "Deployment")  # its owner may hang in a finalizer, and must not keep the GPUs meanwhile
        for pod in engines:
            self._end(api, pod)
        if not (found["InferenceService"] or found["Secret"] or found["Deployment"] or engines):
            _delete(api, found, "Job", "Pod")

    def _end(self, api: client.Api, pod: dict[str, Any]) -> None:
        """A pod ends after its service; one that its node does not end in time is removed without the node's word."""
        meta, now = pod["metadata"], time.monotonic()
        if "deletionTimestamp" not in meta:
            return
        if meta["uid"] not in self.ends_at:
            self.patience.extend(self.patience.grace_s)
            in_time = now + self.patience.grace_s
            self.ends_at[meta["uid"]] = max(in_time, min(in_time + LATE_S, self.patience.end - LAST_S))
        if now >= self.ends_at[meta["uid"]]:
            api.delete("Pod", meta["name"], grace_s=0)

    def _unborn(self) -> tuple[str, ...]:
        """A cluster that was asked for objects may make them when nobody waits for its answer any more."""
        if self.has_seen or self.owned.port is not None:
            return ()
        now = time.monotonic()
        self.settled_at = self.settled_at or now + SETTLE_S
        return () if now >= self.settled_at else (words.may_come(self.owned),)


def _listed(api: client.Api, kind: str, *, labels: str = "", fields: str = "") -> list[dict[str, Any]]:
    """Empty where the cluster knows no such kind: somebody has removed OME."""
    try:
        return api.list(kind, labels=labels, fields=fields)
    except client.ApiError as error:
        if error.code == 404:
            return []
        raise


def _delete(api: client.Api, found: Found, *kinds: str) -> None:
    for kind in kinds:
        for one in found[kind]:
            if "deletionTimestamp" not in one["metadata"]:
                api.delete(kind, one["metadata"]["name"])
