"""A Kubernetes control plane of the tests' own: etcd, API server, controller manager, scheduler; on loopback only.

The binaries are the real ones, found by KUBEBUILDER_ASSETS, the convention of controller-runtime's envtest. OME's
resource definitions are served. There is no kubelet: a node is an object that says it is ready (kube_objects), and
ome_operator plays OME and the kubelets.

Run as a program it is the guard: it waits until the tests that started it are gone, however they ended, and removes
the cluster. Nothing of a cluster is known by memory only; all is found by the name of its folder.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import psutil
import requests

from parts.guard import guarded, until_the_end
from parts.kube_api import OME, Api
from parts.llama import lasting_ports
from pipeline.machine import process
from support.places import OME_CRDS

BINARIES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
CLIENTS = BINARIES[2:]
TOOLS = ("ip", "nsenter", "openssl", "setsid", "unshare")
LABEL = "KUBE_TESTS_CLUSTER"  # in the environment of what runs in a pod: its command line is its own
INTERFACES = Path("/sys/class/net")
DOOR = Path(__file__).with_name("kube_door.py")
START_S = 150.0
GONE_S = 45.0
# Without nodelifecycle: nobody renews the lease of a node that is only an object.
CONTROLLERS = (
    "garbagecollector,namespace,deployment,replicaset,statefulset,daemonset,job,ttl-after-finished,endpoint,disruption"
)
FRUGAL = {"GOGC": "400"}  # a quarter less CPU at the start: collect garbage rarely
GATES = "--feature-gates=TTLAfterFinished=true"  # alpha until Kubernetes 1.21


@dataclass(frozen=True)
class Cluster:
    """A control plane, known by its folder."""

    root: Path

    @property
    def name(self) -> str:
        """In the command line or the environment of every process of it."""
        return self.root.name

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.settings['door']}"

    @property
    def kubeconfig(self) -> Path:
        """Of the administrator."""
        return self.root / "kubeconfig"

    @property
    def ca(self) -> Path:
        """What the API server is known by."""
        return self.root / "certs" / "apiserver.crt"

    @property
    def api(self) -> Api:
        """The administrator's, without the client library."""
        return _api(self.url, str(self.settings["token"]), self.ca)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Ports and the administrator's token."""
        return cast("Mapping[str, Any]", json.loads((self.root / "settings.json").read_text()))

    @property
    def is_up(self) -> bool:
        """Whether the API server answers and has done what it does at its start."""
        with suppress(requests.RequestException, OSError):
            return self.api.is_ready()
        return False

    def start(self) -> None:
        """All four, OME's definitions before the garbage collector: it learns of new ones only every 30 s."""
        self._launch("etcd", self._etcd_flags())
        subprocess.run(["openssl", "genrsa", "-out", self.root / "sa.key", "2048"], check=True, capture_output=True)
        self._launch("kube-apiserver", self._apiserver_flags())
        self._open_door()
        self.kubeconfig.write_text(self.kubeconfig_for(str(self.settings["token"])))
        _install(self.api, sorted(OME_CRDS.glob("*.yaml.xz")))
        self._start_clients()

    def start_api_server(self) -> None:
        """Again, where a test stopped it; with its clients, which look for it every 30 s only (client-go)."""
        self._open_door()
        self._kill(lambda one: one.name() in CLIENTS)
        self._start_clients()

    def stop_api_server(self) -> None:
        """As all its clients see it: connections break, and new ones are refused."""
        self._kill(_is_door)

    def restore(self) -> None:
        """As at the beginning, whatever a test did to it."""
        if not any(map(_is_door, self.processes())):
            self.start_api_server()

    def log(self, program: str) -> str:
        return (self.root / f"{program}.log").read_text(errors="replace")

    def remove(self) -> None:
        """End it and all that runs in its pods; the pods' interfaces go with their network namespaces."""
        self._kill(lambda _: True)
        process.wait_until(lambda: not self.interfaces(), timeout_s=GONE_S)
        shutil.rmtree(self.root)

    def remains(self) -> list[str]:
        """What is left of it on the machine, in words."""
        return [
            *(f"process {one.pid}" for one in self.processes()),
            *(f"interface {name}" for name in self.interfaces()),
            *([f"folder {self.root}"] if self.root.exists() else []),
        ]

    def processes(self) -> list[psutil.Process]:
        """All of it, those of pods too; neither the guard nor the one that asks."""
        return [one for one in psutil.process_iter() if self._owns(one)]

    def interfaces(self) -> list[str]:
        """Of its pods."""
        return [place.name for place in INTERFACES.iterdir() if _alias(place) == self.name]

    def launch(self, argv: Sequence[str | Path], log: str, env: Mapping[str, str] | None = None) -> None:
        """Start a program in a session of its own, no child of ours.

        A Ctrl-C must reach the tests only, and what a test starts again must not look like left behind by it.
        """
        with (self.root / f"{log}.log").open("ab") as out:
            given = env or {"PATH": os.environ["PATH"]}
            line = ["setsid", "--fork", *argv]
            subprocess.run(line, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=given, cwd=self.root, check=True)

    def _open_door(self) -> None:
        ports = [str(self.settings[name]) for name in ("door", "apiserver")]
        self.launch([sys.executable, DOOR, self.root, *ports], "door")
        assert process.wait_until(lambda: self.is_up, timeout_s=START_S), self.log("kube-apiserver")[-4000:]

    def _start_clients(self) -> None:
        manager = [f"--controllers={CONTROLLERS}", "--concurrent-gc-syncs=5", GATES]
        for name, more in (("kube-controller-manager", manager), ("kube-scheduler", [])):
            self._launch(name, [*self._client_flags(name), *more])

    def _launch(self, name: str, flags: Sequence[str]) -> None:
        program = Path(os.environ["KUBEBUILDER_ASSETS"]) / name
        self.launch([program, *flags], name, {"PATH": os.environ["PATH"], **FRUGAL})

    def _owns(self, one: psutil.Process) -> bool:
        with suppress(psutil.Error, OSError):
            words = one.cmdline()
            if one.status() == psutil.STATUS_ZOMBIE or one.pid == os.getpid() or __file__ in words:
                return False
            return any(self.name in word for word in words) or one.environ().get(LABEL) == self.name
        return False

    def _kill(self, matches: Callable[[psutil.Process], bool]) -> None:
        killed: set[psutil.Process] = set()  # their command lines are gone before their ports are free

        def none_left() -> bool:
            for one in filter(matches, self.processes()):
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGKILL)
                    killed.add(one)
            return not any(map(process.is_running, killed))

        assert process.wait_until(none_left, timeout_s=GONE_S), self.remains()

    def _etcd_flags(self) -> list[str]:
        client, peer = (f"http://127.0.0.1:{self.settings[name]}" for name in ("etcd", "peer"))
        own = [f"--data-dir={self.root}/etcd", f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        peers = [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        return [*own, *peers, f"--initial-cluster=default={peer}", "--unsafe-no-fsync"]

    def _apiserver_flags(self) -> list[str]:
        key = self.root / "sa.key"
        return [
            f"--etcd-servers=http://127.0.0.1:{self.settings['etcd']}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.settings['apiserver']}",
            f"--cert-dir={self.root}/certs",
            "--service-cluster-ip-range=10.255.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={self.root}/tokens.csv",
            "--authorization-mode=RBAC",
            # A new node would stay tainted as not ready, and a pod would need the token of an account.
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged=true",
            "--endpoint-reconciler-type=none",
            "--shutdown-delay-duration=0s",
            GATES,
        ]

    def _client_flags(self, name: str) -> list[str]:
        place = ["--bind-address=127.0.0.1", f"--secure-port={self.settings[name]}", "--port=0"]
        return [f"--kubeconfig={self.kubeconfig}", *place, "--leader-elect=false", f"--cert-dir={self.root}/{name}"]

    def kubeconfig_for(self, token: str, namespace: str = "default") -> str:
        """The text of a kubeconfig that identifies itself by `token`."""
        context = {"cluster": "tests", "user": "tests", "namespace": namespace}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "tests",
                "contexts": [{"name": "tests", "context": context}],
                "clusters": [{"name": "tests", "cluster": {"server": self.url, "certificate-authority": str(self.ca)}}],
                "users": [{"name": "tests", "user": {"token": token}}],
            }
        )


