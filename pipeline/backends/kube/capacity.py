"""Whether a cluster's nodes could run a trial, and whether they can now. Pure: nodes and pods as plain objects."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pipeline.backends.kube import manifests
from pipeline.core.errors import FailureKind, PreflightFailed

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.core.schema_backends import Kubernetes

Object = Mapping[str, Any]
PRODUCT = "nvidia.com/gpu.product"  # a label by NVIDIA's GPU feature discovery
FINISHED = ("Succeeded", "Failed")
UNFINISHED = ",".join(f"status.phase!={phase}" for phase in FINISHED)  # as a field selector
SERVICE = "ome.io/inferenceservice"  # OME's label of pods: the InferenceService's name
MOST = 5  # names in a message
# As the API reference of Kubernetes defines a Quantity
UNITS = {"m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18} | {
    f"{letter}i": 1024.0 ** (power + 1) for power, letter in enumerate("KMGTPE")
}


@dataclass(frozen=True)
class Want:
    """What the trial's pod asks of a node."""

    resource: str  # e.g. nvidia.com/gpu
    gpus: int
    amounts: Mapping[str, str] = field(default_factory=dict)  # cpu and memory, where they are configured
    selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Object] = ()
    affinity: Object | None = None

    @property
    def asked(self) -> dict[str, float]:
        """All amounts, as numbers."""
        gpus = {self.resource: float(self.gpus)} if self.gpus else {}
        return {**gpus, **{name: amount(text) for name, text in self.amounts.items()}}


@dataclass(frozen=True)
class Taken:
    """What a pod that has not finished holds on its node."""

    node: str  # empty: none yet
    pod: str
    gpus: float
    trial: str = ""  # the InferenceService's name; empty: no trial's


@dataclass(frozen=True)
class Lack:
    """Why no node has room for the trial at the moment."""

    by: Literal["trials", "others", "nobody"]  # trials: it has when they have ended; nobody: no node ever has
    words: str


def want_of(settings: "Kubernetes", gpus: int) -> Want:
    """What a trial with so many GPUs asks."""
    amounts = {name: text for name, text in (("cpu", settings.cpu), ("memory", settings.memory)) if text}
    return Want(settings.gpu_resource, gpus, amounts, settings.node_selector, settings.tolerations, settings.affinity)


def amount(text: object) -> float:
    """A quantity of Kubernetes as a number: `8`, `500m`, `200Gi`. 0 where it is none."""
    words = str(text)
    number = words.rstrip("".join(set("".join(UNITS))))
    try:
        return float(number) * UNITS[words[len(number) :]]
    except (ValueError, KeyError):
        return 0.0


def obstacle(node: Object, want: Want) -> str | None:
    """Why the pod can never be on this node, whatever else runs there; None: it can."""
    return next(_obstacles(node, want), None)


def usable(nodes: Sequence[Object], want: Want) -> list[Object]:
    """The nodes that could run the trial, were they empty."""
    return [node for node in nodes if obstacle(node, want) is None]


def holders(pods: Sequence[Object], resource: str) -> list[Taken]:
    """Which pods hold how many of the resource, and where."""
    return [one for one in _takers(pods, resource) if one.node]


def trial_of(pod: Object) -> str:
    """The InferenceService's name where the pod is a trial's, of whatever sweep; else empty."""
    labels = pod["metadata"].get("labels") or {}
    label, service = labels.get(manifests.LABEL), labels.get(SERVICE)
    return str(service) if label and service == manifests.name(label) else ""


def lack(nodes: Sequence[Object], pods: Sequence[Object], want: Want, *, own: str = "") -> Lack | None:
    """Whose the GPUs are that the trial lacks; None: a node has room.

    `own` is the trial's name once it has a pod. Before, what other trials were made for is theirs although they have
    no node yet; afterwards they stand in the scheduler's queue as it does.
    """
    fit = usable(nodes, want)
    if not fit:
        return Lack("nobody", str(_never(nodes, want)))
    takers = [one for one in _takers(pods, want.resource) if not own or one.trial != own]
    taken = [one for one in takers if one.node]
    free = {_name(node): _has(node, want.resource) - _held(taken, node) for node in fit}
    claims = [] if own else _claims(takers, free)
    return None if max(free.values()) >= want.gpus else _lack(fit, [*taken, *claims], want)


