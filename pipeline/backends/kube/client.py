"""The API server, asked for plain objects (dicts as in YAML)."""

import builtins
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.backends.kube import library
from pipeline.backends.kube.library import (
    ANSWER_S,
    IN_POD,
    Account,
    ApiError,
    Question,
    Unreachable,
    is_in_pod,
    resolved,
)
from pipeline.core.schema_backends import Cluster

if TYPE_CHECKING:
    from websocket import WebSocket

__all__ = [
    "ANSWER_S",
    "IN_POD",
    "KINDS",
    "Api",
    "ApiError",
    "Cluster",
    "Manifest",
    "Unreachable",
    "connect",
    "is_in_pod",
    "path",
    "resolved",
]

Manifest = Mapping[str, Any]
Object = dict[str, Any]
WATCH_S = 60  # then the server ends a watch, so that a connection that is dead without a word is noticed soon
QUIET_S = 3600.0  # that a followed log may be silent
# kind: the API's path, the plural, whether it lives in a namespace
KINDS: Mapping[str, tuple[str, str, bool]] = {
    "InferenceService": ("/apis/ome.io/v1beta1", "inferenceservices", True),
    "BaseModel": ("/apis/ome.io/v1beta1", "basemodels", True),
    "ClusterBaseModel": ("/apis/ome.io/v1beta1", "clusterbasemodels", False),
    "ServingRuntime": ("/apis/ome.io/v1beta1", "servingruntimes", True),
    "ClusterServingRuntime": ("/apis/ome.io/v1beta1", "clusterservingruntimes", False),
    "CustomResourceDefinition": ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions", False),
    "SelfSubjectAccessReview": ("/apis/authorization.k8s.io/v1", "selfsubjectaccessreviews", False),
    "Deployment": ("/apis/apps/v1", "deployments", True),
    "DaemonSet": ("/apis/apps/v1", "daemonsets", True),
    "ReplicaSet": ("/apis/apps/v1", "replicasets", True),
    "Job": ("/apis/batch/v1", "jobs", True),
    "Pod": ("/api/v1", "pods", True),
    "Service": ("/api/v1", "services", True),
    "Event": ("/api/v1", "events", True),
    "ConfigMap": ("/api/v1", "configmaps", True),
    "Secret": ("/api/v1", "secrets", True),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims", True),
    "ResourceQuota": ("/api/v1", "resourcequotas", True),
    "Node": ("/api/v1", "nodes", False),
    "Namespace": ("/api/v1", "namespaces", False),
}


