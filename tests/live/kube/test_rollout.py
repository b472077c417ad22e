"""What backend=ome does with a server, on a real API server: deploy, watch, tell what cannot heal, tell its death."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests

from fakes import make_plan
from parts.kube_api import OME
from parts.kube_fixtures import KUBE_MARKS, Kube
from pipeline.backends import Deployment, lease
from pipeline.backends.kube import manifests
from pipeline.backends.ome import Ome
from pipeline.core.errors import DeployFailed, FailureKind, StepTimedOut
from pipeline.core.files import RunDir
from pipeline.core.plan import OmeModel, Plan
from pipeline.core.schema_backends import Cluster, Kubernetes
from pipeline.machine import process, signals
from support.places import TESTS

pytestmark = KUBE_MARKS
ENGINE = ("python3", str(TESTS / "fakes" / "stub_engine.py"), "--port", "{port}")
TOLD_S = 45.0  # within which what cannot heal has to be told
MODEL = OmeModel(
    name="tiny",
    uri="hf://tests/tiny",
    path="/mnt/data/models/tiny",
    key=None,
    vendor=None,
    version=None,
    format="safetensors",
    architecture="LlamaForCausalLM",
    quantization=None,
    parameters="1B",
    max_tokens=None,
    runtime="rt",
    sizes=None,
)


@dataclass
class Trials:
    """Deploys plans; all is taken down at the end."""

    kube: Kube
    plan: Plan
    made: list[lease.Lease]

    def deploy(self, *faults: str, settings: dict[str, Any] | None = None, **changes: Any) -> Deployment:
        kubernetes = replace(self.plan.kubernetes or Kubernetes(), **(settings or {}))
        plan = replace(self.plan, argv=(*ENGINE, *faults), kubernetes=kubernetes)
        plan = replace(plan, **changes)
        owned = lease.make(plan)
        lease.update(owned)
        self.made.append(owned)
        return Ome().deploy(plan, owned)

    @property
    def name(self) -> str:
        return manifests.name(self.made[-1].label)

    def remove(self) -> None:
        for owned in self.made:
            assert Ome().teardown(lease.current(owned)) == ()


@pytest.fixture
def trials(kube: Kube, tmp_path: Path) -> Iterator[Trials]:
    run_dir = tmp_path / "sweep" / "0"
    run_dir.mkdir(parents=True)
    kube.add_node("one", gpus=1)
    kube.add_model("tiny")
    kube.add_runtime("rt")
    settings = Kubernetes(cluster=Cluster(namespace=kube.namespace), image="tests/engine:1", shm_size_gib=0.1)
    plan = make_plan(run_dir, backend="pipeline.backends.ome.Ome", argv=ENGINE, kubernetes=settings, ome_model=MODEL)
    env = {"OF_THE_PLAN": "1", "STUB_HOST": "0.0.0.0"}
    made = Trials(kube, replace(plan, stop_grace_s=1, env=env, gpus=1, gpu_vendor="nvidia"), [])
    yield made
    kube.cluster.restore()
    made.remove()


def answers(deployment: Deployment) -> bool:
    try:
        return requests.get(f"{deployment.url}/health", timeout=5).ok
    except requests.RequestException:
        return False


def refused(act: Callable[[], Any]) -> tuple[DeployFailed, float]:
    """The failure, and how long it took to be told."""
    start = time.monotonic()
    with pytest.raises(DeployFailed) as caught:
        act()
    return caught.value, time.monotonic() - start


def log_of(trials: Trials) -> str:
    return RunDir(trials.plan.run_dir).server_log.read_text()


def test_an_engine_answers_through_a_port_forward_and_is_gone_afterwards(trials: Trials) -> None:
    deployment = trials.deploy()
    assert process.wait_until(lambda: answers(deployment), timeout_s=180)
    assert Ome().owns_listener(deployment)
    assert Ome().death(deployment) is None
    assert [one.pid for one in process.labelled(deployment.lease.label)] == [deployment.lease.pid]
    assert process.wait_until(lambda: "stub engine" in log_of(trials), timeout_s=180)
    assert deployment.facts == {
        "cluster": trials.kube.cluster.url,
        "namespace": trials.kube.namespace,
        "access": "port_forward",
        "inference_service": trials.name,
        "pod": trials.kube.pods(trials.name)[0]["metadata"]["name"],
        "node": "one",
        "pod_ip": trials.kube.pods(trials.name)[0]["status"]["podIP"],
        "image": "tests/engine:1",
        "image_id": "fake://tests/engine:1",
    }
    assert [Ome().teardown(deployment.lease) for _ in range(2)] == [(), ()]
    assert trials.kube.pods(trials.name) == []
    assert not answers(deployment)


def test_the_lease_knows_the_namespace_before_there_is_anything(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = trials.kube.add_user("nobody")
    monkeypatch.setenv("KUBECONFIG", str(nobody))
    error, _ = refused(lambda: trials.deploy(settings={"cluster": Cluster()}))
    assert error.kind == FailureKind.PREFLIGHT
    assert 'rule {apiGroups: ["batch"], resources: ["jobs"], verbs: ["create"]}' in error.hint
    found = lease.current(trials.made[-1]).cluster
    assert found == Cluster(kubeconfig=nobody, context="tests", namespace=trials.kube.namespace)
    trials.made.clear()  # who may not create may not remove


def test_all_that_is_made_carries_the_label_and_belongs_to_the_switch(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVETUNE_API_KEY", "sk-very-secret")
    trials.deploy(secret_env={"STUB_API_KEY": "SERVETUNE_API_KEY"})
    api, label = trials.kube.api, trials.made[-1].label
    folders = (
        f"/apis/batch/v1/namespaces/{trials.kube.namespace}/jobs",
        f"{trials.kube.core}/secrets",
        trials.kube.ome,
    )
    (job, secret, service) = (
        one for folder in folders for one in api.list(folder, labelSelector=f"{manifests.LABEL}={label}")
    )
    owners = [one["metadata"]["ownerReferences"][0]["uid"] for one in (secret, service)]
    assert owners == [job["metadata"]["uid"]] * 2
    assert "sk-very-secret" not in str(service)
    kept = [path.read_text(errors="replace") for path in trials.plan.run_dir.rglob("*") if path.is_file()]
    assert not any("sk-very-secret" in text for text in kept)


def test_tells_the_exit_code_of_an_engine_that_has_served(trials: Trials) -> None:
    deployment = trials.deploy("--fault", "exit_later", "--exit-after-s", "0.1")
    assert process.wait_until(lambda: answers(deployment), timeout_s=180)
    assert requests.post(f"{deployment.url}/v1/chat/completions", json={}, timeout=5).ok
    assert process.wait_until(lambda: Ome().death(deployment) == "exit code 7", timeout_s=TOLD_S)
    assert not Ome().owns_listener(deployment)


def test_tells_a_death_by_the_memory_limit(trials: Trials) -> None:
    trials.kube.behave("st-", death_reason="OOMKilled")
    deployment = trials.deploy("--fault", "exit_later", "--exit-after-s", "0.1")
    assert process.wait_until(lambda: answers(deployment), timeout_s=180)
    assert requests.post(f"{deployment.url}/v1/chat/completions", json={}, timeout=5).ok
    expected = "exit code 7 (killed by the memory limit)"
    assert process.wait_until(lambda: Ome().death(deployment) == expected, timeout_s=TOLD_S)


def test_a_pod_that_somebody_removes_is_a_death(trials: Trials) -> None:
    deployment = trials.deploy()
    trials.kube.api.delete(f"{trials.kube.core}/pods/{deployment.facts['pod']}", gracePeriodSeconds=0)
    assert process.wait_until(lambda: "somebody deleted it" in (Ome().death(deployment) or ""), timeout_s=TOLD_S)


def test_says_why_an_engine_does_not_become_ready(trials: Trials) -> None:
    deployment = trials.deploy("--fault", "never_ready")
    expected = "EngineReady False MinimumReplicasUnavailable"
    assert process.wait_until(lambda: expected in (Ome().condition(deployment) or ""), timeout_s=TOLD_S)
    assert Ome().death(deployment) is None


def test_gpus_that_are_not_there_are_told(trials: Trials) -> None:
    error, took_s = refused(lambda: trials.deploy(gpus=8))
    assert error.kind == FailureKind.UNSCHEDULABLE
    assert "Insufficient nvidia.com/gpu" in str(error)
    assert took_s < TOLD_S


def test_no_node_with_the_labels_is_told(trials: Trials) -> None:
    error, took_s = refused(lambda: trials.deploy(settings={"node_selector": {"zone": "none"}}))
    assert error.kind == FailureKind.UNSCHEDULABLE
    assert "zone=none" in error.hint
    assert took_s < TOLD_S


def test_a_node_that_comes_late_is_waited_for(trials: Trials) -> None:
    """It lacks memory only, which others may give back."""
    late = threading.Timer(6, trials.kube.add_node, ["two"], {"gpus": 1, "memory": "1Ti"})
    late.start()
    deployment = trials.deploy(settings={"memory": "900Gi"})
    assert deployment.facts["node"] == "two"


def test_no_node_in_time_is_told(trials: Trials) -> None:
    error, _ = refused(lambda: trials.deploy(settings={"memory": "900Gi", "schedule_s": 3}))
    assert error.kind == FailureKind.UNSCHEDULABLE
    assert "within 3 s" in str(error)
    assert "Insufficient memory" in str(error)


def test_a_quota_is_told(trials: Trials) -> None:
    """Its status is written by the quota controller, which the tests' cluster does not run."""
    api, quotas = trials.kube.api, f"{trials.kube.core}/resourcequotas"
    hard = {"requests.nvidia.com/gpu": "0"}
    api.create(quotas, {"metadata": {"name": "none"}, "spec": {"hard": hard}})
    api.patch(f"{quotas}/none/status", {"status": {"hard": hard, "used": hard}})
    error, took_s = refused(trials.deploy)
    assert error.kind == FailureKind.UNSCHEDULABLE
    assert "exceeded quota" in str(error)
    assert took_s < TOLD_S


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        pytest.param("manifest unknown", FailureKind.IMAGE_MISSING, id="no-such-image"),
        pytest.param("dial tcp: i/o timeout", FailureKind.REGISTRY_UNREACHABLE, id="no-registry"),
    ],
)
def test_an_image_that_cannot_be_pulled_is_told(trials: Trials, said: str, kind: FailureKind) -> None:
    trials.kube.behave("st-", pull_error=said)
    error, took_s = refused(trials.deploy)
    assert error.kind == kind
    assert said in str(error)
    assert took_s < TOLD_S


