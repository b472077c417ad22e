"""The played OME and kubelets: an InferenceService becomes an engine that answers, or fails as a real one does."""

import http.client
import sys
from collections.abc import Callable
from typing import Any

import pytest
import requests
from kubernetes import client
from kubernetes.stream import portforward

from parts.kube_fixtures import KUBE_MARKS, Kube
from parts.ome_objects import AGENT, runner, service, wait_until_up
from pipeline.machine import process
from support.places import SITE, STUB_ENGINE

pytestmark = KUBE_MARKS

NAME = "trial"
ENV = [{"name": "STUB_HOST", "value": "0.0.0.0"}]


def wait(check: Callable[[], Any], timeout_s: float = 20.0) -> bool:
    return process.wait_until(lambda: bool(check()), timeout_s=timeout_s, interval_s=0.1)


def stub(*args: str, **more: Any) -> dict[str, Any]:
    """The engine of a trial: the stub at port 8080."""
    made = runner(["python3", str(STUB_ENGINE)], "--port", "8080", *args, gpus=1, env=ENV, **more)
    return {"runner": made, "terminationGracePeriodSeconds": 5}


def deploy(kube: Kube, engine: dict[str, Any] | None = None, **meta: Any) -> None:
    """A node with a GPU, a model, a runtime and an InferenceService of them."""
    kube.add_node("one", gpus=1)
    kube.add_model("tiny")
    kube.add_runtime("rt")
    kube.create(service(NAME, "tiny", "rt", engine=engine or stub(), **meta))


def container(kube: Kube) -> Any:
    """What the API says of the engine's container; empty while it says nothing."""
    statuses = [one for pod in kube.pods(NAME) for one in pod["status"].get("containerStatuses", [])]
    return statuses[0] if statuses else {}


def ended(kube: Kube) -> tuple[int, str]:
    """How the engine's container ended before it was started again."""
    last = container(kube)["lastState"]["terminated"]
    return last["exitCode"], last["reason"]


def reason(kube: Kube) -> str:
    """Why the engine's container does not run."""
    states: list[Any] = list(kube.state(NAME).values())
    return str(states[0].get("reason", "")) if states else ""


def model_status(kube: Kube) -> Any:
    return kube.service(NAME).get("status", {}).get("modelStatus", {})


def health(address: str) -> requests.Response:
    return requests.get(f"http://{address}:8080/health", timeout=5)


def test_serves_at_the_address_of_its_pod(kube: Kube) -> None:
    deploy(kube)
    kube.wait_ready(NAME)
    (pod,) = kube.pods(NAME)
    assert health(pod["status"]["podIP"]).json() == {"status": "ok"}
    status = kube.service(NAME)["status"]
    assert status["url"] == f"http://{NAME}.{kube.namespace}.svc.cluster.local:8080"
    assert status["modelStatus"]["transitionStatus"] == "UpToDate"


def test_serves_through_its_service(kube: Kube) -> None:
    deploy(kube)
    kube.wait_ready(NAME)
    path = f"{kube.core}/services/{NAME}-engine:8080/proxy/health"
    assert wait(lambda: kube.api.find(path.replace("/proxy/health", "").replace(":8080", "")))
    assert wait(lambda: kube.api.find(path) == {"status": "ok"})  # the proxy learns of it a moment later


def test_serves_the_stand_in_from_a_model_elsewhere(kube: Kube) -> None:
    kube.operator.use(env={"PYTHONPATH": str(SITE)}, paths={"/mnt/data/models/tiny": "some/model"})
    line = ["--model-path", "$(MODEL_PATH)", "--host", "0.0.0.0", "--port", "8080"]
    made = runner(["python3", "-m", "sglang.launch_server"], *line, gpus=1)
    deploy(kube, {"runner": made, "terminationGracePeriodSeconds": 2})
    kube.wait_ready(NAME)
    info = requests.get(f"http://{kube.pods(NAME)[0]['status']['podIP']}:8080/get_model_info", timeout=5).json()
    assert info["model_path"] == "some/model"


