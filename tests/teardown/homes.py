"""Where an engine lives: how to ask for it there, how to kill it, and how to see whether something of it is left."""

import os
import signal
from typing import Protocol

from cli import TESTS
from docker import DockerClient

from pipeline import process
from pipeline.backends import container
from pipeline.backends.lease import Lease


class Home(Protocol):
    """What the tests need of a backend."""

    name: str
    overrides: tuple[str, ...]
    deadline_s: float  # that its deploy and its teardown keep, and that is worth waiting for
    reaction_s: float  # from a blow until everything is gone
    pace: float  # how much longer a trial takes than with a process of this machine

    def kill_engine(self, owned: Lease) -> None:
        """SIGKILL, as the kernel's OOM killer sends it."""

    def left(self, owned: Lease | None) -> list[str]:
        """What still exists of the engine, in words; the lease may have vanished with its folder."""


class OnHost:
    """backend=local."""

    name = "local"
    overrides: tuple[str, ...] = ()
    deadline_s = 0.7
    reaction_s = 5.0
    pace = 1.0

    def kill_engine(self, owned: Lease) -> None:
        assert owned.pid is not None
        os.kill(owned.pid, signal.SIGKILL)

    def left(self, owned: Lease | None) -> list[str]:
        return [f"labelled {one.pid}" for one in process.labelled(owned.label)] if owned else []


class InContainer:
    """backend=docker, the stand-in engine in an image of this machine's Python."""

    name = "docker"
    deadline_s = 4.0
    reaction_s = 10.0  # docker stop waits whole seconds
    pace = 3.0

    def __init__(self, host: str, image: str, client: DockerClient) -> None:
        self.client = client
        self.overrides: tuple[str, ...] = (
            "backend=docker",
            f"backend.container.image={image}",
            f"backend.container.socket={host}",
            "backend.container.pull=never",
            "backend.container.ulimits={memlock:null,stack:null}",  # a machine may not be allowed to raise them
            "backend.container.shm_size_gib=0.1",
            f"backend.container.mounts=[{TESTS}]",
            "+runtime.env.STUB_HOST=0.0.0.0",
            "runtime.health.timeout_s=20",  # a busy machine takes seconds for a container
        )

    def kill_engine(self, owned: Lease) -> None:
        (made,) = self.client.containers.list(filters={"label": f"{container.LABEL}={owned.label}"})
        os.kill(made.attrs["State"]["Pid"], signal.SIGKILL)

    def left(self, owned: Lease | None) -> list[str]:
        """No other trial uses the tests' daemon: whatever has a label of ours is this one's."""
        found = self.client.containers.list(all=True, filters={"label": container.LABEL}, ignore_removed=True)
        return [f"container {one.name}" for one in found]