def test_a_slow_pull_is_waited_for_and_no_longer(trials: Trials) -> None:
    trials.kube.behave("st-", pull_s=600)
    error, _ = refused(lambda: trials.deploy(settings={"image_s": 2}))
    assert "within 2 s" in str(error)
    assert "ContainerCreating" in str(error)
    trials.remove()
    threading.Timer(3, trials.kube.behave, ["st-"], {"pull_s": 0}).start()
    assert trials.deploy().url


def test_a_container_that_ends_at_once_is_told_with_its_last_words(trials: Trials) -> None:
    error, took_s = refused(lambda: trials.deploy(argv=("no-such-program",)))
    assert error.kind == FailureKind.CRASH_LOOP
    assert "executable file not found" in str(error)
    assert took_s < TOLD_S


def test_an_engine_that_crashes_is_told_with_its_log(trials: Trials) -> None:
    """Before it was seen running or after: that is chance."""
    told = ""
    try:
        deployment = trials.deploy("--fault", "exit_at_start")
    except DeployFailed as error:
        told = str(error)
    else:
        assert process.wait_until(lambda: Ome().death(deployment) == "exit code 1", timeout_s=TOLD_S)
    assert "the stub was told to" in (told or log_of(trials))


def test_a_load_that_ome_gives_up_is_told(trials: Trials) -> None:
    trials.kube.behave("st-", load_error="CUDA out of memory", pull_s=600)
    error, took_s = refused(trials.deploy)
    assert "CUDA out of memory" in str(error)
    assert took_s < TOLD_S


