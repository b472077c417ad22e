"""Preflight against a real API server: each trouble told at once, with its kind and the command that mends it."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from parts import kube_objects
from parts.kube_api import OME
from parts.kube_fixtures import KUBE_MARKS, Kube
from parts.ome_objects import AGENT, MANAGER, wait_until_up
from pipeline.backends.kube import checks
from pipeline.core.errors import FailureKind, PreflightFailed
from pipeline.core.schema import Config
from pipeline.machine import process
from support import kube_trials
from support.rights import documents

pytestmark = KUBE_MARKS
TOLD_S = 30.0
APPS = "/apis/apps/v1/namespaces/ome"


def healthy(kube: Kube, *, gpus: int = 1) -> None:
    """A node with GPUs, and OME that works."""
    kube.add_node("one", gpus=gpus)
    kube.install_ome()
    wait_until_up(kube.cluster)


def passed(config: Config) -> Mapping[str, str]:
    return {name: check(config) for name, check in checks.of(config)}


def refused(config: Config) -> PreflightFailed:
    """The first failure, told in time."""
    begin = time.monotonic()
    with pytest.raises(PreflightFailed) as caught:
        passed(config)
    assert time.monotonic() - begin < TOLD_S
    assert any(word in caught.value.hint for word in ("kubectl", "helm", "backend.kubernetes")), caught.value.hint
    return caught.value


def test_healthy_cluster_passes(kube: Kube) -> None:
    healthy(kube)
    told = passed(kube_trials.of(kube))
    assert told["rights in the cluster"] == "all"
    assert "free: 1 on one" in told["nodes"]
    assert "it will be created" in told["base model"]
    assert "it will be created" in told["serving runtime"]


def role(kind: str, name: str, place: str, **meta: str) -> dict[str, Any]:
    """What checks.RULES says of a place, needed or not."""
    rules = [
        {"apiGroups": [one.group], "resources": [one.resource], "verbs": list(one.verbs)}
        for one in checks.RULES
        if one.place == place
    ]
    return {"kind": kind, "metadata": {"name": name, **meta}, "rules": rules}


def test_rules_are_enough(kube: Kube) -> None:
    healthy(kube)
    roles = (
        role("Role", "trial", "namespace"),
        role("ClusterRole", f"{kube.namespace}-trial", "cluster"),
        role("Role", "trial", "ome", namespace="ome"),
    )
    user = kube.add_user("tuner", *roles)
    told = passed(kube_trials.of(kube, cluster={"kubeconfig": str(user), "namespace": kube.namespace}))
    assert told["rights in the cluster"].endswith("rules granted")
    assert not [name for name, words in told.items() if "not checked" in words and "cannot be read" not in words]


def test_two_namespaces_have_their_rights_beside_each_other(kube: Kube) -> None:
    """templates/ome/rbac.yaml as it is, applied twice."""
    healthy(kube)
    other = f"{kube.namespace}-too"
    kube_objects.add_namespace(kube.cluster, other)
    for namespace in (kube.namespace, other):
        kube_objects.apply(kube.cluster, documents(namespace))
    for namespace in (kube.namespace, other):
        user = kube_objects.kubeconfig_of(kube.cluster, namespace, "servetune")
        told = passed(kube_trials.of(kube, cluster={"kubeconfig": str(user), "namespace": namespace}))
        assert told["rights in the cluster"].endswith("rules granted")


def no_namespace(kube: Kube) -> Config:
    return kube_trials.of(kube, cluster={"kubeconfig": str(kube.cluster.kubeconfig), "namespace": "nowhere"})


def no_rights(kube: Kube) -> Config:
    return kube_trials.of(kube, cluster={"kubeconfig": str(kube.add_user("weak")), "namespace": kube.namespace})


def no_controller(kube: Kube) -> Config:
    kube.add_node("one", gpus=1)
    return kube_trials.of(kube)


def no_gpus(kube: Kube) -> Config:
    healthy(kube, gpus=0)
    return kube_trials.of(kube)


def too_few_gpus(kube: Kube) -> Config:
    healthy(kube, gpus=2)
    return kube_trials.of(kube, gpus=8)


def other_nodes(kube: Kube) -> Config:
    healthy(kube)
    return kube_trials.of(kube, node_selector={"pool": "gpus"})


def pruned_claim(kube: Kube) -> Config:
    uri = f"pvc://{kube.namespace}:weights/tiny"
    return kube_trials.of(kube, storage={"uri": uri}, serving_runtime="rt")


def agent_crashes(kube: Kube) -> Config:
    kube.operator.behave(f"ome/{AGENT}", exit_code=1)
    kube.add_node("one", gpus=1)
    kube.install_ome()

    def is_looping() -> bool:
        pods = kube.api.list("/api/v1/namespaces/ome/pods")
        statuses = [one for pod in pods for one in pod["status"].get("containerStatuses", [])]
        is_up = kube.api.get(f"{APPS}/deployments/{MANAGER}").get("status", {}).get("availableReplicas")
        return bool(is_up) and any("CrashLoop" in str(one["state"].get("waiting")) for one in statuses)

    assert process.wait_until(is_looping, timeout_s=180)
    return kube_trials.of(kube)


def other_model(kube: Kube) -> Config:
    healthy(kube)
    kube.add_model("tiny", "/mnt/data/models/elsewhere")
    return kube_trials.of(kube)


def failed_model(kube: Kube) -> Config:
    kube.operator.behave("/tiny", download_fails=True)
    healthy(kube)
    kube.add_model("tiny", kube_trials.HOME)
    path = f"{OME}/clusterbasemodels/tiny"
    assert process.wait_until(lambda: kube.api.get(path).get("status", {}).get("state") == "Failed", timeout_s=180)
    return kube_trials.of(kube)


def small_quota(kube: Kube) -> Config:
    healthy(kube)
    spec = {"hard": {"requests.nvidia.com/gpu": "0"}}
    kube.api.create(f"{kube.core}/resourcequotas", {"metadata": {"name": "few"}, "spec": spec})
    return kube_trials.of(kube)


def no_pull_secret(kube: Kube) -> Config:
    healthy(kube)
    return kube_trials.of(kube, image_pull_secrets=["registry"])


@pytest.mark.parametrize(
    ("trouble", "kind", "words"),
    [
        pytest.param(no_namespace, FailureKind.PREFLIGHT, "no namespace nowhere", id="namespace"),
        pytest.param(no_rights, FailureKind.PREFLIGHT, "inferenceservices.ome.io", id="rights"),
        pytest.param(no_controller, FailureKind.PREFLIGHT, "controller is not installed", id="controller"),
        pytest.param(pruned_claim, FailureKind.PREFLIGHT, "needs OME 1.2.0", id="claims"),
        pytest.param(no_gpus, FailureKind.NO_GPU, "none of the cluster's 1 nodes", id="no-gpus"),
        pytest.param(too_few_gpus, FailureKind.NO_GPU, "the largest node has 2", id="too-few-gpus"),
        pytest.param(other_nodes, FailureKind.UNSCHEDULABLE, "one lacks the label pool=gpus", id="selector"),
        pytest.param(agent_crashes, FailureKind.CRASH_LOOP, "CrashLoopBackOff, exit code 1", id="agent"),
        pytest.param(other_model, FailureKind.PREFLIGHT, "spec.storage.path is", id="other-model"),
        pytest.param(failed_model, FailureKind.MODEL_MISSING, "Failed on one", id="failed-model"),
        pytest.param(small_quota, FailureKind.UNSCHEDULABLE, "ResourceQuota few allows 0", id="quota"),
        pytest.param(no_pull_secret, FailureKind.IMAGE_MISSING, "registry is missing", id="pull-secret"),
    ],
)
def test_trouble_is_told(kube: Kube, trouble: Callable[[Kube], Config], kind: FailureKind, words: str) -> None:
    told = refused(trouble(kube))
    assert words in str(told)
    assert told.kind == kind


def test_gpus_in_use_are_waited_for(kube: Kube) -> None:
    healthy(kube)
    amounts = {"limits": {"nvidia.com/gpu": "1"}}
    container: dict[str, Any] = {
        "name": "c",
        "image": "tests/engine:1",
        "command": ["sleep", "600"],
        "resources": amounts,
    }
    spec = {"containers": [container], "nodeName": "one", "terminationGracePeriodSeconds": 0}
    kube.api.create(f"{kube.core}/pods", {"metadata": {"name": "holder"}, "spec": spec})
    assert f"would wait for {kube.namespace}/holder (1 on one)" in passed(kube_trials.of(kube))["nodes"]


def test_silent_api_server_is_asked_once(kube: Kube) -> None:
    kube.cluster.stop_api_server()
    config = kube_trials.of(kube)
    told = []
    for _name, check in checks.of(config):
        with pytest.raises(PreflightFailed) as caught:
            check(config)
        told.append(str(caught.value))
    assert told[0].startswith("The cluster at https://127.0.0.1")
    assert " cannot be reached: " in told[0]
    assert set(told[1:]) == {"see cluster"}
