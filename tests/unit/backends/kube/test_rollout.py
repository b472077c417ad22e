"""What a trial's objects in a cluster mean: waiting, running, broken; and how an engine ended."""

from typing import Any

import pytest

from pipeline.backends.kube.rollout import (
    Broken,
    Running,
    Seen,
    Verdict,
    Waiting,
    condition,
    death,
    engine_pod,
    verdict,
)
from pipeline.core.errors import FailureKind as Kind
from support.engine_pods import GPUS, UID, pod, unscheduled

LABELS = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
TAINTED = (
    "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, "
    "2 node(s) didn't match Pod's node affinity/selector. preemption: 0/3 nodes are available."
)
MEMORY = "0/2 nodes are available: 1 Insufficient memory, 1 node(s) didn't match Pod's node affinity/selector."
CORDONED = "0/1 nodes are available: 1 node(s) were unschedulable."


def event(reason: str, message: str, kind: str = "Warning") -> dict[str, Any]:
    return {"type": kind, "reason": reason, "message": message, "involvedObject": {"uid": UID}}


def service(transition: str = "InProgress", **failure: Any) -> dict[str, Any]:
    told = {"transitionStatus": transition, **({"lastFailureInfo": failure} if failure else {})}
    engine = {"type": "EngineReady", "status": "False", "reason": "Progressing", "message": "waits"}
    meta = {"name": "st-x", "namespace": "space"}
    return {"metadata": meta, "status": {"modelStatus": told, "conditions": [engine]}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason}}


def broken(judged: Verdict) -> Broken:
    assert isinstance(judged, Broken), judged
    return judged


@pytest.mark.parametrize(
    ("seen", "phase", "words"),
    [
        pytest.param(Seen(), "schedule", "OME has not processed", id="nothing-yet"),
        pytest.param(Seen(service=service()), "schedule", "EngineReady False Progressing: waits", id="no-pod-yet"),
        pytest.param(Seen(pods=(pod(node=None),)), "schedule", "has not processed it yet", id="not-scheduled-yet"),
        pytest.param(Seen(pods=(unscheduled(MEMORY),)), "schedule", "Insufficient memory", id="others-may-end"),
        pytest.param(Seen(pods=(unscheduled(CORDONED),)), "schedule", "unschedulable", id="a-node-may-come-back"),
        pytest.param(
            Seen(pods=(unscheduled(GPUS),), events=(event("TriggeredScaleUp", "1->2", "Normal"),)),
            "schedule",
            "Insufficient nvidia.com/gpu",
            id="a-node-is-being-made",
        ),
        pytest.param(Seen(pods=(pod(),)), "image", "on one: bound", id="bound"),
        pytest.param(
            Seen(pods=(pod(waiting("ContainerCreating")),), events=(event("FailedMount", "no such claim"),)),
            "image",
            "ContainerCreating; no such claim",
            id="a-volume-may-come",
        ),
    ],
)
def test_what_may_still_become_something_is_waited_for(seen: Seen, phase: str, words: str) -> None:
    judged = verdict(seen)
    assert isinstance(judged, Waiting), judged
    assert judged.phase == phase
    assert words in judged.words


def test_an_engine_runs_when_its_process_was_started() -> None:
    mine = pod({"running": {}})
    assert verdict(Seen(service=service(), pods=(mine,))) == Running(mine)