def test_a_spec_that_ome_cannot_serve_is_told(trials: Trials) -> None:
    trials.kube.api.delete(f"{OME}/clusterbasemodels/tiny")
    error, took_s = refused(trials.deploy)
    assert error.kind == FailureKind.MODEL_MISSING
    assert "BaseModelNotFound" in str(error)
    assert took_s < TOLD_S


def test_a_secret_that_is_not_there_is_told(trials: Trials) -> None:
    runner = {
        "name": "ome-container",
        "env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}],
    }
    trials.kube.api.patch(f"{OME}/clusterservingruntimes/rt", {"spec": {"engineConfig": {"runner": runner}}})
    error, took_s = refused(trials.deploy)
    assert "CreateContainerConfigError" in str(error)
    assert took_s < TOLD_S


def test_an_ome_that_is_down_is_told(trials: Trials) -> None:
    trials.kube.behave("st-", is_ignored=True)
    error, _ = refused(lambda: trials.deploy(settings={"schedule_s": 2}))
    assert error.kind == FailureKind.BACKEND_DOWN
    trials.kube.behave("st-", is_ignored=False)


def test_an_api_server_that_is_away_while_we_wait_is_survived(trials: Trials) -> None:
    trials.kube.behave("st-", pull_s=600)
    cluster = trials.kube.cluster

    def be_away() -> None:
        process.wait_until(lambda: bool(trials.made and trials.kube.state(trials.name)), timeout_s=180)
        cluster.stop_api_server()
        time.sleep(20)
        cluster.start_api_server()
        trials.kube.behave("st-", pull_s=0)

    away = threading.Thread(target=be_away)
    away.start()
    deployment = trials.deploy()
    away.join()
    assert process.wait_until(lambda: answers(deployment), timeout_s=180)
    cluster.stop_api_server()
    assert Ome().death(deployment) is None
    cluster.start_api_server()
    assert process.wait_until(lambda: answers(deployment), timeout_s=180)
    assert Ome().death(deployment) is None


def test_a_deadline_breaks_a_deployment_off_and_all_of_it_is_found(trials: Trials) -> None:
    trials.kube.behave("st-", pull_s=600)
    with pytest.raises(StepTimedOut), signals.deadline(3, "deploy"):
        trials.deploy()
    assert trials.kube.pods(trials.name)
    assert Ome().teardown(lease.current(trials.made[-1])) == ()
    assert trials.kube.pods(trials.name) == []


def test_a_url_of_ones_own_is_filled_in(trials: Trials) -> None:
    deployment = trials.deploy(settings={"access": "url", "url": "http://{name}.{namespace}.example.com/"})
    assert deployment.url == f"http://{trials.name}.{trials.kube.namespace}.example.com"
    assert (deployment.port, deployment.lease.port) == (80, None)


def test_in_the_cluster_it_is_reached_by_its_service(trials: Trials) -> None:
    deployment = trials.deploy(settings={"access": "in_cluster"})
    assert deployment.url == f"http://{trials.name}-engine.{trials.kube.namespace}.svc:8080"
    assert deployment.lease.pid is None
