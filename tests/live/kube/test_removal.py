"""Teardown in a cluster: everything of the trial goes, nothing else, whoever does not answer; what stays is named."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from fakes import make_lease
from parts.kube_fixtures import KUBE_MARKS, Kube
from parts.ome_objects import runner, service
from pipeline.backends.kube import manifests, removal
from pipeline.backends.lease import Lease
from pipeline.core.schema_backends import Cluster
from pipeline.machine import process, signals
from support.places import STUB_ENGINE
from support.rights import roles

pytestmark = KUBE_MARKS

LABEL = "sweep-7-beef"  # of no other test: processes are ended by it, whoever has started them
NAME = manifests.name(LABEL)
OURS = {manifests.LABEL: LABEL}
AWAY_S = 3.0
Make = Callable[..., None]


@pytest.fixture
def owned(kube: Kube, tmp_path: Path) -> Lease:
    """As Ome.deploy leaves it behind, of an account that may do what templates/ome/rbac.yaml says, and no more."""
    (tmp_path / "run").mkdir()
    where = Cluster(kubeconfig=kube.add_user("servetune", *roles()), context="tests", namespace=kube.namespace)
    return replace(make_lease(tmp_path / "run"), label=LABEL, cluster=where, port=9)


@pytest.fixture
def make(kube: Kube) -> Make:
    """The objects of a trial whose engine is the stub."""

    def trial(*faults: str, lifetime_s: int = 600, grace_s: int = 1) -> None:
        kube.add_node("one", gpus=1)
        kube.add_model("tiny")
        kube.add_runtime("rt")
        env = [{"name": "STUB_HOST", "value": "0.0.0.0"}]
        engine = runner(["python3", str(STUB_ENGINE)], "--port", "8080", *faults, gpus=1, env=env)
        owner = make_job(kube, LABEL, lifetime_s=lifetime_s)
        make_secret(kube, NAME, {manifests.LABEL: LABEL}, owner)
        spec = {"runner": engine, "terminationGracePeriodSeconds": grace_s}
        meta = {"labels": {manifests.LABEL: LABEL}, "ownerReferences": [owner]}
        kube.create(service(NAME, "tiny", "rt", engine=spec, **meta))

    return trial


@pytest.fixture
def bystanders(kube: Kube) -> Iterator[None]:
    """Another trial's objects and somebody's own, in the same namespace: all of them are there at the end."""
    others = {manifests.LABEL: "sweep-7-other", "app.kubernetes.io/managed-by": "servetune"}
    make_job(kube, "sweep-7-other")
    make_secret(kube, "other-trial", others)
    make_secret(kube, "somebodys", {"app": "x"})
    kube.create(service("somebodys", "none", "none", labels=others))
    assert process.wait_until(lambda: bool(kube.api.list(f"{kube.core}/pods")), timeout_s=180)  # the Job's
    before = names(kube)
    yield
    assert names(kube) == before


def make_job(kube: Kube, label: str, *, lifetime_s: int = 600) -> dict[str, str]:
    """The dead man's switch; a reference to it."""
    never = {"nodeSelector": {"servetune.io/never": "true"}, "restartPolicy": "Never"}
    pod = {"metadata": {"labels": {manifests.LABEL: label}}, "spec": {**never, "containers": [idle()]}}
    limits = {"activeDeadlineSeconds": lifetime_s, "ttlSecondsAfterFinished": 0, "backoffLimit": 0}
    meta = {"name": manifests.name(label), "labels": {manifests.LABEL: label}}
    made = kube.api.create(jobs(kube), {"metadata": meta, "spec": {**limits, "template": pod}})
    return {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": made["metadata"]["uid"]}


def make_secret(kube: Kube, name: str, labels: dict[str, str], *owners: dict[str, str]) -> None:
    meta = {"name": name, "labels": labels, "ownerReferences": list(owners)}
    kube.api.create(f"{kube.core}/secrets", {"metadata": meta, "stringData": {"key": "k"}})


def idle() -> Any:
    return {"name": "owner", "image": "tests/idle"}


def jobs(kube: Kube) -> str:
    return f"/apis/batch/v1/namespaces/{kube.namespace}/jobs"


def names(kube: Kube) -> list[str]:
    """Of everything in the namespace that is not Kubernetes' own."""
    places = (jobs(kube), kube.ome, *(f"{kube.core}/{kind}" for kind in ("secrets", "pods", "services")))
    found = [one["metadata"] for place in places for one in kube.api.list(place)]
    return sorted(one["name"] for one in found if not one["name"].startswith("default-token"))


def left(kube: Kube) -> list[str]:
    """What carries the trial's name."""
    return [name for name in names(kube) if name.startswith(NAME)]


def engine_of(kube: Kube) -> str:
    """The uid of its pod, which serves."""
    kube.wait_ready(NAME)
    return str(kube.pods(NAME)[0]["metadata"]["uid"])


def gone(kube: Kube) -> bool:
    return process.wait_until(lambda: not left(kube), timeout_s=180)


@contextmanager
def away(kube: Kube, *, is_down: bool) -> Iterator[None]:
    """The API server is down, or accepts connections and says nothing, until the end of the scope."""
    (server,) = [one for one in kube.cluster.processes() if one.name() == "kube-apiserver"]
    kube.cluster.stop_api_server() if is_down else server.suspend()
    yield
    kube.cluster.restore() if is_down else server.resume()


@pytest.mark.usefixtures("bystanders")
def test_removes_the_trial_and_nothing_else(kube: Kube, owned: Lease, make: Make) -> None:
    make()
    pod = engine_of(kube)
    assert removal.remove(owned) == ()
    assert left(kube) == [] or gone(kube), "OME's services go with their owner, a moment later"
    assert kube.operator.process_ids(pod) == []


def test_gives_the_gpus_back(kube: Kube, owned: Lease, make: Make) -> None:
    make()
    engine_of(kube)
    removal.remove(owned)
    limits = {"nvidia.com/gpu": 1}
    spec = {"containers": [{**idle(), "resources": {"limits": limits}}], "terminationGracePeriodSeconds": 0}
    kube.api.create(f"{kube.core}/pods", {"metadata": {"name": "next"}, "spec": spec})
    taken = process.wait_until(lambda: "nodeName" in kube.api.get(f"{kube.core}/pods/next")["spec"], timeout_s=10)
    assert taken, "the only GPU is not free"


def test_is_idempotent(kube: Kube, owned: Lease, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    make()
    assert removal.remove(owned) == ()
    monkeypatch.setattr(removal, "SETTLE_S", 600.0)  # nothing of it is waited for the second time
    assert removal.remove(owned) == ()


def test_a_lease_without_a_cluster_owns_nothing(owned: Lease) -> None:
    assert removal.remove(replace(owned, cluster=Cluster())) == ()


def test_ends_what_runs_beside_the_trial_on_this_machine(owned: Lease, tmp_path: Path) -> None:
    """The port-forward, say; also where the trial was killed before it came to a cluster."""
    env = {**os.environ, process.LABEL: LABEL}
    process.spawn(["sleep", "600"], log=tmp_path / "log", env=env)
    assert process.wait_until(lambda: len(process.labelled(LABEL)) == 1, timeout_s=180)
    assert removal.remove(replace(owned, cluster=None)) == ()
    assert process.labelled(LABEL) == ()


def test_finds_what_is_made_when_nobody_waits_any_more(kube: Kube, owned: Lease) -> None:
    late = Timer(0.5, kube.create, [service(NAME, "none", "none", labels=OURS)])
    late.start()
    assert removal.remove(replace(owned, port=None)) == ()
    late.join()
    assert left(kube) == []


def test_names_a_finalizer_that_hangs(kube: Kube, owned: Lease, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "PATIENCE_S", 4.0)
    kube.behave(NAME, holds_finalizer=True)
    make()
    engine_of(kube)
    assert owned.cluster
    found = removal.remove(owned)
    assert "is being deleted, but waits for inferenceservice.finalizers: its controller does not answer" in found[0]
    patch = f'patch inferenceservices.ome.io {NAME} --type=merge -p \'{{"metadata":{{"finalizers":null}}}}\''
    assert f"kubectl --kubeconfig {owned.cluster.kubeconfig} --context tests -n {kube.namespace} {patch}" in found[0]
    assert [name for name in left(kube) if "-engine-" in name] == [], "its engine is ended all the same"
    assert kube.api.find(f"{jobs(kube)}/{NAME}"), "the dead man's switch stays until all else is gone"
    kube.behave(NAME, holds_finalizer=False)
    assert removal.remove(owned) == ()


def test_ends_a_pod_that_ignores_term(kube: Kube, owned: Lease, make: Make) -> None:
    make("--fault", "ignore_term", grace_s=2)
    pod = engine_of(kube)
    assert removal.remove(replace(owned, stop_grace_s=2)) == ()
    assert kube.operator.process_ids(pod) == []


def test_removes_a_pod_whose_node_does_not_answer(
    kube: Kube, owned: Lease, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "LATE_S", 1.0)
    make("--fault", "ignore_term", grace_s=600)
    engine_of(kube)
    assert removal.remove(owned) == ()
    assert kube.pods(NAME) == []


def test_waits_for_an_api_server_that_comes_back(kube: Kube, owned: Lease, make: Make) -> None:
    make()
    engine_of(kube)
    kube.cluster.stop_api_server()
    back = Timer(AWAY_S, kube.cluster.start_api_server)
    back.start()
    assert removal.remove(owned) == ()
    back.join()
    assert left(kube) == [] or gone(kube)


@pytest.mark.parametrize("is_down", [True, False], ids=["down", "hangs"])
def test_names_what_may_run_where_nobody_answers(kube: Kube, owned: Lease, make: Make, is_down: bool) -> None:
    """Within the deadline that runs, so that there is time to say it."""
    assert owned.cluster
    make()
    with away(kube, is_down=is_down), signals.deadline(6.0, "Teardown"):
        found = removal.remove(owned)
    assert f"InferenceService {NAME} may still be running: the cluster did not remove it" in found[0]
    kinds, label = "inferenceservices.ome.io,secrets,jobs.batch", f"{manifests.LABEL}={LABEL}"
    command = f"--context tests -n {kube.namespace} delete {kinds} -l {label}"
    assert found[0].endswith(f"; kubectl --kubeconfig {owned.cluster.kubeconfig} {command}")


def test_the_cluster_removes_a_trial_that_nobody_looks_after(kube: Kube, make: Make) -> None:
    """What is left of SIGKILL of us, our keeper and our machine."""
    make(lifetime_s=20)  # it must be seen to run first
    pod = engine_of(kube)
    assert process.wait_until(lambda: not left(kube), timeout_s=180)
    assert kube.operator.process_ids(pod) == []
