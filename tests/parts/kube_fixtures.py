"""Fixtures: a control plane for each worker, an operator that plays OME on it, and a namespace for each test."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from parts import kube, kube_objects, lacking, ome_objects, ome_operator
from parts.kube import Cluster
from parts.kube_api import OME, Api
from parts.ome_operator import Operator
from parts.one_worker import while_its_group_runs
from pipeline.machine import process

if TYPE_CHECKING:  # it takes a second to import, in every run of any test
    from kubernetes.client import ApiClient

READY_S = 240.0
KUBE_MARKS = [pytest.mark.live, pytest.mark.usefixtures("needs_kube")]


@dataclass(frozen=True)
class Kube:
    """A test's part of the cluster: a namespace of its own, and short words for what tests do and look at."""

    cluster: Cluster
    operator: Operator
    namespace: str

    @property
    def api(self) -> Api:
        """The administrator's, in plain requests."""
        return self.cluster.api

    @property
    def core(self) -> str:
        """The path of the namespace in the core group."""
        return f"/api/v1/namespaces/{self.namespace}"

    @property
    def ome(self) -> str:
        """The path of the namespace's InferenceServices."""
        return f"{OME}/namespaces/{self.namespace}/inferenceservices"

    def add_node(self, name: str, gpus: int = 0, labels: dict[str, str] | None = None, **more: Any) -> Any:
        return kube_objects.add_node(self.cluster, name, gpus, labels, **more)

    def add_user(self, name: str, *roles: Any) -> Path:
        """The kubeconfig of one with these roles only."""
        return kube_objects.add_user(self.cluster, self.namespace, name, *roles)

    def add_model(self, name: str, path: str = "/mnt/data/models/tiny", **spec: Any) -> Any:
        return ome_objects.add_model(self.cluster, name, path, **spec)

    def add_runtime(self, name: str, runner: dict[str, Any] | None = None, **spec: Any) -> Any:
        return ome_objects.add_runtime(self.cluster, name, runner, **spec)

    def install_ome(self) -> None:
        ome_objects.install(self.cluster)

    def create(self, manifest: Any) -> Any:
        """An InferenceService."""
        return self.api.create(self.ome, manifest)

    def behave(self, name: str, **changes: Any) -> None:
        """See ome_behaviour.Behaviour; `name` is that of an InferenceService or pod of the namespace."""
        self.operator.behave(f"{self.namespace}/{name}", **changes)

    def service(self, name: str) -> Any:
        return self.api.get(f"{self.ome}/{name}")

    def condition(self, name: str, kind: str = "Ready") -> Any:
        """Of an InferenceService; empty while it has none."""
        found = self.service(name).get("status", {}).get("conditions", [])
        return next((one for one in found if one["type"] == kind), {})

    def is_ready(self, name: str) -> bool:
        return bool(self.condition(name).get("status") == "True")

    def wait_ready(self, name: str) -> None:
        """Or fail with all that can be known."""
        assert process.wait_until(lambda: self.is_ready(name), timeout_s=READY_S), self.told(name)

    def pods(self, name: str) -> list[Any]:
        """Of an InferenceService."""
        return self.api.list(f"{self.core}/pods", labelSelector=f"ome.io/inferenceservice={name}")

    def state(self, name: str) -> Any:
        """Of the first container of an InferenceService's first pod; empty while there is none."""
        pods = self.pods(name)
        statuses = pods[0]["status"].get("containerStatuses", []) if pods else []
        return statuses[0]["state"] if statuses else {}

    def told(self, name: str) -> str:
        return f"{self.service(name).get('status')}\n{self.pods(name)}\n{self.operator.log[-4000:]}"


@pytest.fixture(scope="session")
def needs_kube() -> None:
    """Skip where no control plane can be started, or KUBE_TESTS=skip says so; fail where CI says that one can."""
    if os.environ.get("KUBE_TESTS") == "skip":
        pytest.skip("KUBE_TESTS=skip")
    if reasons := kube.missing():
        lacking(*reasons)


@pytest.fixture(scope="session")
def cluster(needs_kube: None, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The worker's control plane; tests ask for `kube`, or break a cluster of their own."""
    while_its_group_runs(request)
    with kube.cluster() as started:
        yield started


@pytest.fixture(scope="session")
def operator(cluster: Cluster) -> Iterator[Operator]:
    """The worker's OME."""
    with ome_operator.running(cluster) as started:
        yield started


@pytest.fixture(name="kube")
def kube_of_a_test(cluster: Cluster, operator: Operator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kube]:
    """A namespace, KUBECONFIG naming the cluster. Whatever the test leaves is removed; the API server is started."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    if cluster.api.list("/api/v1/nodes"):  # of tests/teardown, whose trials share one
        kube_objects.clean(cluster)
    namespace = f"test-{uuid4().hex[:8]}"
    kube_objects.add_namespace(cluster, namespace)
    yield Kube(cluster, operator, namespace)
    cluster.restore()
    operator.reset()
    kube_objects.clean(cluster)


@pytest.fixture
def kube_client(kube: Kube) -> "Iterator[ApiClient]":
    """The administrator's, as the client library makes it."""
    with client_of(kube.cluster.kubeconfig) as made:
        yield made


@contextmanager
def client_of(kubeconfig: Path) -> "Iterator[ApiClient]":
    """The client library's, for whoever the file names."""
    from kubernetes import config

    make: Any = config.new_client_from_config  # it has no types
    with make(config_file=str(kubeconfig)) as made:
        yield made