@cache
def _api(url: str, token: str, ca: Path) -> Api:
    """One for each cluster, so that its connections are kept, and none is left open to the garbage collector."""
    return Api(url, token, ca)


def missing() -> list[str]:
    """Why no cluster can be started here."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return ["KUBEBUILDER_ASSETS names no folder with etcd, kube-apiserver, kube-controller-manager, kube-scheduler"]
    absent = [name for name in BINARIES if not (Path(folder) / name).is_file()]
    tools = [name for name in TOOLS if shutil.which(name) is None]
    return [
        *([f"not in KUBEBUILDER_ASSETS ({folder}): {', '.join(absent)}"] if absent else []),
        *([f"not installed: {', '.join(tools)}"] if tools else []),
        *(["only root can give a pod an address"] if os.geteuid() != 0 else []),
    ]


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A control plane until the end of the scope, or of this process."""
    made = _prepared()
    with guarded(__file__, made.root):
        made.start()
        yield made


def _prepared() -> Cluster:
    made = Cluster(Path(tempfile.mkdtemp(prefix="stk-", dir="/tmp")))
    names = ("etcd", "peer", "door", "apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
    token = made.name + os.urandom(8).hex()
    ports = dict(zip(names, lasting_ports(len(names)), strict=True))
    (made.root / "settings.json").write_text(json.dumps({"token": token, **ports}))
    (made.root / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    return made


def _install(api: Api, files: Sequence[Path]) -> None:
    """Definitions as YAML, which the server reads faster than Python."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for file in files:
        api.create_from_yaml(path, lzma.decompress(file.read_bytes()))

    def are_served() -> bool:
        found = api.find(OME) or {"resources": []}  # the definitions themselves are megabytes
        return len([one for one in found["resources"] if "/" not in one["name"]]) == len(files)

    assert process.wait_until(are_served, timeout_s=START_S), "the definitions of OME are not served"


def _is_door(one: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return str(DOOR) in one.cmdline()
    return False


def _alias(interface: Path) -> str:
    with suppress(OSError):
        return (interface / "ifalias").read_text().strip()
    return ""


if __name__ == "__main__":
    until_the_end()
    Cluster(Path(sys.argv[1])).remove()
