"""The only module that imports the kubernetes library: who we are to which cluster, and requests to it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from pipeline.core.errors import FailureKind, PreflightFailed
from pipeline.core.schema_backends import Cluster

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from websocket import WebSocket

IN_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ANSWER_S = 20.0  # for one question
PASSING = (429, 502, 503, 504)
FORWARDING = "v4.channel.k8s.io"


class ApiError(Exception):
    """The server refused. `code` is HTTP's, `reason` Kubernetes' word for it (NotFound, Forbidden, Invalid, ...)."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason

    @property
    def is_passing(self) -> bool:
        """Whether a server that starts, is busy, or is not behind its load balancer yet says so: it is asked again."""
        return self.code in PASSING


class Unreachable(Exception):
    """No answer: the server is down, or there is no way to it."""


@dataclass(frozen=True)
class Question:
    """One request."""

    method: str
    where: str
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    content: str = "application/json"
    patience_s: float | None = None  # between two pieces of the answer; None: the account's


@dataclass(frozen=True)
class Account:
    """A way to a cluster, and the namespace that is meant where none is named."""

    client: "ApiClient"
    namespace: str
    answer_s: float = ANSWER_S

    @property
    def host(self) -> str:
        """The server's URL."""
        return str(self.client.configuration.host)

    def send(self, question: Question) -> Any:
        """urllib3's response, not read yet, of any code. Raises Unreachable."""
        import urllib3.exceptions
        from kubernetes.client import ApiException

        call: Any = self.client.call_api
        patience = (self.answer_s, question.patience_s or self.answer_s)
        try:
            return call(*self._serialized(question), _request_timeout=patience).response
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:  # ApiException: of TLS
            raise Unreachable(str(error)) from error

    def open(self, question: Question) -> "WebSocket":
        """A websocket for FORWARDING. Raises Unreachable, or ApiError with the code only."""
        import websocket
        from kubernetes.stream import ws_client

        library: Any = ws_client  # it has no types
        _, url, headers, *_ = self._serialized(question)
        told = {**headers, "sec-websocket-protocol": FORWARDING}
        try:
            made = library.create_websocket(self.client.configuration, library.get_websocket_url(url), told)
        except websocket.WebSocketBadStatusException as error:
            raise ApiError(int(error.status_code or 0), "", str(error)) from error
        except (websocket.WebSocketException, OSError) as error:
            raise Unreachable(str(error)) from error
        return cast("WebSocket", made)

    def close(self) -> None:
        """Close idle connections."""
        library: Any = self.client
        library.close()

    def _serialized(self, question: Question) -> Any:
        return self.client.param_serialize(
            question.method,
            question.where,
            query_params=list(question.query.items()),
            body=question.body,
            auth_settings=["BearerToken"],
            header_params={"Accept": "application/json", "Content-Type": question.content},
        )


def connect(cluster: Cluster, *, answer_s: float = ANSWER_S) -> Account:
    """The cluster that the configuration means; inside of a pod its own, where no kubeconfig is given.

    Raises:
        PreflightFailed: there is no such kubeconfig or context.
    """
    from kubernetes import client, config

    settings = client.Configuration()
    library: Any = config  # it has no types
    try:
        if is_in_pod(cluster):
            library.load_incluster_config(client_configuration=settings)
            namespace = (IN_POD / "namespace").read_text("utf-8").strip()
        else:
            context = _context(library, cluster)
            library.load_kube_config(_kubeconfig(cluster), context=context["name"], client_configuration=settings)
            namespace = context["context"].get("namespace")
    except (config.ConfigException, OSError, yaml.YAMLError) as error:
        raise PreflightFailed(
            f"Cannot connect to a cluster: {error}",
            kind=FailureKind.BACKEND_DOWN,
            hint="Set backend.kubernetes.cluster.kubeconfig and .context, or KUBECONFIG; see `kubectl config view`.",
        ) from error
    settings.retries = False  # whoever asks knows how long to insist
    return Account(client.ApiClient(settings), cluster.namespace or namespace or "default", answer_s)


def resolved(cluster: Cluster) -> Cluster:
    """The same cluster and namespace for whoever asks later, in whatever environment. Raises as `connect`."""
    from kubernetes import config

    account = connect(cluster)
    account.close()
    if is_in_pod(cluster):
        return Cluster(namespace=account.namespace)
    context = str(_context(config, cluster)["name"])
    return Cluster(kubeconfig=Path(_kubeconfig(cluster)), context=context, namespace=account.namespace)


def is_in_pod(cluster: Cluster) -> bool:
    """Whether the cluster is the one that this process runs in."""
    is_told = cluster.kubeconfig or cluster.context or os.environ.get("KUBECONFIG")
    return not is_told and (IN_POD / "token").exists()


def _kubeconfig(cluster: Cluster) -> str:
    """One path, or several with colons between. Not the library's default: it has read KUBECONFIG at its import."""
    given = str(cluster.kubeconfig or os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    return os.pathsep.join(str(Path(one).expanduser().absolute()) for one in given.split(os.pathsep) if one)


def _context(config: Any, cluster: Cluster) -> Mapping[str, Any]:
    """The named context of the kubeconfig, else its current one."""
    contexts, active = config.list_kube_config_contexts(_kubeconfig(cluster))
    named = {str(one["name"]): one for one in contexts}
    if cluster.context and cluster.context not in named:
        known = ", ".join(named) or "none"
        raise config.ConfigException(f"there is no context {cluster.context}; available contexts: {known}")
    found: Mapping[str, Any] = named[cluster.context] if cluster.context else active
    return found