@pytest.mark.parametrize(
    ("seen", "kind", "words"),
    [
        pytest.param(Seen(pods=(unscheduled(GPUS),)), Kind.UNSCHEDULABLE, "No node has enough free GPUs", id="no-gpus"),
        pytest.param(Seen(pods=(unscheduled(LABELS),)), Kind.UNSCHEDULABLE, "may run on no node", id="no-node-matches"),
        pytest.param(
            Seen(pods=(unscheduled(TAINTED),)), Kind.UNSCHEDULABLE, "may run on no node", id="the-others-are-tainted"
        ),
        pytest.param(
            Seen(pods=(pod(waiting("ErrImagePull", "manifest unknown")),)),
            Kind.IMAGE_MISSING,
            "engine:1: manifest unknown",
            id="no-image",
        ),
        pytest.param(
            Seen(
                pods=(pod(waiting("ImagePullBackOff", "Back-off pulling image")),),
                events=(event("Failed", 'Failed to pull image "engine:1": no such host'), event("Failed", "Error: x")),
            ),
            Kind.REGISTRY_UNREACHABLE,
            "no such host",
            id="the-registrys-words-are-in-an-event",
        ),
        pytest.param(
            Seen(pods=(pod(waiting("InvalidImageName", "invalid reference format")),)),
            Kind.IMAGE_MISSING,
            "invalid reference format",
            id="no-name-of-an-image",
        ),
        pytest.param(
            Seen(pods=(pod(waiting("CreateContainerConfigError", 'secret "x" not found')),)),
            Kind.LOAD_FAILED,
            'secret "x" not found',
            id="no-secret",
        ),
        pytest.param(Seen(pods=(pod(ended(1)),)), Kind.CRASH_LOOP, "exit code 1", id="ended"),
        pytest.param(
            Seen(pods=(pod({"running": {}}, lastState=ended(2)),)), Kind.CRASH_LOOP, "exit code 2", id="started-again"
        ),
        pytest.param(
            Seen(pods=(pod(waiting("CrashLoopBackOff"), lastState=ended(137, "OOMKilled")),)),
            Kind.CRASH_LOOP,
            "killed by the memory limit",
            id="crash-loop",
        ),
        pytest.param(
            Seen(pods=(pod(phase="Failed", reason="UnexpectedAdmissionError", message="Allocate failed"),)),
            Kind.NODE_FAILED,
            "UnexpectedAdmissionError: Allocate failed",
            id="refused-by-the-kubelet",
        ),
        pytest.param(
            Seen(service=service("InvalidSpec", reason="BaseModelNotFound", message="none")),
            Kind.MODEL_MISSING,
            "BaseModelNotFound: none",
            id="no-model",
        ),
        pytest.param(
            Seen(service=service("InvalidSpec", reason="RuntimeDisabled", message="off")),
            Kind.LOAD_FAILED,
            "RuntimeDisabled: off",
            id="no-runtime",
        ),
        pytest.param(
            Seen(service=service("BlockedByFailedLoad", reason="ModelLoadFailed"), pods=(pod({"running": {}}),)),
            Kind.LOAD_FAILED,
            "OME gave up on the model: ModelLoadFailed",
            id="given-up",
        ),
        pytest.param(
            Seen(pods=(pod(phase="Failed", reason="Odd", message="who knows"),)),
            Kind.LOAD_FAILED,
            "Odd: who knows",
            id="failed-for-a-reason-that-nobody-knows",
        ),
        pytest.param(
            Seen(
                deployment={
                    "status": {
                        "conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q"}]
                    }
                }
            ),
            Kind.UNSCHEDULABLE,
            "exceeded quota: q",
            id="quota",
        ),
        pytest.param(Seen(is_removed=True), Kind.CANCELLED, "deleted by somebody else", id="removed"),
    ],
)
def test_what_cannot_heal_is_told(seen: Seen, kind: Kind, words: str) -> None:
    judged = broken(verdict(seen))
    assert judged.kind == kind
    assert words in judged.message
    assert judged.hint


def test_the_gpus_of_the_configuration_are_meant() -> None:
    words = "0/1 nodes are available: 1 Insufficient amd.com/gpu."
    assert isinstance(verdict(Seen(pods=(unscheduled(words),))), Waiting)
    assert broken(verdict(Seen(pods=(unscheduled(words),)), gpu_resource="amd.com/gpu")).kind == Kind.UNSCHEDULABLE


def test_what_may_be_out_of_date_is_doubted() -> None:
    assert not broken(verdict(Seen(pods=(unscheduled(GPUS),)))).is_sure
    assert not broken(verdict(Seen(service=service("InvalidSpec")))).is_sure
    assert broken(verdict(Seen(pods=(pod(waiting("ErrImagePull", "manifest unknown")),)))).is_sure


def test_only_the_lack_of_gpus_has_the_cluster_asked_whose_they_are() -> None:
    assert broken(verdict(Seen(pods=(unscheduled(GPUS),)))).lacks_gpus
    assert not broken(verdict(Seen(pods=(unscheduled(LABELS),)))).lacks_gpus


def test_the_newest_pod_counts() -> None:
    older, newer = pod(ended(1), uid="1"), pod({"running": {}}, uid="2")
    assert engine_pod(Seen(pods=(newer, older))) == newer


@pytest.mark.parametrize(
    ("mine", "how"),
    [
        pytest.param(pod({"running": {}}), None, id="runs"),
        pytest.param(pod({"running": {}}, phase="Running"), None, id="runs-in-its-phase"),
        pytest.param(pod(ended(7)), "exit code 7", id="ended"),
        pytest.param(pod(ended(137, "OOMKilled")), "exit code 137 (killed by the memory limit)", id="out-of-memory"),
        pytest.param(pod({"running": {}}, lastState=ended(9)), "exit code 9", id="started-again"),
        pytest.param(pod(phase="Failed"), "its pod is Failed", id="failed-without-a-word"),
    ],
)
def test_how_an_engine_ended(mine: dict[str, Any], how: str | None) -> None:
    assert death(Seen(pods=(mine,)), UID) == how


@pytest.mark.parametrize(("ready", "how"), [(False, "OME gave up on the model: X: no"), (True, None)])
def test_a_load_that_ome_gave_up_is_a_death_while_it_is_not_ready(ready: bool, how: str | None) -> None:
    seen = Seen(
        service=service("BlockedByFailedLoad", reason="X", message="no"), pods=(pod({"running": {}}, ready=ready),)
    )
    assert death(seen, UID) == how


def test_what_is_said_of_an_engine_that_is_not_ready() -> None:
    unready = {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "unready: ome-container"}
    mine = pod({"running": {}}, conditions=[unready])
    probe = event("Unhealthy", "Startup probe failed: HTTP probe failed with statuscode: 503")
    seen = Seen(service=service(), pods=(mine,), events=(event("FailedScheduling", "0/1"), probe))
    assert condition(seen) == (
        "Startup probe failed: HTTP probe failed with statuscode: 503; "
        "pod Ready False ContainersNotReady: unready: ome-container; "
        "InferenceService EngineReady False Progressing: waits"
    )
    assert condition(Seen()) is None
