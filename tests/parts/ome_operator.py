"""Plays an installed OME and the kubelets of its cluster, so that an InferenceService becomes an engine that answers.

A process of its own beside the tests: `running` starts it; `Operator` tells it what to do, fault or not, through a
file. It ends with the cluster at the latest.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests

from parts.kube import LABEL, Cluster
from parts.kube_api import OME
from parts.kube_watch import Changes
from parts.kubelet import Kubelet
from parts.kubelet_container import POD_LABEL
from parts.kubelet_server import serve
from parts.ome_behaviour import Behaviour, Settings, read, write
from parts.ome_controller import Controller
from pipeline.machine import process
from support.places import ROOT

KUBELET_S = 0.1  # between two rounds
CONTROLLER_S = 0.1
LOOK_S = 1.0  # the API server is asked so often where nothing has changed
PODS, DEPLOYMENTS = "/api/v1/pods", "/apis/apps/v1/deployments"
KINDS = ("inferenceservices", "basemodels", "clusterbasemodels", "servingruntimes", "clusterservingruntimes")
START_S = 60.0
STOP_S = 60.0


@dataclass(frozen=True)
class Operator:
    """The handle of the tests."""

    cluster: Cluster

    @property
    def log(self) -> str:
        return self.cluster.log("operator")

    def behave(self, key: str, **changes: Any) -> None:
        """From now on: `key` is `*`, `NAMESPACE/NAME` of a service or pod, or `/NAME` of a ClusterBaseModel."""
        settings = self._settings()
        told = {**settings.behaviours, key: replace(settings.behaviours.get(key, Behaviour()), **changes)}
        self._tell(replace(settings, behaviours=told))

    def use(self, *, env: Mapping[str, str] | None = None, paths: Mapping[str, str] | None = None) -> None:
        """What every container has in its environment, and words of commands with what stands for them here."""
        settings = self._settings()
        self._tell(replace(settings, env={**settings.env, **(env or {})}, paths={**settings.paths, **(paths or {})}))

    def reset(self) -> None:
        """As told at the beginning: nothing."""
        self._tell(Settings())

    def start(self) -> None:
        """Wait until its kubelet listens."""
        self.reset()
        self._ready.unlink(missing_ok=True)
        env = {"PATH": os.environ["PATH"], LABEL: self.cluster.name, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        self.cluster.launch([sys.executable, __file__, self.cluster.root], "operator", env)
        assert process.wait_until(self._ready.exists, timeout_s=START_S), self.log[-4000:]

    def stop(self) -> None:
        """It ends its pods' processes; their objects stay."""
        pid = int(self._ready.read_text())
        os.kill(pid, signal.SIGTERM)
        gone = process.wait_until(lambda: pid not in {one.pid for one in self.cluster.processes()}, timeout_s=STOP_S)
        assert gone, self.log[-4000:]

    def process_ids(self, pod_uid: str) -> list[int]:
        """Of what runs in a pod."""
        everyone = self.cluster.processes()
        return [one.pid for one in everyone if one.environ().get(POD_LABEL, "").startswith(pod_uid)]

    @property
    def _ready(self) -> Path:
        return self.cluster.root / "operator.pid"

    @property
    def _file(self) -> Path:
        return self.cluster.root / "behaviour.json"

    def _settings(self) -> Settings:
        return read(self._file)

    def _tell(self, settings: Settings) -> None:
        write(self._file, settings)


@contextmanager
def running(cluster: Cluster) -> Iterator[Operator]:
    """An operator until the end of the scope."""
    made = Operator(cluster)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def _play(cluster: Cluster, stopped: threading.Event) -> None:
    api, file = cluster.api, cluster.root / "behaviour.json"
    base = {"PATH": os.environ["PATH"], LABEL: cluster.name}
    kubelet = Kubelet(api, cluster.root / "pods", cluster.name, base)
    server = serve(kubelet, int(cluster.settings["kubelet"]), cluster.root)
    controller = Controller(api)
    (cluster.root / "operator.pid").write_text(str(os.getpid()))
    pods = _Looks(Changes(api, [PODS]), file)
    things = _Looks(Changes(api, [PODS, "/api/v1/nodes", DEPLOYMENTS, *(f"{OME}/{kind}" for kind in KINDS)]), file)
    kubelets = threading.Thread(
        target=_repeat, args=(lambda is_due: kubelet.sync(read(file), look=is_due), pods, KUBELET_S, stopped)
    )
    kubelets.start()
    _repeat(lambda is_due: controller.sync(read(file)) if is_due else None, things, CONTROLLER_S, stopped)
    kubelets.join()
    kubelet.remove()
    server.shutdown()


@dataclass
class _Looks:
    """At the API server: when it, or what the tests tell, has changed; and now and then, for what time changes."""

    changes: Changes
    file: Path
    told: Settings | None = None
    last: float = 0.0

    def are_due(self) -> bool:
        told, now = read(self.file), time.monotonic()
        if not self.changes.any() and told == self.told and now - self.last < LOOK_S:
            return False
        self.told, self.last = told, now
        return True


def _repeat(act: Callable[[bool], None], looks: _Looks, period_s: float, stopped: threading.Event) -> None:
    """A round that fails is told in the log, and the next one looks again: the API server may be gone for a while."""
    while not stopped.wait(period_s):
        try:
            act(looks.are_due())
        except requests.ConnectionError:
            looks.last = 0.0
            time.sleep(period_s)
        except (requests.RequestException, json.JSONDecodeError):
            looks.last = 0.0
            traceback.print_exc()


def main() -> None:
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    _play(Cluster(Path(sys.argv[1])), stopped)


if __name__ == "__main__":
    main()
