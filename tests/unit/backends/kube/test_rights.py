"""templates/ome/rbac.yaml gives what preflight asks for, and nothing else."""

from pipeline.backends.kube.rights import RULES
from support.rights import documents, granted


def test_the_role_is_what_is_asked_for() -> None:
    asked = {(rule.group, rule.resource, verb, rule.place) for rule in RULES for verb in rule.verbs}
    assert granted() == asked


def test_every_role_is_bound_to_the_account() -> None:
    found = documents()
    (account,) = [one["metadata"] for one in found if one["kind"] == "ServiceAccount"]
    roles = {(one["kind"], one["metadata"].get("namespace")) for one in found if one["kind"].endswith("Role")}
    bound = {
        (one["roleRef"]["kind"], one["metadata"].get("namespace"))
        for one in found
        if one["kind"].endswith("Binding") and one["subjects"] == [{"kind": "ServiceAccount", **account}]
    }
    assert bound == roles


def test_the_rights_of_two_namespaces_are_beside_each_other() -> None:
    """Only the roles, which are the same, have the same names."""

    def known(namespace: str) -> dict[tuple[str, str, str | None], object]:
        found = documents(namespace)
        return {(one["kind"], one["metadata"]["name"], one["metadata"].get("namespace")): one for one in found}

    first, second = known("default"), known("trials")
    assert {key: first[key] for key in first.keys() & second} == {key: second[key] for key in first.keys() & second}
    assert first.keys() & second == {("ClusterRole", "servetune", None), ("Role", "servetune", "ome")}
