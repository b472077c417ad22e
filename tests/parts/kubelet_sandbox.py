"""A pod's network: a namespace of its own with an address that this machine reaches, as a real pod has.

So every engine listens on the port that its manifest names, and one that listens on 127.0.0.1 only is not reached.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network

# For documentation: no route leads there, and dockerd.py takes others.
NETWORKS = [IPv4Network(text) for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]
PAIRS = [pair for network in NETWORKS for pair in network.subnets(new_prefix=31)]  # the host's end and the pod's


@dataclass(frozen=True)
class Sandbox:
    """A network namespace, which lives as long as the process that holds it."""

    holder: subprocess.Popen[bytes]
    address: str

    @classmethod
    def make(cls, cluster: str, env: Mapping[str, str]) -> Sandbox:
        """With the first address that nobody on this machine has; `cluster` is written on the interface."""
        line = ["unshare", "--net", "--", "sh", "-c", "echo; exec sleep infinity"]
        holder = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env, start_new_session=True
        )
        assert holder.stdout is not None
        holder.stdout.readline()  # only now is it in its namespace
        holder.stdout.close()
        for index, pair in enumerate(PAIRS):
            if _is_linked(index, holder.pid):
                _configure(index, pair, holder.pid, cluster)
                return cls(holder, str(pair[1]))
        raise RuntimeError("no address is free for a pod")

    def enter(self) -> list[str]:
        """The words before a command line that make it run inside."""
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--"]

    def remove(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.holder.pid, signal.SIGKILL)
        self.holder.wait()


def _is_linked(index: int, holder: int) -> bool:
    """The name of an interface is there once only: whoever makes it has the address."""
    line = ["ip", "link", "add", f"stk{index}", "type", "veth", "peer", "name", "eth0", "netns", str(holder)]
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


def _configure(index: int, pair: IPv4Network, holder: int, cluster: str) -> None:
    name = f"stk{index}"
    outside = f"link set dev {name} alias {cluster}\naddr add {pair[0]}/31 dev {name}\nlink set {name} up\n"
    inside = f"addr add {pair[1]}/31 dev eth0\nlink set eth0 up\nlink set lo up\nroute add default via {pair[0]}\n"
    enter = ["nsenter", f"--net=/proc/{holder}/ns/net", "--"]
    subprocess.run(["ip", "-batch", "-"], input=outside, text=True, check=True, capture_output=True)
    subprocess.run([*enter, "ip", "-batch", "-"], input=inside, text=True, check=True, capture_output=True)