class Api:
    """One cluster. `namespace` is where trials live; questions take another one by name."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.namespace = account.namespace

    @property
    def host(self) -> str:
        """The server's URL."""
        return self._account.host

    def close(self) -> None:
        """Close idle connections."""
        self._account.close()

    def get(self, kind: str, name: str, *, namespace: str | None = None) -> Object | None:
        """The object, or None where there is none.

        Raises:
            ApiError: the server refuses.
            Unreachable: it does not answer.
        """
        try:
            return self.ask("GET", path(kind, name, namespace or self.namespace))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def list(
        self, kind: str, *, labels: str = "", fields: str = "", namespace: str | None = None, everywhere: bool = False
    ) -> list[Object]:
        """The objects that the selectors match; `everywhere`: in all namespaces. Raises as `get`."""
        where = path(kind, "", None if everywhere else namespace or self.namespace)
        items: builtins.list[Object] = self._read(where, _selectors(labels, fields))["items"]
        return items

    def snapshot(self, kind: str, *, labels: str = "", fields: str = "") -> tuple[builtins.list[Object], str]:
        """The objects in the trials' namespace, and the resourceVersion from which to `watch`. Raises as `get`."""
        found = self._read(path(kind, "", self.namespace), _selectors(labels, fields))
        return found["items"], found["metadata"]["resourceVersion"]

    def create(self, manifest: Manifest, *, dry_run: bool = False) -> Object:
        """Create it; in the trials' namespace where it names none. Raises as `get`; ApiError 409 where it exists."""
        meta = manifest["metadata"]
        where = path(str(manifest["kind"]), "", str(meta.get("namespace") or self.namespace))
        query = {"dryRun": "All"} if dry_run else {}
        return _plain(self._send(Question("POST", where, manifest, query)))

    def patch(self, kind: str, name: str, change: Manifest, *, namespace: str | None = None) -> Object:
        """Merge `change` into it (RFC 7386). Raises as `get`."""
        where = path(kind, name, namespace or self.namespace)
        return self.ask("PATCH", where, change, content="application/merge-patch+json")

    def delete(
        self,
        kind: str,
        name: str,
        *,
        namespace: str | None = None,
        grace_s: int | None = None,
        policy: str = "Background",
    ) -> None:
        """Have it deleted, and what it owns after `policy`; nothing where there is none. Raises as `get`."""
        options = {"propagationPolicy": policy, **({} if grace_s is None else {"gracePeriodSeconds": grace_s})}
        try:
            self.ask("DELETE", path(kind, name, namespace or self.namespace), options)
        except ApiError as error:
            if error.code != 404:
                raise

    def watch(self, kind: str, *, version: str, labels: str = "", fields: str = "") -> Iterator[tuple[str, Object]]:
        """(ADDED, MODIFIED or DELETED; object) of the trials' namespace after the resourceVersion `version`.

        Ends after WATCH_S: take a new snapshot then.

        Raises:
            ApiError: 410 where `version` is too old: take a new snapshot; else as `get`.
            Unreachable: the connection broke.
        """
        more = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(WATCH_S)}
        question = Question(
            "GET",
            path(kind, "", self.namespace),
            query={**more, **_selectors(labels, fields)},
            patience_s=WATCH_S + ANSWER_S,
        )
        for line in _lines(self._pieces(question)):
            event = json.loads(line)
            if event["type"] == "ERROR":
                status = event["object"]
                raise ApiError(int(status.get("code") or 0), str(status.get("reason")), str(status.get("message")))
            yield event["type"], event["object"]

    def log(
        self, pod: str, *, container: str, lines: int = 50, previous: bool = False, namespace: str | None = None
    ) -> str:
        """The last lines of a container; empty where there are none yet."""
        where = f"{path('Pod', pod, namespace or self.namespace)}/log"
        query = {"container": container, "tailLines": str(lines), "previous": str(previous).lower()}
        try:
            return _read_out(self._send(Question("GET", where, query=query))).decode(errors="replace")
        except ApiError:
            return ""

    def follow(self, pod: str, *, container: str) -> Iterator[bytes]:
        """The container's log from its beginning, as it is written, until it ends. Raises as `get`."""
        query = {"container": container, "follow": "true"}
        question = Question("GET", f"{path('Pod', pod, self.namespace)}/log", query=query, patience_s=QUIET_S)
        return self._pieces(question)

    def forward(self, pod: str, port: int) -> "WebSocket":
        """A new connection to the pod's port, in frames of v4.channel.k8s.io: channel 0 is data, 1 an error.

        Source: pkg/kubelet/cri/streaming/portforward/websocket.go of Kubernetes.

        Raises:
            ApiError: the server refuses, 404 where there is no such pod.
            Unreachable: it does not answer.
        """
        where = f"{path('Pod', pod, self.namespace)}/portforward"
        return self._account.open(Question("GET", where, query={"ports": str(port)}))

    def ask(
        self, method: str, where: str, body: Manifest | None = None, *, content: str = "application/json", **query: str
    ) -> Object:
        """Any question; its JSON answer. Raises as `get`."""
        return _plain(self._send(Question(method, where, body, query, content)))

    def _read(self, where: str, query: Mapping[str, str]) -> Object:
        return _plain(self._send(Question("GET", where, query=query)))

    def _pieces(self, question: Question) -> Iterator[bytes]:
        """The answer as it comes."""
        import urllib3.exceptions

        answer = self._send(question)
        try:
            yield from answer.stream(decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(str(error)) from error
        finally:
            answer.close()

    def _send(self, question: Question) -> Any:
        """The library's own response, not read yet."""
        answer = self._account.send(question)
        if answer.status >= 400:
            raise _refusal(answer)
        return answer


def connect(cluster: Cluster, *, answer_s: float = ANSWER_S) -> Api:
    """The configured cluster; inside a pod without a kubeconfig, the pod's own cluster.

    Raises:
        PreflightFailed: there is no such kubeconfig or context.
    """
    return Api(library.connect(cluster, answer_s=answer_s))


def path(kind: str, name: str, namespace: str | None) -> str:
    """The URL's path of an object, or of all where the name is empty."""
    prefix, plural, is_namespaced = KINDS[kind]
    place = f"/namespaces/{namespace}" if is_namespaced and namespace else ""
    return f"{prefix}{place}/{plural}{f'/{name}' if name else ''}"


def _selectors(labels: str, fields: str) -> dict[str, str]:
    return {name: text for name, text in (("labelSelector", labels), ("fieldSelector", fields)) if text}


def _read_out(answer: Any) -> bytes:
    """Raises Unreachable where it breaks off."""
    import urllib3.exceptions

    try:
        data: bytes = answer.data
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Unreachable(str(error)) from error
    return data


def _plain(answer: Any) -> Object:
    told: Object = json.loads(_read_out(answer))
    return told


def _refusal(answer: Any) -> ApiError:
    data = _read_out(answer)
    try:
        status = json.loads(data)
        return ApiError(answer.status, str(status.get("reason", "")), str(status.get("message", "")))
    except (ValueError, AttributeError):
        return ApiError(answer.status, "", data.decode(errors="replace")[:500])


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from filter(None, whole)
