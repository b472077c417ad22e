"""The API server asked by pipeline.backends.kube.client: who asks, refusals, silence, watching."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from parts.kube import Cluster as ControlPlane
from parts.kube_fixtures import KUBE_MARKS, Kube
from pipeline.backends.kube import library
from pipeline.backends.kube.client import Api, ApiError, Unreachable, connect, resolved
from pipeline.core.errors import FailureKind, PreflightFailed
from pipeline.core.schema_backends import Cluster

pytestmark = KUBE_MARKS


@pytest.fixture
def api(kube: Kube) -> Iterator[Api]:
    """The administrator's, in the namespace of the test."""
    with closing(connect(Cluster(namespace=kube.namespace))) as made:
        yield made


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"a": "b"}}, "data": data}


def test_creates_reads_changes_and_deletes(api: Api) -> None:
    assert api.create(config_map("dry"), dry_run=True)["metadata"]["name"] == "dry"
    assert api.get("ConfigMap", "dry") is None
    api.create(config_map("one", x="1"))
    api.patch("ConfigMap", "one", {"data": {"y": "2"}})
    assert [one["data"] for one in api.list("ConfigMap", labels="a=b")] == [{"x": "1", "y": "2"}]
    assert api.list("ConfigMap", fields="metadata.name=none", everywhere=True) == []
    api.delete("ConfigMap", "one", grace_s=0)
    api.delete("ConfigMap", "one")
    assert api.get("ConfigMap", "one") is None


def test_tells_refusals_apart(api: Api, kube: Kube) -> None:
    api.create(config_map("one"))
    with pytest.raises(ApiError) as again:
        api.create(config_map("one"))
    assert (again.value.code, again.value.reason) == (409, "AlreadyExists")
    with pytest.raises(ApiError, match="RFC 1123") as invalid:
        api.create(config_map("One"))
    assert (invalid.value.code, invalid.value.reason) == (422, "Invalid")
    with closing(connect(Cluster(kubeconfig=kube.add_user("nobody")))) as mine, pytest.raises(ApiError) as denied:
        mine.list("Pod")
    assert (denied.value.code, denied.value.reason) == (403, "Forbidden")
    assert "system:serviceaccount:" in str(denied.value)


def test_watches_from_a_snapshot_on(api: Api) -> None:
    api.create(config_map("before"))
    items, version = api.snapshot("ConfigMap", labels="a=b")
    assert [one["metadata"]["name"] for one in items] == ["before"]
    with closing(api.watch("ConfigMap", version=version, labels="a=b")) as seen:  # type: ignore[type-var]
        threading.Timer(0.2, api.create, [config_map("after")]).start()
        kind, found = next(seen)
        assert (kind, found["metadata"]["name"]) == ("ADDED", "after")
        api.delete("ConfigMap", "after")
        assert next(seen)[0] == "DELETED"


def test_tells_that_nobody_answers_and_goes_on_afterwards(api: Api, kube: Kube) -> None:
    _, version = api.snapshot("ConfigMap")
    seen = api.watch("ConfigMap", version=version)
    api.create(config_map("one"))
    assert next(seen)[0] == "ADDED"
    kube.cluster.stop_api_server()
    with pytest.raises(Unreachable):
        next(seen)
    with pytest.raises(Unreachable):
        api.list("ConfigMap")
    kube.cluster.start_api_server()
    assert api.list("ConfigMap", labels="a=b")


def test_an_expired_version_is_told(api: Api) -> None:
    with pytest.raises(ApiError):
        next(api.watch("ConfigMap", version="not-a-version"))


def test_takes_a_client_certificate(kube: Kube, tmp_path: Path) -> None:
    """It is known by the certificate; here it may do nothing."""
    with closing(connect(Cluster(kubeconfig=with_certificate(kube.cluster, tmp_path)))) as mine:
        assert mine.host == kube.cluster.url
        with pytest.raises(ApiError) as refused:
            mine.list("Pod", namespace=kube.namespace)
    assert refused.value.code in {401, 403}


def with_certificate(cluster: ControlPlane, folder: Path) -> Path:
    key, crt = folder / "me.key", folder / "me.crt"
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=me"]
    subprocess.run([*line, "-out", crt, "-keyout", key], check=True, capture_output=True)
    told = json.loads(cluster.kubeconfig_for("none"))
    told["users"][0]["user"] = {"client-certificate": str(crt), "client-key": str(key)}
    (folder / "kubeconfig").write_text(json.dumps(told))
    return folder / "kubeconfig"


def test_takes_the_account_of_the_pod_it_runs_in(kube: Kube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kubernetes.config import incluster_config

    for name, text in {
        "token": kube.api.token,
        "namespace": "of-the-pod\n",
        "ca.crt": kube.cluster.ca.read_text(),
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(kube.cluster.settings["apiserver"]))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(library, "IN_POD", tmp_path)
    with closing(connect(Cluster())) as mine:
        assert mine.namespace == "of-the-pod"
        assert mine.list("Namespace")
    assert resolved(Cluster()) == Cluster(namespace="of-the-pod")


def test_a_resolved_cluster_is_the_same_in_any_environment(kube: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolved(Cluster())
    assert found == Cluster(kubeconfig=kube.cluster.kubeconfig, context="tests", namespace="default")
    monkeypatch.setenv("KUBECONFIG", "/elsewhere")
    with closing(connect(found)) as mine:
        assert mine.list("Namespace")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param(Cluster(kubeconfig=Path("/no/such/file")), "No configuration found", id="no-file"),
        pytest.param(Cluster(context="other"), "there is no context other; available contexts: tests", id="no-context"),
    ],
)
def test_no_way_to_a_cluster_is_told(kube: Kube, given: Cluster, words: str) -> None:
    with pytest.raises(PreflightFailed, match=words) as refused:
        connect(given)
    assert refused.value.kind == FailureKind.BACKEND_DOWN