def requested(pod: Object, resource: str) -> float:
    """The pod's request as the scheduler counts it: the sum of the containers, or the largest init container."""
    spec = pod["spec"]
    mains = sum(_request(one, resource) for one in spec.get("containers", []))
    return max([mains, *(_request(one, resource) for one in spec.get("initContainers") or [])])


def survey(nodes: Sequence[Object], pods: Sequence[Object] | None, want: Want) -> str:
    """Which nodes can run the trial, and what of them is free; `pods` None: nobody may tell.

    Raises:
        PreflightFailed: no node ever can.
    """
    fit = usable(nodes, want)
    if not fit:
        raise _never(nodes, want)
    if not want.gpus:
        return f"{len(fit)} of {len(nodes)} nodes"
    told = f"{want.gpus} {want.resource} on {_names(fit)}{_products(fit)}"
    if pods is None:
        return f"{told}; free GPUs unknown: no right to list the pods of other namespaces"
    taken = holders(pods, want.resource)
    free = {_name(node): _has(node, want.resource) - _held(taken, node) for node in fit}
    if max(free.values()) >= want.gpus:
        return f"{told}; free: {', '.join(f'{count:g} on {name}' for name, count in free.items())}"
    return f"{told}, but in use at the moment: the trial would wait for {_culprits(taken, fit)}"


def _lack(fit: Sequence[Object], taken: Sequence[Taken], want: Want) -> Lack:
    others = [one for one in taken if not one.trial]
    emptied = [node for node in fit if _has(node, want.resource) - _held(others, node) >= want.gpus]
    if not emptied:
        return Lack("others", f"{want.gpus} {want.resource} are in use by {_culprits(taken, fit)}")
    return Lack("trials", f"waits for {want.gpus} {want.resource}: {_trials(taken, emptied)}")


def _takers(pods: Sequence[Object], resource: str) -> list[Taken]:
    """Whoever has some of the resource, or wants it and has no node yet."""
    there = [pod for pod in pods if pod.get("status", {}).get("phase") not in FINISHED]
    taken = [
        Taken(str(pod["spec"].get("nodeName") or ""), _full_name(pod), requested(pod, resource), trial_of(pod))
        for pod in there
        if pod["spec"].get("nodeName") or "deletionTimestamp" not in pod["metadata"]
    ]
    return [one for one in taken if one.gpus]


def _claims(takers: Sequence[Taken], free: dict[str, float]) -> list[Taken]:
    """The trials that will be given a node at any moment, and take from `free`: where most is, as nobody knows."""
    claims = []
    for one in takers:
        node = max(free, key=lambda name: free[name])
        if one.trial and not one.node and free[node] >= one.gpus:
            free[node] -= one.gpus
            claims.append(one)
    return claims


def _trials(taken: Sequence[Taken], nodes: Sequence[Object]) -> str:
    names = {_name(node) for node in nodes}
    trials = [one for one in taken if one.trial]
    held = [f"{one.trial} on {one.node} has {one.gpus:g}" for one in trials if one.node in names]
    coming = [f"{one.trial} is about to take {one.gpus:g}" for one in trials if not one.node]
    return _some([*held, *coming])


def _obstacles(node: Object, want: Want) -> Iterator[str]:
    """What keeps the pod off the node, in the order to fix it; amounts last: `only too small` means the rest fits."""
    ready: Object = next((one for one in node.get("status", {}).get("conditions", []) if one["type"] == "Ready"), {})
    labels = node["metadata"].get("labels") or {}
    if ready.get("status") != "True":
        yield f"is not ready ({ready.get('message') or ready.get('reason') or 'no reason given'})"
    if node["spec"].get("unschedulable"):
        yield "is cordoned"
    yield from (f"lacks the label {key}={text}" for key, text in want.selector.items() if labels.get(key) != text)
    if not _has_affinity(node, want.affinity):
        yield "does not match backend.kubernetes.affinity"
    for taint in node["spec"].get("taints") or []:
        if taint["effect"] != "PreferNoSchedule" and not any(_tolerates(one, taint) for one in want.tolerations):
            yield f"has the taint {taint['key']}={taint.get('value', '')}:{taint['effect']}"
    for name, asked in want.asked.items():
        if (has := _has(node, name)) < asked:
            yield f"has {has:g} {name}"


