"""The rights of templates/ome/rbac.yaml, as manifests for add_user and as plain triples."""

from typing import Any

import yaml

from pipeline.core.places import TEMPLATES

FILE = TEMPLATES / "ome" / "rbac.yaml"
PLACES = {"default": "namespace", "ome": "ome", None: "cluster"}
Right = tuple[str, str, str, str]  # group, resource, verb; namespace, ome or cluster


def roles() -> list[Any]:
    """The Role of the trials' namespace without its namespace, and the ClusterRole."""
    found = [one for one in documents() if one["kind"] in {"Role", "ClusterRole"}]
    ours = [one for one in found if one["metadata"].get("namespace") != "ome"]
    return [{**one, "metadata": {"name": one["metadata"]["name"]}} for one in ours]


def ome_role() -> Any:
    """The Role of OME's namespace: preflight says more with it."""
    (found,) = [one for one in documents() if one["kind"] == "Role" and one["metadata"]["namespace"] == "ome"]
    return found


def granted() -> set[Right]:
    """Each single right."""
    return {
        (group, resource, verb, PLACES[one["metadata"].get("namespace")])
        for one in documents()
        for rule in one.get("rules", [])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def documents(namespace: str = "default") -> list[Any]:
    """The file's, for the trials' namespace: as the sed of docs/kubernetes.md makes them."""
    return list(yaml.safe_load_all(FILE.read_text().replace("default", namespace)))
