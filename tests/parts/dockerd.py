"""A Docker daemon of the tests' own: real, beside any that runs on the machine, and gone with all its traces.

It shares nothing with another daemon: its folders, its bridge, its addresses, its cgroup and its containerd
namespace are its own, it leaves the firewall alone (a port published on 127.0.0.1 needs none of it), and its mounts lie
in a mount namespace that ends with it. So every worker of pytest-xdist can have one.

Run as a program it is the guard: it waits until the tests that started it are gone, however they ended, and removes
the daemon. Nothing of a daemon is known by memory only; all is found by the name of its folder.
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from parts.guard import cgroups, guarded, remove_cgroups, until_the_end
from pipeline.machine import process

KEY = Path("/etc/docker/key.json")  # older daemons write it, wherever their own folders are
TOOLS = ("dockerd", "containerd", "runc", "iptables", "ip", "setsid", "unshare")
ADDRESSES = ipaddress.IPv4Network("198.18.0.0/15")  # for benchmarks of networks: no route of a machine's leads there
START_S = 90.0
STOP_S = 45.0
GONE_S = 30.0


@dataclass(frozen=True)
class Dockerd:
    """A daemon, known by its folder."""

    root: Path  # short: the path of a unix socket ends at 107 characters

    @property
    def name(self) -> str:
        """Of its bridge, its cgroup and its namespace too."""
        return self.root.name

    @property
    def host(self) -> str:
        """What DOCKER_HOST takes."""
        return f"unix://{self._socket}"

    @property
    def log(self) -> str:
        return (self.root / "log").read_text(errors="replace")

    @property
    def is_up(self) -> bool:
        """Whether it answers."""
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(1)
            try:
                door.connect(str(self._socket))
                door.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in door.recv(64)
            except OSError:
                return False

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers."""
        # No child of ours, in a session of its own: a Ctrl-C must reach the tests only, and a daemon that a test
        # restarts must not look like a process that the test left behind.
        # Nor by its environment, which names the test's own folders.
        detached = ["setsid", "--fork", "unshare", "--mount", "--propagation", "private"]
        argv, env = [*detached, "dockerd", *self._flags()], {"PATH": os.environ["PATH"]}
        with (self.root / "log").open("ab") as log:
            subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, check=True)
        assert process.wait_until(lambda: self.is_up, timeout_s=START_S), f"dockerd did not start: {self.log[-4000:]}"

    def stop_hard(self) -> None:
        """KILL it; what runs in containers goes on."""
        self._signal(signal.SIGKILL)
        # A dead daemon that nobody has reaped yet counts as running for the next one, by its pid file.
        gone = process.wait_until(lambda: not self._pids(), timeout_s=GONE_S)
        assert gone, "the killed daemon is still there"

    def pause(self) -> None:
        """Stop it where it is: it keeps its socket and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def restore(self) -> None:
        """As at the beginning, whatever a test did to it."""
        self.resume()
        if not self._pids():
            self.start()

    def remove(self) -> None:
        """End it and undo what it did to the machine."""
        self.resume()
        self._kill_containers()  # so that it has none to wait for
        self._signal(signal.SIGTERM)
        process.wait_until(lambda: not any(map(_is_alive, self._pids())), timeout_s=STOP_S)
        self._kill_rest()
        for bridge in self._bridges():
            _ip("link", "delete", bridge)
        remove_cgroups(cgroups(self.name), timeout_s=GONE_S)
        if (self.root / "key-is-ours").exists():
            KEY.unlink(missing_ok=True)
        shutil.rmtree(self.root)

    def remains(self) -> list[str]:
        """What is left of it on the machine, in words."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return [
            *(f"process {one.pid}" for one in self._processes()),
            *(f"mount {line}" for line in mounts if self.name in line),
            *(f"cgroup {folder}" for folder in cgroups(self.name)),
            *(f"interface {name}" for name in psutil.net_if_addrs() if name == self.name),
            *([f"folder {self.root}"] if self.root.exists() else []),
        ]

    @property
    def _socket(self) -> Path:
        return self.root / "docker.sock"

    def _flags(self) -> list[str]:
        own = [
            f"--config-file={self.root}/daemon.json",  # not the machine's, whose settings would clash with these
            f"--host={self.host}",
            f"--data-root={self.root}/data",
            f"--exec-root={self.root}/exec",
            f"--pidfile={self.root}/pid",
            f"--cgroup-parent=/{self.name}",
            "--exec-opt=native.cgroupdriver=cgroupfs",  # systemd would want a unit for the parent
            f"--containerd-namespace={self.name}",
            f"--containerd-plugins-namespace={self.name}-plugins",
            f"--bridge={self.name}",
            f"--default-address-pool=base={list(self._subnet().subnets())[1]},size=28",
        ]
        return [*own, "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"]

    def _subnet(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(json.loads((self.root / "subnet.json").read_text()))

    def _pids(self) -> list[int]:
        """Of the daemon and of the containerd that it starts."""
        files = (self.root / "pid", self.root / "exec" / "containerd" / "containerd.pid")
        pids = [int(file.read_text()) for file in files if file.exists()]
        return [pid for pid in pids if self._is_ours(pid)]

    def _is_ours(self, pid: int) -> bool:
        """Whether the number is not another process's by now; a dead one that nobody has reaped is still ours."""
        try:
            words = " ".join(psutil.Process(pid).cmdline())
        except psutil.ZombieProcess:
            return True
        except psutil.NoSuchProcess:
            return False
        return not words or self.name in words  # without words: it is just dying

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids()[:1]:  # its containerd dies with it
            os.kill(pid, number)

    def _kill_containers(self) -> None:
        for folder in cgroups(self.name):
            for pid in (folder / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)

    def _kill_rest(self) -> None:
        def none_left() -> bool:
            self._kill_containers()
            rest = self._processes()
            for one in rest:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            return not rest

        process.wait_until(none_left, timeout_s=GONE_S)

    def _processes(self) -> list[psutil.Process]:
        """Daemon, containerd and shims: all carry its name in their command lines."""
        found = []
        for one in psutil.process_iter():
            with suppress(psutil.NoSuchProcess):
                command = " ".join(one.cmdline())
                if self.name in command and __file__ not in command and one.pid != os.getpid():
                    found.append(one)
        return found

    def _bridges(self) -> list[str]:
        """Its own and those of networks that tests made: all have an address of its range."""
        subnet = self._subnet()
        return [name for name, address in _addresses() if address in subnet]


@contextmanager
def running() -> Iterator[Dockerd]:
    """A daemon until the end of the scope, or of this process."""
    daemon = _prepared()
    with guarded(__file__, daemon.root):
        _add_bridge(daemon)
        daemon.start()
        yield daemon


def _prepared() -> Dockerd:
    daemon = Dockerd(Path(tempfile.mkdtemp(prefix="std-", dir="/tmp")))
    (daemon.root / "subnet.json").write_text(json.dumps(str(_free_subnet())))
    (daemon.root / "daemon.json").write_text("{}")
    if not KEY.exists():
        (daemon.root / "key-is-ours").touch()
    return daemon


def _add_bridge(daemon: Dockerd) -> None:
    inner = next(daemon._subnet().subnets())
    _ip("link", "add", "name", daemon.name, "type", "bridge")
    _ip("address", "add", f"{inner[1]}/{inner.prefixlen}", "dev", daemon.name)
    _ip("link", "set", daemon.name, "up")


def _free_subnet() -> ipaddress.IPv4Network:
    """Half of it for the bridge, half for networks that tests make."""
    taken = [address for _, address in _addresses()]
    free = [net for net in ADDRESSES.subnets(new_prefix=22) if not any(address in net for address in taken)]
    return secrets.choice(free)


def _addresses() -> list[tuple[str, ipaddress.IPv4Address]]:
    return [
        (name, ipaddress.IPv4Address(one.address))
        for name, many in psutil.net_if_addrs().items()
        for one in many
        if one.family == socket.AF_INET
    ]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _is_alive(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running(psutil.Process(pid))
    return False


if __name__ == "__main__":
    until_the_end()
    Dockerd(Path(sys.argv[1])).remove()
