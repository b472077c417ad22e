"""Plays the kubelets: what the scheduler has bound to a node runs as processes of this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import requests

from parts.kube_api import STRATEGIC, Api
from parts.kubelet_command import command, environment
from parts.kubelet_container import Container, now
from parts.kubelet_sandbox import Sandbox
from parts.ome_behaviour import Behaviour, Settings

ENDED = ("Succeeded", "Failed")


@dataclass
class Pod:
    """What runs for a pod object."""

    spec: Any  # the whole object, as it was first seen
    sandbox: Sandbox
    containers: list[Container] = field(default_factory=list)
    started: str = field(default_factory=now)
    conditions: dict[str, tuple[str, str]] = field(default_factory=dict)  # the status of each and since when
    told: Any = None  # the status that the API has
    term_at: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.spec["metadata"]["namespace"], self.spec["metadata"]["name"]

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.key[0]}/pods/{self.key[1]}"

    def step(self, behaviour: Behaviour) -> None:
        restarts = self.spec["spec"].get("restartPolicy", "Always") == "Always" and self.term_at is None
        for container in self.containers:
            container.step(behaviour, restarts=restarts)

    def is_stopped(self, grace_s: float) -> bool:
        """Asks all to end, kills them after the grace period."""
        if self.term_at is None:
            self.term_at = time.monotonic()
            for container in self.containers:
                container.stop()
        is_late = time.monotonic() - self.term_at >= grace_s
        if not is_late and not all(one.has_ended for one in self.containers):
            return False
        self.remove()
        return True

    def remove(self) -> None:
        for container in self.containers:
            if container.probes is not None:
                container.probes.stop()
            container.kill()
            if container.program is not None:
                container.program.wait()
        self.sandbox.remove()

    def status(self) -> dict[str, Any]:
        statuses = [container.status() for container in self.containers]
        is_ready = all(one["ready"] for one in statuses) and self.term_at is None
        return {
            "phase": self._phase(statuses),
            "hostIP": "127.0.0.1",
            "podIP": self.sandbox.address,
            "podIPs": [{"ip": self.sandbox.address}],
            "startTime": self.started,
            "containerStatuses": statuses,
            "conditions": [
                self._condition("Initialized", is_true=True),
                self._condition("Ready", is_true=is_ready),
                self._condition("ContainersReady", is_true=is_ready),
            ],
        }

    def _phase(self, statuses: list[Any]) -> str:
        ended = [one["state"]["terminated"]["exitCode"] for one in statuses if "terminated" in one["state"]]
        if self.spec["spec"].get("restartPolicy", "Always") != "Always" and len(ended) == len(statuses):
            return "Failed" if any(ended) else "Succeeded"
        has_begun = any("running" in one["state"] or one["restartCount"] for one in statuses)
        return "Running" if has_begun or ended else "Pending"

    def _condition(self, kind: str, *, is_true: bool) -> dict[str, str]:
        status = "True" if is_true else "False"
        before, since = self.conditions.get(kind, ("", ""))
        if before != status:
            since = now()
            self.conditions[kind] = (status, since)
        told = {} if is_true else {"reason": "ContainersNotReady", "message": "containers with unready status"}
        return {"type": kind, "status": status, "lastTransitionTime": since, **told}


@dataclass
class Kubelet:
    """Of all nodes at once."""

    api: Api
    folder: Path  # of the pods
    cluster: str
    env: Mapping[str, str]  # of every process, so that it is found again
    pods: dict[str, Pod] = field(default_factory=dict)
    bound: dict[str, Any] = field(default_factory=dict)  # what the API server said last

    def sync(self, settings: Settings, *, look: bool = True) -> None:
        """Once round all pods; the next round goes on where the API server was not there."""
        if look:
            found = self.api.list("/api/v1/pods", fieldSelector="spec.nodeName!=")
            self.bound = {one["metadata"]["uid"]: one for one in found}
        for uid, item in self.bound.items():
            if uid not in self.pods and item["status"].get("phase") not in ENDED:
                self.pods[uid] = self._begin(item, settings)
        for uid, pod in list(self.pods.items()):
            self._sync_pod(uid, pod, self.bound.get(uid), settings)

    def remove(self) -> None:
        for pod in self.pods.values():
            pod.remove()
        self.pods.clear()

    def find(self, namespace: str, name: str) -> Pod | None:
        """The newest of that name."""
        return next((pod for pod in reversed(self.pods.values()) if pod.key == (namespace, name)), None)

    def _begin(self, item: Any, settings: Settings) -> Pod:
        uid = item["metadata"]["uid"]
        place = self.folder / uid
        place.mkdir(parents=True)
        pod = Pod(item, Sandbox.make(self.cluster, self.env))
        for spec in item["spec"]["containers"]:
            pod.containers.append(Container(spec, uid, place, pod.sandbox, partial(self._plan, pod, spec, settings)))
        return pod

    def _plan(self, pod: Pod, spec: Any, settings: Settings) -> tuple[list[str], dict[str, str]]:
        env = environment(self.api, pod.spec, spec, settings, pod.sandbox.address)
        named = {"HOSTNAME": pod.key[1], "HOME": str(self.folder / pod.spec["metadata"]["uid"])}
        return command(spec, {**self.env, **env}, settings), {**self.env, **named, **env}

    def _sync_pod(self, uid: str, pod: Pod, item: Any, settings: Settings) -> None:
        behaviour = settings.of(*pod.key)
        if item is None:  # deleted by force
            pod.remove()
            del self.pods[uid]
        elif "deletionTimestamp" in item["metadata"]:
            self._finish(uid, pod, item["metadata"].get("deletionGracePeriodSeconds", 0))
        else:
            pod.step(behaviour)
            self._tell(pod, behaviour)

    def _finish(self, uid: str, pod: Pod, grace_s: float) -> None:
        if pod.term_at is None:
            pod.is_stopped(grace_s)
            self._tell(pod, Behaviour())  # it leaves the endpoints before it ends
        if pod.is_stopped(grace_s):
            self.api.delete(pod.path, gracePeriodSeconds=0, preconditions={"uid": uid})
            del self.pods[uid], self.bound[uid]

    def _tell(self, pod: Pod, behaviour: Behaviour) -> None:
        status = pod.status()
        if status == pod.told:
            return
        try:
            self.api.patch(f"{pod.path}/status", {"status": status}, STRATEGIC)
        except requests.HTTPError as error:
            if error.response.status_code != 404:
                raise
            return
        pod.told = status
        self._report(pod, behaviour)

    def _report(self, pod: Pod, behaviour: Behaviour) -> None:
        """The events of what went wrong; they are for reading only."""
        for container in pod.containers:
            waiting = container.state.get("waiting", {})
            if waiting.get("reason") in {"ErrImagePull", "ImagePullBackOff", "CrashLoopBackOff"}:
                is_first = waiting["reason"] == "ErrImagePull"
                words = f'Failed to pull image "{container.spec["image"]}": {behaviour.pull_error}'
                self._event(pod, "Failed" if is_first else "BackOff", words if is_first else waiting["message"])

    def _event(self, pod: Pod, reason: str, message: str) -> None:
        namespace, name = pod.key
        involved = {"kind": "Pod", "namespace": namespace, "name": name, "uid": pod.spec["metadata"]["uid"]}
        event = {
            "metadata": {"generateName": f"{name}.", "namespace": namespace},
            "involvedObject": {"apiVersion": "v1", **involved},
            "type": "Warning",
            "reason": reason,
            "message": message,
            "source": {"component": "kubelet", "host": pod.spec["spec"]["nodeName"]},
            "firstTimestamp": now(),
            "lastTimestamp": now(),
            "count": 1,
        }
        self.api.create(f"/api/v1/namespaces/{namespace}/events", event)
