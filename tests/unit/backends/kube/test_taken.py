"""A pod that Kubernetes takes away: before the engine ran, while it runs, and how that reaches the record."""

from typing import Any

import pytest

from pipeline.backends.kube.rollout import Broken, Running, Seen, death, verdict
from pipeline.core.errors import BY_SURROUNDINGS
from pipeline.core.errors import FailureKind as Kind
from pipeline.engines.diagnose import server_death
from support.engine_pods import UID, pod

MEMORY = (
    "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi. Container ome-container was "
    "using 61Gi, request is 40Gi, has larger consumption of memory. "
)
NEIGHBOURS = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi. "
SHM = 'Usage of EmptyDir volume "dshm" exceeds the limit "8Gi". '
KILLED = {"terminated": {"exitCode": 137, "reason": "Error"}}
# What a kubelet writes into the status, the kind, and a word of the hint
BY_KUBELET = [
    ("Evicted", MEMORY, Kind.OOM_HOST, "backend.kubernetes.memory"),
    ("Evicted", NEIGHBOURS, Kind.NODE_FAILED, "other pods used it up"),
    ("Evicted", SHM, Kind.OOM_HOST, "shm_size_gib"),
    ("Evicted", 'Usage of EmptyDir volume "cache" exceeds the limit "30Gi". ', Kind.DISK_FULL, "Raise the limit"),
    (
        "Evicted",
        "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
        Kind.DISK_FULL,
        "Raise the limit",
    ),
    (
        "Evicted",
        'Container ome-container exceeded its local ephemeral storage limit "1Gi". ',
        Kind.DISK_FULL,
        "Raise the limit",
    ),
    (
        "Evicted",
        "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 9Gi. ",
        Kind.DISK_FULL,
        "Free space",
    ),
    ("Evicted", "The node was low on resource: inodes. ", Kind.DISK_FULL, "Free space"),
    ("Evicted", "The node was low on resource: pids. ", Kind.NODE_FAILED, "pid_max"),
    ("Evicted", "The node had condition: [DiskPressure]. ", Kind.DISK_FULL, "Free space"),
    ("Evicted", "The node had condition: [MemoryPressure]. ", Kind.NODE_FAILED, "node"),
    ("Preempting", "Preempted in order to admit critical pod", Kind.PREEMPTED, "higher priority"),
    ("Terminated", "Pod was terminated in response to imminent node shutdown.", Kind.NODE_FAILED, "shut down"),
    ("NodeShutdown", "Pod was rejected as the node is shutting down.", Kind.NODE_FAILED, "shut down"),
    ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline", Kind.TIME_LIMIT, "Seconds"),
    (
        "UnexpectedAdmissionError",
        "Pod was rejected: Allocate failed due to requested number of devices unavailable for nvidia.com/gpu.",
        Kind.GPU_BUSY,
        "another pod had the GPUs",
    ),
    (
        "UnexpectedAdmissionError",
        "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices nvidia.com/gpu",
        Kind.NO_GPU,
        "device plugin",
    ),
    ("OutOfnvidia.com/gpu", "Node didn't have enough resource: nvidia.com/gpu", Kind.GPU_BUSY, "Run the trial again"),
    ("OutOfcpu", "Node didn't have enough resource: cpu", Kind.NODE_FAILED, "Run the trial again"),
    ("OutOfephemeral-storage", "Node didn't have enough resource: ephemeral-storage", Kind.DISK_FULL, "Free space"),
    (
        "TopologyAffinityError",
        "Resources cannot be allocated with Topology locality",
        Kind.UNSCHEDULABLE,
        "what the message names",
    ),
]
# What is left as a DisruptionTarget condition of a pod that is deleted
BY_OTHERS = [
    ("PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod", Kind.PREEMPTED),
    ("EvictionByEvictionAPI", "Eviction API: evicting", Kind.PREEMPTED),
    ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint", Kind.NODE_FAILED),
    ("DeletionByPodGC", "PodGC: node no longer exists", Kind.NODE_FAILED),
    ("TerminationByKubelet", "The node was low on resource: pids. ", Kind.NODE_FAILED),
]
BY_EVENT = [
    ("Evicted", SHM, Kind.OOM_HOST),
    ("Preempted", "Preempted by pod 3f0 on node one", Kind.PREEMPTED),
    ("TaintManagerEviction", "Marking for deletion Pod space/st-x-engine-0", Kind.NODE_FAILED),
]


