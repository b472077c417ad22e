"""The tests' own control plane: what it can do, and that nothing of it is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from kubernetes import client

from parts import kube as control_plane
from parts.kube import Cluster
from parts.kube_api import OME
from parts.kube_fixtures import KUBE_MARKS, Kube, client_of
from parts.ome_operator import Operator
from pipeline.machine import process
from support.places import ROOT, TESTS

pytestmark = KUBE_MARKS

OWNER = (
    "import time; from parts import kube, ome_operator\n"
    "with kube.cluster() as c, ome_operator.running(c):\n"
    "    print(c.root, flush=True)\n    time.sleep(600)"
)


def pod(name: str, gpus: int = 0) -> Any:
    limits = {"nvidia.com/gpu": gpus} if gpus else {}
    container = {"name": "idle", "image": "tests/idle", "resources": {"limits": limits}}
    return {"metadata": {"name": name}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}}


def wait(check: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    return process.wait_until(check, timeout_s=timeout_s, interval_s=0.1)


def condition(found: Any, kind: str) -> Any:
    return next((one for one in found["status"].get("conditions", []) if one["type"] == kind), {})


@pytest.mark.parametrize(
    "kind", ["inferenceservices", "servingruntimes", "clusterservingruntimes", "basemodels", "clusterbasemodels"]
)
def test_serves_the_definitions_of_ome(kube: Kube, kind: str) -> None:
    assert kind in [one["name"] for one in kube.api.get(OME)["resources"]]


def test_drops_fields_that_are_not_in_the_schema(kube: Kube) -> None:
    made = kube.add_model("tiny", modelSize="1B")
    assert "modelSize" not in made["spec"]


def test_gives_a_pod_to_a_node(kube: Kube) -> None:
    kube.add_node("one", gpus=2)
    kube.api.create(f"{kube.core}/pods", pod("idle", gpus=2))
    assert wait(lambda: kube.api.get(f"{kube.core}/pods/idle")["status"]["phase"] == "Running")
    assert kube.api.get(f"{kube.core}/pods/idle")["spec"]["nodeName"] == "one"


def test_tells_that_gpus_are_missing(kube: Kube) -> None:
    kube.add_node("one", gpus=1)
    kube.api.create(f"{kube.core}/pods", pod("idle", gpus=2))

    def told() -> str:
        return str(condition(kube.api.get(f"{kube.core}/pods/idle"), "PodScheduled").get("message", ""))

    assert wait(lambda: "Insufficient nvidia.com/gpu" in told()), told()


def test_denies_what_a_role_does_not_give(kube: Kube) -> None:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    path = kube.add_user("reader", {"kind": "Role", "metadata": {"name": "reader"}, "rules": rules})
    with client_of(path) as mine:
        core = client.CoreV1Api(mine)
        assert core.list_namespaced_pod(kube.namespace).items == []
        with pytest.raises(client.ApiException, match="Forbidden"):
            core.list_node()


def test_dead_mans_switch_removes_what_it_owns(kube: Kube) -> None:
    jobs = f"/apis/batch/v1/namespaces/{kube.namespace}/jobs"
    unschedulable = {"nodeSelector": {"no": "node"}, "restartPolicy": "Never"}
    template = {"spec": {**unschedulable, "containers": [{"name": "none", "image": "none"}]}}
    limits = {"activeDeadlineSeconds": 2, "ttlSecondsAfterFinished": 0, "backoffLimit": 0}
    job = kube.api.create(jobs, {"metadata": {"name": "switch"}, "spec": {**limits, "template": template}})
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "switch", "uid": job["metadata"]["uid"]}
    owned = {"metadata": {"name": "owned", "ownerReferences": [owner]}, "spec": {"model": {"name": "none"}}}
    kube.create({"apiVersion": "ome.io/v1beta1", "kind": "InferenceService", **owned})
    assert wait(lambda: kube.api.find(f"{kube.ome}/owned") is None, timeout_s=120)  # the controllers share two cores
    assert kube.api.find(f"{jobs}/switch") is None


def test_api_server_can_be_gone_for_a_while(kube: Kube) -> None:
    kube.add_node("one")
    kube.cluster.stop_api_server()
    with pytest.raises(requests.ConnectionError):
        kube.api.get("/api/v1/nodes/one")
    kube.cluster.start_api_server()
    kube.api.create(f"{kube.core}/pods", pod("idle"))
    assert wait(lambda: kube.api.get(f"{kube.core}/pods/idle")["status"]["phase"] == "Running", timeout_s=40)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_leaves_nothing_when_its_owner_ends(end: signal.Signals) -> None:
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{TESTS}"}
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, env=env, text=True) as owner:
        assert owner.stdout is not None
        mine = Cluster(Path(owner.stdout.readline().strip()))
        run_a_pod(mine)
        owner.send_signal(end)
    assert process.wait_until(lambda: not mine.root.exists(), timeout_s=180)
    assert mine.remains() == []


def run_a_pod(mine: Cluster) -> None:
    """So that there is more to remove than the control plane."""
    Kube(mine, Operator(mine), "default").add_node("one")
    mine.api.create("/api/v1/namespaces/default/pods", pod("idle"))
    assert wait(lambda: mine.interfaces() != [])


def test_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert f"not in KUBEBUILDER_ASSETS ({tmp_path}): etcd" in control_plane.missing()[0]
