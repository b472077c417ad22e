"""How the engine is reached: inside its cluster by its Service, else through a port-forward, or at a given URL."""

import json
import os
import select
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.backends.kube import creation, manifests
from pipeline.backends.kube.client import Api, is_in_pod
from pipeline.backends.lease import Lease
from pipeline.core.errors import DeployFailed, FailureKind
from pipeline.core.files import RunDir
from pipeline.core.values import plain
from pipeline.machine import process

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.core.plan import Plan
    from pipeline.core.schema_backends import Kubernetes

START_S = 30.0  # Python and the library, on a busy machine
TICK_S = 0.2  # so long a signal may wait for Python to see it
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Way:
    """A URL of the engine; `forwarder` is the process behind it, where there is one."""

    how: str
    url: str
    port: int
    forwarder: subprocess.Popen[bytes] | None = None

    @property
    def is_open(self) -> bool:
        """Whether our end of it is there."""
        return self.forwarder is None or self.forwarder.poll() is None

    def close(self) -> None:
        """End the forwarder, if teardown by its label has not done so."""
        if self.forwarder:
            for pipe in (self.forwarder.stdin, self.forwarder.stdout):
                if pipe:
                    pipe.close()
            self.forwarder.kill()
            self.forwarder.wait()


def how(kubernetes: "Kubernetes") -> str:
    """`in_cluster`, `port_forward` or `url`."""
    if kubernetes.access != "auto":
        return kubernetes.access
    if kubernetes.url:
        return "url"
    return "in_cluster" if is_in_pod(kubernetes.cluster) else "port_forward"


def open_way(api: Api, plan: "Plan", kubernetes: "Kubernetes", owned: Lease, pod: str) -> Way:
    """The way that the configuration asks for.

    Raises:
        DeployFailed: the port-forward does not start.
    """
    chosen, name = how(kubernetes), manifests.name(owned.label)
    if chosen == "port_forward":
        return _forwarded(plan, owned, pod=pod, port=kubernetes.port)
    if chosen == "url":
        url = (kubernetes.url or "").format(name=name, namespace=api.namespace).rstrip("/")
    else:
        url = f"http://{name}-engine.{api.namespace}.svc:{_service_port(api, f'{name}-engine', kubernetes.port)}"
    parts = urlsplit(url)
    return Way(chosen, url, parts.port or PORTS.get(parts.scheme, 80))


def _service_port(api: Api, name: str, otherwise: int) -> int:
    """The port of the Service that OME has created for the engine."""
    ports = (creation.insist(lambda: api.get("Service", name)) or {}).get("spec", {}).get("ports") or [
        {"port": otherwise}
    ]
    return int(ports[0]["port"])


def _forwarded(plan: "Plan", owned: Lease, *, pod: str, port: int) -> Way:
    """The child finds a port by listening on it, so that nobody comes between; it carries the lease's label."""
    asked = {"cluster": plain(owned.cluster), "pod": pod, "port": port, "host": plan.host}
    child = process.spawn_piped(
        (*process.python("pipeline.backends.kube.forward"), json.dumps(asked)),
        log=RunDir(plan.run_dir).pipeline_log,
        env={**os.environ, process.LABEL: owned.label},
    )
    line = b""

    def has_told() -> bool:
        nonlocal line
        if child.stdout and select.select([child.stdout], [], [], TICK_S)[0]:
            line = child.stdout.readline()
        return bool(line) or child.poll() is not None

    if not process.wait_until(has_told, timeout_s=START_S) or not line:
        Way("port_forward", "", 0, child).close()
        raise DeployFailed(
            "The port-forward to the engine's pod did not start.",
            kind=FailureKind.BACKEND_DOWN,
            hint=f"Read {RunDir(plan.run_dir).pipeline_log}.",
        )
    local = int(json.loads(line)["port"])
    return Way("port_forward", f"http://{plan.host}:{local}", local, child)