def leaving(reason: str, message: str, state: Any = None) -> dict[str, Any]:
    told = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}
    found = pod(state or {"running": {}}, conditions=[told])
    found["metadata"]["deletionTimestamp"] = "now"
    return found


def event(reason: str, message: str) -> dict[str, Any]:
    return {"type": "Warning", "reason": reason, "message": message, "involvedObject": {"uid": UID}}


def before(seen: Seen) -> Broken:
    judged = verdict(seen)
    assert isinstance(judged, Broken), judged
    return judged


@pytest.mark.parametrize(("reason", "message", "kind", "hint"), BY_KUBELET)
def test_a_kubelets_words_say_whose_fault_it_was_before_and_after_the_engine_ran(
    reason: str, message: str, kind: Kind, hint: str
) -> None:
    judged = before(Seen(pods=(pod(phase="Failed", reason=reason, message=message),)))
    assert (judged.kind, hint in judged.hint, reason in judged.message) == (kind, True, True), judged
    assert message.strip().rstrip(".") in judged.message
    ran = pod(KILLED, phase="Failed", reason=reason, message=message)
    assert before(Seen(pods=(ran,))).kind == kind
    how = death(Seen(pods=(ran,)), UID)
    assert how is not None
    assert f"{reason}: {message.strip().rstrip('.')}" in how
    found = server_death(how, "serving\n", oom_kills=0)
    assert (found.kind, hint in found.hint) == (kind, True), found


@pytest.mark.parametrize(("reason", "message", "kind"), BY_OTHERS)
def test_a_pod_that_is_being_deleted_says_who_wants_its_place(reason: str, message: str, kind: Kind) -> None:
    for mine in (leaving(reason, message), leaving(reason, message, KILLED)):
        how = death(Seen(pods=(mine,)), UID)
        assert how is not None
        assert server_death(how, "").kind == kind
        assert death(Seen(gone=(mine,)), UID) == how
    assert before(Seen(gone=(leaving(reason, message),), is_removed=True)).kind == kind


@pytest.mark.parametrize(("reason", "message", "kind"), BY_EVENT)
def test_an_event_says_it_before_the_status_does_and_when_the_pod_is_gone(
    reason: str, message: str, kind: Kind
) -> None:
    told = (event("Killing", "Stopping container"), event(reason, message), event("Unhealthy", "refused"))
    for seen in (Seen(pods=(pod(KILLED, phase="Running"),), events=told), Seen(events=told)):
        how = death(seen, UID)
        assert how is not None
        assert server_death(how, "").kind == kind
    assert death(Seen(pods=(pod({"running": {}}),), events=told), UID) is None


def test_an_eviction_that_did_not_come_is_no_death() -> None:
    withdrawn = leaving("EvictionByEvictionAPI", "Eviction API: evicting")
    del withdrawn["metadata"]["deletionTimestamp"]
    assert death(Seen(pods=(withdrawn,)), UID) is None
    assert verdict(Seen(pods=(withdrawn,))) == Running(withdrawn)
    cancelled = (event("TaintManagerEviction", "Cancelling deletion of Pod space/st-x-engine-0"),)
    assert death(Seen(pods=(pod(KILLED),), events=cancelled), UID) == "exit code 137"


def test_an_engine_that_ends_by_itself_keeps_its_exit_code() -> None:
    mine = pod({"terminated": {"exitCode": 7}}, phase="Failed")
    assert death(Seen(pods=(mine,)), UID) == "exit code 7"
    assert before(Seen(pods=(mine,))).kind == Kind.CRASH_LOOP


def test_a_pod_that_somebody_deleted_says_nothing_of_the_configuration() -> None:
    deleted = pod({"running": {}})
    deleted["metadata"]["deletionTimestamp"] = "now"
    for seen in (Seen(pods=(deleted,)), Seen(gone=(deleted,)), Seen(pods=(pod({"running": {}}, uid="2"),))):
        how = death(seen, UID)
        assert how == "Kubernetes ended its pod: somebody deleted it"
        assert server_death(how, "").kind == Kind.CANCELLED


def test_only_what_the_engine_used_up_is_its_configurations_fault() -> None:
    blamed = {
        message for _, message, kind, _ in BY_KUBELET if kind not in BY_SURROUNDINGS and kind != Kind.UNSCHEDULABLE
    }
    assert blamed == {MEMORY, SHM}
    assert {kind for *_, kind in BY_OTHERS} <= BY_SURROUNDINGS