def test_answers_through_a_port_forward(kube: Kube, kube_client: client.ApiClient) -> None:
    deploy(kube)
    kube.wait_ready(NAME)
    call: Any = client.CoreV1Api(kube_client).connect_get_namespaced_pod_portforward
    forwarded = portforward(call, kube.pods(NAME)[0]["metadata"]["name"], kube.namespace, ports="8080")
    talking = http.client.HTTPConnection("127.0.0.1", 8080)
    talking.sock = forwarded.socket(8080)
    talking.request("GET", "/health")
    assert talking.getresponse().status == 200
    forwarded.close()


def test_port_forward_tells_that_nobody_listens(kube: Kube, kube_client: client.ApiClient) -> None:
    deploy(kube)
    kube.wait_ready(NAME)
    call: Any = client.CoreV1Api(kube_client).connect_get_namespaced_pod_portforward
    forwarded = portforward(call, kube.pods(NAME)[0]["metadata"]["name"], kube.namespace, ports="81")
    assert wait(lambda: forwarded.error(81)), "no word of it"
    assert "error forwarding port 81" in forwarded.error(81)
    forwarded.close()


def test_shows_its_log(kube: Kube, kube_client: client.ApiClient) -> None:
    deploy(kube)
    kube.wait_ready(NAME)
    core = client.CoreV1Api(kube_client)
    log = core.read_namespaced_pod_log(kube.pods(NAME)[0]["metadata"]["name"], kube.namespace)
    assert "stub engine Namespace" in log


def test_follows_a_log_until_the_end(kube: Kube, kube_client: client.ApiClient) -> None:
    command = ["sh", "-c", "echo one; sleep 1; echo two; sleep 600"]
    deploy(kube, {"runner": {**runner(command), "args": []}, "terminationGracePeriodSeconds": 0})
    assert wait(lambda: "running" in kube.state(NAME))
    core, name = client.CoreV1Api(kube_client), kube.pods(NAME)[0]["metadata"]["name"]
    stream: Any = core.read_namespaced_pod_log(name, kube.namespace, follow=True, _preload_content=False)
    assert stream.readline() == b"one\n"
    assert stream.readline() == b"two\n"
    stream.close()


def test_gives_what_the_runtime_and_the_service_say(kube: Kube) -> None:
    given = {"args": ["-c", "1"], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]}
    kube.add_model("tiny")
    kube.add_runtime("rt", given)
    own = {"name": "ome-container", "args": ["x"], "env": [{"name": "B", "value": "2"}]}
    kube.create(service(NAME, "tiny", "rt", engine={"runner": own}))
    path = f"/apis/apps/v1/namespaces/{kube.namespace}/deployments/{NAME}-engine"
    assert wait(lambda: kube.api.find(path))
    spec = kube.api.get(path)["spec"]["template"]["spec"]
    env = {one["name"]: one["value"] for one in spec["containers"][0]["env"]}
    assert spec["containers"][0]["args"] == ["x"]
    assert env == {"A": "1", "B": "2", "MODEL_PATH": "/mnt/data/models/tiny"}
    assert spec["nodeSelector"] == {"models.ome.io/clusterbasemodel.tiny": "Ready"}


def test_end_of_the_service_ends_the_process(kube: Kube) -> None:
    deploy(kube)
    kube.wait_ready(NAME)
    (pod,) = kube.pods(NAME)
    assert kube.operator.process_ids(pod["metadata"]["uid"])
    kube.api.delete(f"{kube.ome}/{NAME}")
    assert wait(lambda: not kube.pods(NAME))
    assert kube.operator.process_ids(pod["metadata"]["uid"]) == []
    assert kube.cluster.interfaces() == []


def test_one_that_ignores_term_ends_after_its_grace_period(kube: Kube) -> None:
    deploy(kube, {**stub("--fault", "ignore_term"), "terminationGracePeriodSeconds": 2})
    kube.wait_ready(NAME)
    kube.api.delete(f"{kube.ome}/{NAME}")
    assert wait(lambda: kube.pods(NAME) and "deletionTimestamp" in kube.pods(NAME)[0]["metadata"])
    assert not process.wait_until(lambda: not kube.pods(NAME), timeout_s=1)
    assert wait(lambda: not kube.pods(NAME))


