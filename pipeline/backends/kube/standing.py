"""Whether a base model is on a node that can run the trial. Pure: the model and the nodes as plain objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.backends.kube import capacity
from pipeline.backends.kube.capacity import Want

Object = Mapping[str, Any]
LONGEST = 32  # names of models that stand in labels as they are. Source: OME, pkg/constants


@dataclass(frozen=True)
class Standing:
    """Whether the trial can use a model now, and why not."""

    word: Literal["ready", "coming", "elsewhere", "failed"]
    told: str


def standing(model: Object, nodes: Sequence[Object], want: Want) -> Standing:
    """Whether the trial can use the model now. One node that has it and can run the trial is enough."""
    status, name = model.get("status") or {}, model["metadata"]["name"]
    state = status.get("state") or "not yet processed by OME"
    if str(model["spec"]["storage"].get("storageUri")).startswith("pvc://"):  # on no node, and no node is named
        words: dict[str, Literal["ready", "failed"]] = {"Ready": "ready", "Failed": "failed"}
        return Standing(words.get(state, "coming"), f"{name} is {state}")
    fit = {str(node["metadata"]["name"]) for node in capacity.usable(nodes, want)}
    ready, failed = set(status.get("nodesReady") or []), set(status.get("nodesFailed") or [])
    if ready & fit:
        return Standing("ready", f"{name} is Ready on {', '.join(sorted(ready & fit))}")
    if state == "Failed" or (fit and fit <= failed):
        return Standing("failed", f"{name} is Failed on {', '.join(sorted(failed)) or 'every node'}")
    if state != "Ready" or any(_label(node, name) == "Updating" for node in nodes if node["metadata"]["name"] in fit):
        return Standing("coming", f"{name} is {state}, not yet ready on a node that can run the trial")
    return Standing("elsewhere", f"{name} is Ready only on nodes that cannot run the trial: {_why(ready, nodes, want)}")


def _label(node: Object, name: str) -> str | None:
    labels = node["metadata"].get("labels") or {}
    return labels.get(f"models.ome.io/clusterbasemodel.{name}") if len(name) <= LONGEST else None


def _why(ready: set[str], nodes: Sequence[Object], want: Want) -> str:
    known = {str(node["metadata"]["name"]): node for node in nodes}
    told = [
        f"{name} {capacity.obstacle(known[name], want) if name in known else 'is not in the cluster'}"
        for name in sorted(ready)
    ]
    return "; ".join(told) or "on no node"
