"""Trials that share a cluster's GPUs, on a real API server and scheduler: who waits, for whom, and who is told no."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from fakes import make_plan
from parts.kube_fixtures import Kube
from pipeline.backends import Deployment, lease
from pipeline.backends.kube import manifests
from pipeline.backends.ome import Ome
from pipeline.core.errors import DeployFailed, FailureKind
from pipeline.core.plan import OmeModel, Plan
from pipeline.core.schema_backends import Cluster, Kubernetes
from pipeline.machine import process
from support.places import TESTS

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("needs_kube")]
ENGINE = ("python3", str(TESTS / "fakes" / "stub_engine.py"), "--port", "{port}")
SCHEDULE_S = 14.0  # the scheduler itself lets a pod that found no node stand back for up to 10 s
BEHIND_S = 8.0  # that a trial stands behind another one: longer than any doubt of ours
TOLD_S = 12.0
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
class Sweep:
    """Trials of one GPU each; all are taken down at the end."""

    kube: Kube
    folder: Path
    made: list[lease.Lease] = field(default_factory=list)

    def plan(self, number: int, **settings: Any) -> Plan:
        run_dir = self.folder / str(number)
        run_dir.mkdir(parents=True, exist_ok=True)
        cluster = Cluster(namespace=self.kube.namespace)
        kubernetes = Kubernetes(cluster=cluster, image="tests/engine:1", shm_size_gib=0.1, schedule_s=SCHEDULE_S)
        plan = make_plan(
            run_dir,
            backend="pipeline.backends.ome.Ome",
            argv=ENGINE,
            kubernetes=replace(kubernetes, **settings),
            ome_model=MODEL,
        )
        env = {"STUB_HOST": "0.0.0.0"}
        return replace(plan, trial_id=f"sweep/{number}", number=number, stop_grace_s=1, env=env, gpus=1)

    def deploy(self, plan: Plan) -> Deployment:
        owned = lease.make(plan)
        lease.update(owned)
        self.made.append(owned)
        return Ome().deploy(plan, owned)

    def remove(self, number: int) -> None:
        assert Ome().teardown(lease.current(self.made[number])) == ()

    def name(self, number: int) -> str:
        return manifests.name(self.made[number].label)


@pytest.fixture
def sweep(kube: Kube, tmp_path: Path) -> Iterator[Sweep]:
    kube.add_node("one", gpus=1)
    kube.add_model("tiny")
    kube.add_runtime("rt")
    made = Sweep(kube, tmp_path / "sweep")
    yield made
    for number in range(len(made.made)):
        made.remove(number)


@pytest.fixture
def beside() -> Iterator[Callable[..., Future[Any]]]:
    """Runs something beside the test."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def hold(kube: Kube) -> None:
    """Somebody else's pod takes the only GPU."""
    amounts = {"limits": {"nvidia.com/gpu": "1"}}
    box: dict[str, Any] = {"name": "c", "image": "tests/engine:1", "command": ["sleep", "600"], "resources": amounts}
    spec = {"containers": [box], "nodeName": "one", "terminationGracePeriodSeconds": 0}
    kube.api.create(f"{kube.core}/pods", {"metadata": {"name": "stranger"}, "spec": spec})


def let_go(kube: Kube) -> None:
    kube.api.delete(f"{kube.core}/pods/stranger", gracePeriodSeconds=0)


def waits(sweep: Sweep, number: int, told: list[str]) -> None:
    Ome().await_room(sweep.plan(number), told.append)


def test_a_trial_waits_for_the_other_one_and_goes_on_when_it_is_gone(
    sweep: Sweep, beside: Callable[..., Future[Any]]
) -> None:
    told: list[str] = []
    waits(sweep, 0, told)
    assert told == []
    sweep.deploy(sweep.plan(0))
    waiting = beside(waits, sweep, 1, told)
    time.sleep(BEHIND_S)
    assert not waiting.done()
    assert set(told) == {f"waits for 1 nvidia.com/gpu: {sweep.name(0)} on one has 1"}
    sweep.remove(0)
    waiting.result(timeout=TOLD_S)
    assert sweep.deploy(sweep.plan(1)).facts["node"] == "one"


def test_a_trial_that_was_created_a_moment_ago_is_waited_for(sweep: Sweep) -> None:
    """OME has not even made its pod."""
    sweep.kube.behave("st-", is_ignored=True)
    with pytest.raises(DeployFailed):
        sweep.deploy(sweep.plan(0, schedule_s=1))
    told: list[str] = []

    def tell(said: str) -> None:
        told.append(said)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Ome().await_room(sweep.plan(1), tell)
    assert told == [f"waits for 1 nvidia.com/gpu: {sweep.name(0)} is about to take 1"]
    sweep.kube.behave("st-", is_ignored=False)


def test_of_two_trials_for_the_same_gpu_one_waits_in_the_schedulers_queue(
    sweep: Sweep, beside: Callable[..., Future[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="pipeline")
    sweep.deploy(sweep.plan(0))
    second = beside(sweep.deploy, sweep.plan(1))
    time.sleep(SCHEDULE_S + 4)
    assert not second.done()
    assert f"waits for 1 nvidia.com/gpu: {sweep.name(0)} on one has 1" in caplog.messages
    sweep.remove(0)
    assert second.result(timeout=SCHEDULE_S + TOLD_S).facts["node"] == "one"


def test_gpus_that_others_have_are_not_waited_for(sweep: Sweep) -> None:
    hold(sweep.kube)
    told: list[str] = []
    waits(sweep, 0, told)
    begin = time.monotonic()
    with pytest.raises(DeployFailed) as caught:
        sweep.deploy(sweep.plan(0))
    assert time.monotonic() - begin < TOLD_S
    assert told == []
    assert caught.value.kind == FailureKind.UNSCHEDULABLE
    assert f"in use by {sweep.kube.namespace}/stranger (1 on one)" in str(caught.value)


def test_gpus_that_others_have_are_waited_for_where_that_is_wanted(sweep: Sweep) -> None:
    hold(sweep.kube)
    late = threading.Timer(BEHIND_S, let_go, [sweep.kube])
    late.start()
    assert sweep.deploy(sweep.plan(0, wait_for_gpus_s=60)).facts["node"] == "one"


def test_who_may_not_see_other_namespaces_waits_all_the_same(sweep: Sweep, beside: Callable[..., Future[Any]]) -> None:
    sweep.deploy(sweep.plan(0))
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": ["ome.io"], "resources": ["inferenceservices"], "verbs": ["list"]},
    ]
    nodes = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]
    user = sweep.kube.add_user(
        "narrow",
        {"kind": "Role", "metadata": {"name": "trial"}, "rules": rules},
        {"kind": "ClusterRole", "metadata": {"name": f"{sweep.kube.namespace}-nodes"}, "rules": nodes},
    )
    narrow = sweep.plan(1, cluster=Cluster(kubeconfig=user, namespace=sweep.kube.namespace))
    told: list[str] = []
    waiting = beside(Ome().await_room, narrow, told.append)
    assert process.wait_until(lambda: bool(told), timeout_s=TOLD_S)
    assert told[0] == f"waits for 1 nvidia.com/gpu: {sweep.name(0)} on one has 1"
    sweep.remove(0)
    waiting.result(timeout=TOLD_S)