def test_waits_for_gpus(kube: Kube) -> None:
    deploy(kube, {"runner": {**stub()["runner"], "resources": {"limits": {"nvidia.com/gpu": 8}}}})

    def told() -> str:
        conditions = [one for pod in kube.pods(NAME) for one in pod["status"].get("conditions", [])]
        return "".join(one.get("message", "") for one in conditions if one["type"] == "PodScheduled")

    assert wait(lambda: "Insufficient nvidia.com/gpu" in told()), told()
    assert wait(lambda: kube.condition(NAME, "IngressReady").get("reason") == "ComponentNotReady")
    assert model_status(kube).get("transitionStatus") == "InProgress"


def test_fault_image_cannot_be_pulled(kube: Kube) -> None:
    kube.behave(NAME, pull_error="manifest unknown")
    deploy(kube)
    assert wait(lambda: reason(kube) == "ImagePullBackOff")
    events = kube.api.list(f"{kube.core}/events", fieldSelector="reason=Failed")
    assert "manifest unknown" in events[0]["message"]


def test_fault_slow_pull(kube: Kube) -> None:
    kube.behave(NAME, pull_s=600)
    deploy(kube)
    assert wait(lambda: reason(kube) == "ContainerCreating")
    kube.behave(NAME, pull_s=0)
    kube.wait_ready(NAME)


def test_fault_crash_loop(kube: Kube) -> None:
    deploy(kube, stub("--fault", "exit_at_start"))
    assert wait(lambda: reason(kube) == "CrashLoopBackOff")
    assert ended(kube) == (1, "Error")
    assert wait(lambda: model_status(kube).get("transitionStatus") == "BlockedByFailedLoad")
    assert model_status(kube)["lastFailureInfo"]["exitCode"] == 1


def test_fault_out_of_memory(kube: Kube) -> None:
    kube.behave(NAME, exit_code=137, death_reason="OOMKilled", backoff_s=60)
    deploy(kube)
    assert wait(lambda: reason(kube) == "CrashLoopBackOff")
    assert ended(kube) == (137, "OOMKilled")


def test_fault_never_ready(kube: Kube) -> None:
    deploy(kube, stub("--fault", "never_ready"))
    assert wait(lambda: "running" in kube.state(NAME))
    assert not process.wait_until(lambda: kube.is_ready(NAME), timeout_s=2)
    assert wait(lambda: kube.condition(NAME, "EngineReady").get("reason") == "MinimumReplicasUnavailable")


def test_fault_startup_takes_too_long(kube: Kube) -> None:
    probe = {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2}
    deploy(kube, stub("--fault", "never_ready", startupProbe=probe))
    assert wait(lambda: container(kube).get("restartCount"))
    assert ended(kube) == (137, "Error")


def test_fault_load_failed(kube: Kube) -> None:
    kube.behave(NAME, load_error="CUDA out of memory")
    deploy(kube)
    assert wait(lambda: model_status(kube).get("transitionStatus") == "BlockedByFailedLoad")
    assert model_status(kube)["lastFailureInfo"]["message"] == "CUDA out of memory"


@pytest.mark.parametrize(
    ("model", "runtime", "expected"),
    [
        pytest.param("none", "rt", "BaseModelNotFound", id="no-model"),
        pytest.param("tiny", "none", "RuntimeNotRecognized", id="no-runtime"),
        pytest.param("tiny", "off", "RuntimeDisabled", id="runtime-disabled"),
    ],
)
def test_fault_invalid_spec(kube: Kube, model: str, runtime: str, expected: str) -> None:
    kube.add_model("tiny")
    kube.add_runtime("rt")
    kube.add_runtime("off", disabled=True)
    kube.create(service(NAME, model, runtime, engine=stub()))
    assert wait(lambda: model_status(kube).get("transitionStatus") == "InvalidSpec")
    assert model_status(kube)["lastFailureInfo"]["reason"] == expected


def test_fault_controller_is_down(kube: Kube) -> None:
    kube.behave(NAME, is_ignored=True)
    deploy(kube)
    assert not process.wait_until(lambda: "status" in kube.service(NAME), timeout_s=1.5)
    assert kube.pods(NAME) == []


