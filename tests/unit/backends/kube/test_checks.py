"""What preflight says of nodes, pods, models, claims and quotas: the judging, on small objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest

from pipeline.backends.kube import capacity, installed, manifests, standing, supplies
from pipeline.core.errors import FailureKind, PreflightFailed
from support.pods import GPU, WANT, node, pod, trial


def model(state: str, **lists: Any) -> dict[str, Any]:
    spec = {"storage": {"storageUri": "hf://a/b"}}
    return {"metadata": {"name": "m"}, "spec": spec, "status": {"state": state, **lists}}


@pytest.mark.parametrize(
    ("text", "number"),
    [("8", 8), ("500m", 0.5), ("2Ki", 2048), ("200Gi", 200 * 2**30), ("1k", 1000), ("1e3", 1000), ("x", 0)],
)
def test_reads_quantities(text: str, number: float) -> None:
    assert capacity.amount(text) == number


@pytest.mark.parametrize(
    ("nodes", "kind", "words"),
    [
        pytest.param([node(gpus=0)], FailureKind.NO_GPU, "none of the cluster's 1 nodes has any", id="none"),
        pytest.param([node(gpus=2)], FailureKind.NO_GPU, "the largest node has 2", id="too-few"),
        pytest.param([node(ready=False)], FailureKind.UNSCHEDULABLE, "one is not ready", id="not-ready"),
        pytest.param([node(unschedulable=True)], FailureKind.UNSCHEDULABLE, "one is cordoned", id="cordoned"),
        pytest.param(
            [node(taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])],
            FailureKind.UNSCHEDULABLE,
            "one has the taint k=v:NoSchedule",
            id="taint",
        ),
    ],
)
def test_says_why_no_node_can_run_the_trial(nodes: list[Any], kind: FailureKind, words: str) -> None:
    with pytest.raises(PreflightFailed, match=words) as caught:
        capacity.survey(nodes, [], WANT)
    assert caught.value.kind == kind
    assert "kubectl" in caught.value.hint


def test_names_who_holds_the_gpus() -> None:
    told = capacity.survey([node()], [pod(6), pod(8, phase="Succeeded", name="done")], WANT)
    assert told.endswith("the trial would wait for ns/holder (6 on one)")


def test_counts_what_is_free() -> None:
    told = capacity.survey([node(), node("two")], [pod(6)], WANT)
    assert told.endswith("free: 2 on one, 8 on two")


def test_says_that_what_is_free_is_not_known() -> None:
    assert "free GPUs unknown" in capacity.survey([node()], None, WANT)


@pytest.mark.parametrize(
    ("pods", "by", "words"),
    [
        pytest.param([], None, "", id="all-free"),
        pytest.param([trial(4, 0)], None, "", id="enough-free"),
        pytest.param([trial(6, 0)], "trials", "waits for 4 nvidia.com/gpu: st-sweep-0 on one has 6", id="trial"),
        pytest.param(
            [trial(2, 0), pod(4)], "trials", "waits for 4 nvidia.com/gpu: st-sweep-0 on one has 2", id="trial-beside"
        ),
        pytest.param(
            [trial(2, 0), pod(5)],
            "others",
            "4 nvidia.com/gpu are in use by ns/st-sweep-0-engine-x (2 on one), ns/holder (5 on one)",
            id="others",
        ),
        pytest.param([trial(8, 0, "two"), pod(8)], "others", "ns/holder (8 on one)", id="trial-elsewhere"),
        pytest.param([trial(8, 0, "")], "trials", "st-sweep-0 is about to take 8", id="made-before"),
        pytest.param([trial(4, 0), trial(8, 1, "")], None, "", id="made-before-for-more-than-is-free"),
        pytest.param([trial(8, 0, "", deletionTimestamp="now")], None, "", id="made-before-and-removed"),
        pytest.param([trial(8, 0, deletionTimestamp="now")], "trials", "on one has 8", id="being-removed"),
        pytest.param([pod(8, "")], None, "", id="others-without-a-node"),
    ],
)
def test_tells_whose_the_gpus_are(pods: list[Any], by: str | None, words: str) -> None:
    found = capacity.lack([node()], pods, WANT)
    assert (found.by if found else None) == by
    assert words in (found.words if found else "")


def test_who_stands_in_the_schedulers_queue_is_not_behind_others_in_it() -> None:
    assert capacity.lack([node()], [trial(8, 0, ""), trial(4, 1, "")], WANT, own="st-sweep-1") is None
    found = capacity.lack([node()], [trial(8, 0), trial(4, 1, "")], WANT, own="st-sweep-1")
    assert found == capacity.Lack("trials", "waits for 4 nvidia.com/gpu: st-sweep-0 on one has 8")


def test_a_node_that_others_leave_is_enough() -> None:
    found = capacity.lack([node(), node("two")], [pod(8), trial(8, 0, "two")], WANT)
    assert found == capacity.Lack("trials", "waits for 4 nvidia.com/gpu: st-sweep-0 on two has 8")


def test_gpus_that_no_node_has_are_nobodys() -> None:
    found = capacity.lack([node(gpus=2)], [trial(2, 0)], WANT)
    assert found == capacity.Lack("nobody", "The trial needs 4 nvidia.com/gpu on one node; the largest node has 2.")


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({}, id="none"),
        pytest.param({manifests.LABEL: "a"}, id="no-service"),
        pytest.param({manifests.LABEL: "a", "ome.io/inferenceservice": "mine"}, id="another-name"),
        pytest.param({"ome.io/inferenceservice": "st-a"}, id="no-label"),
    ],
)
def test_only_what_carries_a_trials_label_and_name_is_a_trials(labels: dict[str, str]) -> None:
    assert capacity.trial_of({"metadata": {"name": "p", "labels": labels}}) == ""


@pytest.mark.parametrize(
    ("toleration", "is_usable"),
    [
        ({"key": "k", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "value": "v", "effect": "NoSchedule"}, True),
        ({"key": "k", "value": "w"}, False),
        ({"key": "k", "value": "v", "effect": "NoExecute"}, False),
    ],
)
def test_tolerations(toleration: dict[str, str], *, is_usable: bool) -> None:
    tainted = node(taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])
    assert bool(capacity.usable([tainted], replace(WANT, tolerations=[toleration]))) is is_usable


@pytest.mark.parametrize(
    ("expression", "is_usable"),
    [
        ({"operator": "In", "values": ["h20"]}, True),
        ({"operator": "NotIn", "values": ["h20"]}, False),
        ({"operator": "Exists"}, True),
        ({"operator": "DoesNotExist"}, False),
        ({"operator": "Gt", "values": ["1"]}, False),
    ],
)
def test_affinity(expression: dict[str, Any], *, is_usable: bool) -> None:
    term = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "kind", **expression}]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}
    found = capacity.usable([node(labels={"kind": "h20"})], replace(WANT, affinity=affinity))
    assert bool(found) is is_usable


@pytest.mark.parametrize(
    ("there", "nodes", "word"),
    [
        pytest.param(model("Ready", nodesReady=["one"]), [node()], "ready", id="ready"),
        pytest.param(model("Ready", nodesReady=["two"]), [node(), node("two", 0)], "elsewhere", id="elsewhere"),
        pytest.param(model("In_Transit"), [node()], "coming", id="in-transit"),
        pytest.param(model("Failed", nodesFailed=["one"]), [node()], "failed", id="failed"),
        pytest.param(
            model("Ready", nodesReady=["two"]),
            [node(labels={"models.ome.io/clusterbasemodel.m": "Updating"}), node("two", 0)],
            "coming",
            id="updating",
        ),
    ],
)
def test_standing_of_a_model(there: dict[str, Any], nodes: list[Any], word: str) -> None:
    assert standing.standing(there, nodes, WANT).word == word


def daemon(*args: str, image: str = "model-agent:v0.1.2") -> dict[str, Any]:
    pod_spec = {"containers": [{"name": "model-agent", "image": image, "args": list(args)}]}
    template = {"selector": {"matchLabels": {"c": "agent"}}, "template": {"spec": pod_spec}}
    return {"metadata": {"name": "ome-model-agent-daemonset"}, "spec": template}


def test_place_of_the_model_is_under_the_agents() -> None:
    top = installed.root(daemon("--models-root-dir", "/mnt/data/models"))
    assert top == PurePosixPath("/mnt/data/models")
    with pytest.raises(PreflightFailed) as caught:
        installed.under("/raid/models/tiny", top)
    assert "storage.path=/mnt/data/models/tiny" in caught.value.hint


def test_place_that_cannot_be_read_fails_nothing() -> None:
    assert "not checked" in installed.under("/raid/models/tiny", installed.root(daemon()))


def test_crash_loop_of_an_agent_names_the_label_that_old_versions_need() -> None:
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    status = {"name": "model-agent", "ready": False, "state": state, "lastState": {"terminated": {"exitCode": 1}}}
    crashing = {
        "metadata": {"name": "agent-x", "labels": {"c": "agent"}},
        "spec": {"nodeName": "one"},
        "status": {"containerStatuses": [status]},
    }
    with pytest.raises(PreflightFailed, match="agent-x on one is in CrashLoopBackOff, exit code 1: no shape") as caught:
        installed.agents(daemon(), [crashing], [node()], lambda _pod, _container: "no shape\n")
    assert caught.value.kind == FailureKind.CRASH_LOOP
    assert "kubectl label node one node.kubernetes.io/instance-type=" in caught.value.hint


@pytest.mark.parametrize(
    ("uri", "found", "words"),
    [
        ("pvc://other:weights/x", None, "is in namespace other, the trial in ns"),
        ("pvc://ns:weights/x", None, "has no PersistentVolumeClaim weights"),
        ("pvc://ns:weights/x", {"status": {"phase": "Pending"}}, "is Pending, expected Bound"),
    ],
)
def test_claims(uri: str, found: Any, words: str) -> None:
    with pytest.raises(PreflightFailed, match=words):
        supplies.claim(uri, "ns", lambda _name: found)


def test_quota_in_use_is_waited_for() -> None:
    amounts = {"hard": {f"requests.{GPU}": "8"}, "used": {f"requests.{GPU}": "6"}}
    one = {"metadata": {"name": "q", "namespace": "ns"}, "spec": {"hard": amounts["hard"]}, "status": amounts}
    assert supplies.quota([one], WANT) == "q: 6 of 8 nvidia.com/gpu used: the trial would wait"
