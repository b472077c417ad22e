"""Where an engine lives: how to ask for it there, how to kill it, and how to see whether something of it is left."""

import os
import signal
from typing import Protocol

from docker import DockerClient

from parts.kube import Cluster
from parts.kube_objects import add_node
from parts.ome_objects import install, wait_until_up
from parts.ome_operator import Operator
from pipeline.backends import container
from pipeline.backends.kube import manifests
from pipeline.backends.lease import Lease
from pipeline.core.errors import FailureKind
from pipeline.machine import oom, process
from support.places import TESTS


class Home(Protocol):
    """What the tests need of a backend."""

    name: str
    overrides: tuple[str, ...]
    deadline_s: float  # that its deploy and its teardown keep, and that is worth waiting for
    pace: float  # how much longer a trial takes than with a process of this machine

    @property
    def killed(self) -> FailureKind:
        """The kind of failure that a SIGKILL of the engine is."""

    def kill_engine(self, owned: Lease) -> None:
        """SIGKILL, as the kernel's OOM killer sends it."""

    def left(self, owned: Lease | None) -> list[str]:
        """What still exists of the engine, in words; the lease may have vanished with its folder."""


class OnHost:
    """backend=local."""

    name = "local"
    overrides: tuple[str, ...] = ()
    deadline_s = 2.0
    pace = 1.0

    @property
    def killed(self) -> FailureKind:
        """Not the OOM killer's, where the kernel counts what that does."""
        return FailureKind.OOM_HOST if oom.kills() is None else FailureKind.SERVER_DIED

    def kill_engine(self, owned: Lease) -> None:
        assert owned.pid is not None
        os.kill(owned.pid, signal.SIGKILL)

    def left(self, owned: Lease | None) -> list[str]:
        if owned is None:
            return []
        folder = [f"folder {owned.scratch}"] if owned.scratch and owned.scratch.exists() else []
        return [*(f"labelled {one.pid}" for one in process.labelled(owned.label)), *folder]


class InContainer:
    """backend=docker, the stand-in engine in an image of this machine's Python."""

    name = "docker"
    deadline_s = 4.0
    pace = 3.0
    killed = FailureKind.OOM_HOST

    def __init__(self, host: str, image: str, client: DockerClient) -> None:
        self.client = client
        self.overrides: tuple[str, ...] = (
            "backend=docker",
            f"backend.container.image={image}",
            f"backend.container.socket={host}",
            "backend.container.pull=never",
            "backend.container.ulimits={memlock:null,stack:null}",  # a machine may not be allowed to raise them
            "backend.container.shm_size_gib=0.1",
            f"backend.container.mounts=[{TESTS}]",
            "+runtime.env.STUB_HOST=0.0.0.0",
            "runtime.health.timeout_s=60",  # a busy machine takes seconds for a container
        )

    def kill_engine(self, owned: Lease) -> None:
        (made,) = self.client.containers.list(filters={"label": f"{container.LABEL}={owned.label}"})
        os.kill(made.attrs["State"]["Pid"], signal.SIGKILL)

    def left(self, owned: Lease | None) -> list[str]:
        """No other trial uses the tests' daemon: whatever has a label of ours is this one's."""
        found = self.client.containers.list(all=True, filters={"label": container.LABEL}, ignore_removed=True)
        return [f"container {one.name}" for one in found]


class InCluster:
    """backend=ome, on the tests' control plane with one GPU; the stand-in engine in the played kubelet's pod."""

    name = "ome"
    deadline_s = 5.0
    pace = 4.0
    killed = FailureKind.OOM_HOST
    NAMESPACE = "default"
    OURS = (
        "/apis/ome.io/v1beta1/namespaces/default/inferenceservices",
        "/apis/batch/v1/namespaces/default/jobs",
        "/apis/apps/v1/namespaces/default/deployments",
        "/api/v1/namespaces/default/pods",
        "/api/v1/namespaces/default/secrets",
    )

    def __init__(self, cluster: Cluster, operator: Operator) -> None:
        self.cluster = cluster
        self.operator = operator
        self.overrides: tuple[str, ...] = (
            "backend=ome",
            f"backend.kubernetes.cluster.kubeconfig={cluster.kubeconfig}",
            f"backend.kubernetes.cluster.namespace={self.NAMESPACE}",
            "backend.kubernetes.image=tests/engine:1",
            "backend.deploy_s=null",  # timeouts.deploy_s holds
            "+runtime.env.STUB_HOST=0.0.0.0",
            "runtime.health.timeout_s=60",
        )
        if cluster.api.find("/api/v1/nodes/one") is None:  # other tests clean up behind themselves
            add_node(cluster, "one", gpus=1)
            install(cluster)
        wait_until_up(cluster)

    def kill_engine(self, owned: Lease) -> None:
        (pod,) = self.cluster.api.list(
            f"/api/v1/namespaces/{self.NAMESPACE}/pods",
            labelSelector=f"ome.io/inferenceservice={manifests.name(owned.label)}",
        )
        for pid in self.operator.process_ids(pod["metadata"]["uid"]):
            os.kill(pid, signal.SIGKILL)

    def left(self, owned: Lease | None) -> list[str]:
        """No other trial is in the namespace: whatever is named as ours are is this one's."""
        found = [one["metadata"]["name"] for path in self.OURS for one in self.cluster.api.list(path)]
        return [f"object {name}" for name in found if name.startswith("st-")]


HOMES: tuple[type[Home], ...] = (OnHost, InContainer, InCluster)