def _never(nodes: Sequence[Object], want: Want) -> PreflightFailed:
    """Told apart: no GPUs at all, too few on every node, nodes that are enough but closed."""
    most = max((_has(node, want.resource) for node in nodes), default=0)
    if want.gpus and not most:
        return PreflightFailed(
            f"The trial needs {want.gpus} {want.resource}; none of the cluster's {len(nodes)} nodes has any.",
            kind=FailureKind.NO_GPU,
            hint="kubectl get nodes -o custom-columns='NAME:.metadata.name,GPU:.status.allocatable.nvidia\\.com/gpu' "
            "shows the GPUs that nodes offer. If a node does not offer its GPUs, install NVIDIA's device plugin: "
            "helm install gpu-operator nvidia/gpu-operator -n gpu-operator --create-namespace",
        )
    if most < want.gpus:
        return PreflightFailed(
            f"The trial needs {want.gpus} {want.resource} on one node; the largest node has {most:g}.",
            kind=FailureKind.NO_GPU,
            hint=f"Use fewer GPUs (tp_size={most:g}), or add a node: kubectl describe nodes | grep {want.resource}",
        )
    large = [node for node in nodes if _has(node, want.resource) >= want.gpus]
    reasons = "; ".join(f"{_name(node)} {obstacle(node, want)}" for node in large[:MOST])
    return PreflightFailed(
        f"No node can ever run the trial: {reasons or 'the cluster has no nodes'}.",
        kind=FailureKind.UNSCHEDULABLE,
        hint=f"Uncordon or label a node, or change backend.kubernetes.node_selector, .tolerations, .affinity, .cpu or "
        f".memory to match one: kubectl describe node {_name(large[0]) if large else ''}".strip(),
    )


def _has_affinity(node: Object, affinity: Object | None) -> bool:
    """The required terms on labels: one of them must hold. Preferences keep nothing away."""
    told = ((affinity or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = told.get("nodeSelectorTerms") or []
    labels = node["metadata"].get("labels") or {}
    return not terms or any(all(_holds(one, labels) for one in term.get("matchExpressions") or []) for term in terms)


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    """Source: kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node, operators."""
    found, values = labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return found in values
        case "NotIn":
            return found not in values
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
        case "Gt" | "Lt" as operator if found is not None:
            return amount(found) > amount(values[0]) if operator == "Gt" else amount(found) < amount(values[0])
    return False


def _tolerates(toleration: Object, taint: Object) -> bool:
    """Source: kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration."""
    is_effect = toleration.get("effect") in {None, "", taint["effect"]}
    is_any = toleration.get("operator") == "Exists"
    is_key = toleration.get("key") == taint["key"] or (is_any and not toleration.get("key"))
    return is_effect and is_key and (is_any or toleration.get("value", "") == taint.get("value", ""))


def _request(container: Object, resource: str) -> float:
    amounts = container.get("resources") or {}
    found = (amounts.get("requests") or {}).get(resource) or (amounts.get("limits") or {}).get(resource)
    return amount(found or 0)


def _has(node: Object, resource: str) -> float:
    return amount((node.get("status", {}).get("allocatable") or {}).get(resource, 0))


def _held(taken: Sequence[Taken], node: Object) -> float:
    return sum(one.gpus for one in taken if one.node == _name(node))


def _culprits(taken: Sequence[Taken], fit: Sequence[Object]) -> str:
    names = {_name(node) for node in fit}
    held = [f"{one.pod} ({one.gpus:g} on {one.node})" for one in taken if one.node in names]
    return _some(held)


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:MOST]) + (f" and {len(words) - MOST} more" if len(words) > MOST else "")


def _names(nodes: Sequence[Object]) -> str:
    return _some([_name(node) for node in nodes])


def _products(nodes: Sequence[Object]) -> str:
    found = {(node["metadata"].get("labels") or {}).get(PRODUCT) for node in nodes} - {None}
    return f" ({', '.join(sorted(map(str, found)))})" if found else ""


def _name(node: Object) -> str:
    return str(node["metadata"]["name"])


def _full_name(pod: Object) -> str:
    return f"{pod['metadata'].get('namespace')}/{pod['metadata']['name']}"
