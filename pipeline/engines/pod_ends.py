"""Whose fault it is that Kubernetes ended an engine's pod, by what it says of it. Data, and the search for it.

Only what the engine itself used up is blamed on its configuration: its own memory or /dev/shm. All else a trial with
other knobs would have met, too. The rows are ordered: a pod's own limit comes before what a node was short of.
"""

import re

from pipeline.core.errors import FailureKind as Kind
from pipeline.engines.death_hints import ANY, Pattern

POD_ENDED = "Kubernetes ended its pod: "  # how an engine ended, before Kubernetes' own words
_NODE = "kubectl describe node tells its state and events"
_HELPERS = "Kubernetes' pkg/kubelet/eviction/helpers.go"
_PREDICATE = "Kubernetes' pkg/kubelet/lifecycle/predicate.go"

PATTERNS: tuple[Pattern, ...] = (
    # What the engine used up.
    Pattern(
        ANY,
        r'Usage of EmptyDir volume "dshm"',
        Kind.OOM_HOST,
        "Raise backend.kubernetes.shm_size_gib: the engine filled /dev/shm, which is the pod's volume dshm.",
        f"{_HELPERS}, emptyDirMessageFmt",
    ),
    Pattern(
        ANY,
        r"resource: memory\b.*(Container ome-container|Pod \S+) was using",
        Kind.OOM_HOST,
        "Set backend.kubernetes.memory to more than the engine was using (the message has it), so that it gets a node "
        "with as much, or make the engine smaller: it used more than it had requested when its node ran out of memory.",
        f"{_HELPERS}, nodeLowMessageFmt with containerMessageFmt",
    ),
    # What was short around it.
    Pattern(
        ANY,
        r"Usage of EmptyDir volume|local ephemeral storage limit|[Ee]phemeral local storage usage exceeds",
        Kind.DISK_FULL,
        "Raise the limit that the message names (the ClusterServingRuntime's, or of a LimitRange in the namespace), or "
        "have caches and downloads on a volume of their own: the pod wrote more to its node's disk than it may.",
        f"{_HELPERS}, podEphemeralStorageMessageFmt, containerEphemeralStorageMessageFmt",
    ),
    Pattern(
        ANY,
        r"resource: (ephemeral-storage|inodes)|DiskPressure|^OutOfephemeral-storage",
        Kind.DISK_FULL,
        f"Free space on the node's disk: it held too much when the pod was there. {_NODE}.",
        f"{_HELPERS}, nodeLowMessageFmt, nodeConditionMessageFmt; {_PREDICATE}",
    ),
    Pattern(
        ANY,
        r"resource: memory|MemoryPressure",
        Kind.NODE_FAILED,
        "Run the trial again when the node has memory: other pods used it up, this one no more than it had requested. "
        f"{_NODE}.",
        _HELPERS,
    ),
    Pattern(
        ANY,
        r"resource: pids|PIDPressure",
        Kind.NODE_FAILED,
        "Look on the node for what runs so many processes and threads, and raise kernel.pid_max or the kubelet's "
        f"podPidsLimit: it had no process ids left. {_NODE}.",
        _HELPERS,
    ),
    # Who took the place, or the node.
    Pattern(
        ANY,
        r"^(PreemptionByScheduler|Preempted|Preempting)\b",
        Kind.PREEMPTED,
        "Run the trial again when the cluster has room: a pod of higher priority took its place. "
        "kubectl get priorityclasses shows who goes first.",
        "Kubernetes' pkg/scheduler/framework/preemption, pkg/kubelet/preemption",
    ),
    Pattern(
        ANY,
        r"^EvictionByEvictionAPI\b",
        Kind.PREEMPTED,
        "Run the trial again: somebody drained the node (kubectl drain), or an autoscaler or descheduler wanted it "
        f"empty. {_NODE}.",
        "Kubernetes' pkg/registry/core/pod/storage/eviction.go",
    ),
    Pattern(
        ANY,
        r"imminent node shutdown|^NodeShutdown\b|node is shutting down",
        Kind.NODE_FAILED,
        "Run the trial again on another node: this one was shut down, for maintenance or as a spot instance that was "
        "taken back.",
        "Kubernetes' pkg/kubelet/nodeshutdown",
    ),
    Pattern(
        ANY,
        r"^(DeletionByTaintManager|TaintManagerEviction|DeletionByPodGC|NodeLost)\b",
        Kind.NODE_FAILED,
        f"Run the trial again on another node: this one is gone, does not answer, or got a taint NoExecute. {_NODE}.",
        "Kubernetes' pkg/controller/tainteviction, pkg/controller/podgc, pkg/util/node",
    ),
    Pattern(
        ANY,
        r"^DeadlineExceeded\b",
        Kind.TIME_LIMIT,
        "Raise the activeDeadlineSeconds that somebody gave the pod: the cluster ended it after that time.",
        "Kubernetes' pkg/kubelet/active_deadline.go",
    ),
    # Refused by the kubelet of the node that the scheduler had chosen.
    Pattern(
        ANY,
        r"unhealthy devices|no longer healthy|unregistered device|no healthy devices",
        Kind.NO_GPU,
        f"Look at the node's GPUs and its device plugin: they are not healthy. {_NODE}.",
        "Kubernetes' pkg/kubelet/cm/devicemanager/manager.go",
    ),
    Pattern(
        ANY,
        r"number of devices unavailable|^OutOf\S+/",
        Kind.GPU_BUSY,
        "Run the trial again: another pod had the GPUs before it, which the scheduler did not know, or some are not "
        f"healthy. {_NODE}.",
        f"Kubernetes' pkg/kubelet/cm/devicemanager/manager.go; {_PREDICATE}",
    ),
    Pattern(
        ANY,
        r"^TopologyAffinityError\b|^NodeAffinity\b|^NodeSelector\b",
        Kind.UNSCHEDULABLE,
        "Use fewer GPUs, or change what the message names: the node's kubelet does not take the pod as it is.",
        f"Kubernetes' pkg/kubelet/cm/topologymanager; {_PREDICATE}",
    ),
    Pattern(
        ANY,
        r"^(UnexpectedAdmissionError|OutOf\w+|InvalidNodeInfo|TerminationByKubelet|Evicted)\b",
        Kind.NODE_FAILED,
        f"Run the trial again: the node's kubelet did not take the pod, or ended it. {_NODE}.",
        _PREDICATE,
    ),
    Pattern(
        ANY,
        r"^somebody deleted it$",
        Kind.CANCELLED,
        "Find out who deleted it, or raise backend.kubernetes.lifetime_s: after that the cluster removes the trial.",
        "pipeline.backends.kube.taken",
    ),
)


def pattern(words: str) -> Pattern | None:
    """What Kubernetes' words mean; None where they are not known."""
    return next((one for one in PATTERNS if re.search(one.regex, words)), None)


def of(how: str) -> Pattern | None:
    """What the end of an engine means; None where it did not end with its pod."""
    return pattern(how.removeprefix(POD_ENDED)) if how.startswith(POD_ENDED) else None