def test_fault_finalizer_hangs(kube: Kube) -> None:
    kube.behave(NAME, holds_finalizer=True)
    deploy(kube)
    kube.wait_ready(NAME)
    kube.api.delete(f"{kube.ome}/{NAME}")
    assert not process.wait_until(lambda: kube.api.find(f"{kube.ome}/{NAME}") is None, timeout_s=1.5)
    assert "deletionTimestamp" in kube.service(NAME)["metadata"]


def test_fault_slow_download(kube: Kube) -> None:
    kube.operator.behave("/tiny", download_s=600)
    deploy(kube)
    path = "/apis/ome.io/v1beta1/clusterbasemodels/tiny"
    assert wait(lambda: kube.api.get(path).get("status", {}).get("state") == "In_Transit")
    assert wait(lambda: kube.pods(NAME))
    assert "nodeName" not in kube.pods(NAME)[0]["spec"]
    kube.operator.behave("/tiny", download_s=0)
    kube.wait_ready(NAME)
    assert kube.api.get(path)["status"]["nodesReady"] == ["one"]


def test_fault_download_fails(kube: Kube) -> None:
    kube.operator.behave("/tiny", download_fails=True)
    deploy(kube)
    path = "/apis/ome.io/v1beta1/clusterbasemodels/tiny"
    assert wait(lambda: kube.api.get(path).get("status", {}).get("state") == "Failed")
    labels = kube.api.get("/api/v1/nodes/one")["metadata"]["labels"]
    assert labels["models.ome.io/clusterbasemodel.tiny"] == "Failed"


def test_fault_secret_is_missing(kube: Kube) -> None:
    source = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "api"}}}
    deploy(kube, {"runner": {**stub()["runner"], "env": [*ENV, source]}})
    assert wait(lambda: reason(kube) == "CreateContainerConfigError")
    kube.api.create(f"{kube.core}/secrets", {"metadata": {"name": "keys"}, "stringData": {"api": "k"}})
    kube.wait_ready(NAME)


def test_engine_that_dies_after_it_was_ready(kube: Kube) -> None:
    deploy(kube, stub("--fault", "exit_later", "--exit-after-s", "0.1"))
    kube.wait_ready(NAME)
    address = kube.pods(NAME)[0]["status"]["podIP"]
    assert requests.post(f"http://{address}:8080/v1/chat/completions", json={}, timeout=5).ok
    assert wait(lambda: container(kube).get("restartCount"))
    assert ended(kube) == (7, "Error")


def test_engine_goes_on_while_the_api_server_is_gone(kube: Kube) -> None:
    deploy(kube)
    kube.wait_ready(NAME)
    address = kube.pods(NAME)[0]["status"]["podIP"]
    kube.cluster.stop_api_server()
    assert health(address).ok
    kube.cluster.start_api_server()
    assert health(address).ok
    assert kube.is_ready(NAME)


def test_installed_ome_can_be_looked_at(kube: Kube) -> None:
    kube.add_node("one", gpus=1)
    kube.install_ome()
    wait_until_up(kube.cluster)


def test_fault_model_agent_crashes(kube: Kube) -> None:
    kube.operator.behave(f"ome/{AGENT}", exit_code=1)
    kube.add_node("one", gpus=1)
    kube.install_ome()

    def reasons() -> list[str]:
        pods = kube.api.list("/api/v1/namespaces/ome/pods", labelSelector=f"app.kubernetes.io/component={AGENT}")
        statuses = [one for pod in pods for one in pod["status"].get("containerStatuses", [])]
        return [one["state"]["waiting"]["reason"] for one in statuses if "waiting" in one["state"]]

    assert wait(lambda: reasons() == ["CrashLoopBackOff"]), reasons()


def test_runs_this_python(kube: Kube) -> None:
    deploy(
        kube, {"runner": {**runner(["python3", "-c", "import sys; print(sys.executable); sys.exit(3)"]), "args": []}}
    )
    assert wait(lambda: reason(kube) == "CrashLoopBackOff")
    path = f"{kube.core}/pods/{kube.pods(NAME)[0]['metadata']['name']}/log"
    answer = requests.get(
        f"{kube.api.url}{path}",
        headers={"Authorization": f"Bearer {kube.api.token}"},
        verify=str(kube.api.ca),
        timeout=5,
    )
    assert answer.text.strip() == sys.executable
