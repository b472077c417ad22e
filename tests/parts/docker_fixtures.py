"""Fixtures: a real Docker daemon of the tests' own and an image for it, a daemon for each worker."""

import os
import shutil
from collections.abc import Iterator

import docker
import pytest
from docker import DockerClient

from parts import host_image, lacking
from parts.dockerd import TOOLS, Dockerd, running


@pytest.fixture(scope="session")
def needs_docker() -> None:
    """Skip where no daemon can be started; fail where CI says that one can."""
    missing = [name for name in TOOLS if shutil.which(name) is None]
    reasons = [f"not installed: {', '.join(missing)}"] if missing else []
    reasons += ["only root can start a Docker daemon"] if os.geteuid() != 0 else []
    if reasons:
        lacking(*reasons)


@pytest.fixture(scope="session")
def daemon(needs_docker: None) -> Iterator[Dockerd]:
    """The worker's daemon; tests ask for `dockerd`."""
    with running() as started:
        yield started


@pytest.fixture(scope="session")
def image(daemon: Dockerd) -> str:
    """The name of an image with this machine's Python: `python3` and `/bin/sh`, no packages."""
    return host_image.load(daemon.host, daemon.root)


@pytest.fixture
def dockerd(daemon: Dockerd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dockerd]:
    """The daemon, DOCKER_HOST naming it. A test may break it, but leave no container or network behind."""
    for name in list(os.environ):
        if name.startswith("DOCKER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DOCKER_HOST", daemon.host)
    monkeypatch.setenv("DOCKER_CONFIG", str(daemon.root / "client"))
    yield daemon
    daemon.restore()
    left = _removed(daemon)
    assert not left, f"left behind: {left}"


@pytest.fixture
def client(dockerd: Dockerd) -> Iterator[DockerClient]:
    """Talks to the daemon."""
    talking = docker.DockerClient(base_url=dockerd.host)
    yield talking
    talking.close()


def _removed(daemon: Dockerd) -> list[str]:
    """The names of what a test left, which is gone now."""
    talking = docker.DockerClient(base_url=daemon.host)
    try:
        containers = talking.containers.list(all=True, ignore_removed=True)
        for container in containers:
            container.remove(force=True, v=True)
        networks = [one for one in talking.networks.list() if one.name not in {"bridge", "host", "none"}]
        for network in networks:
            network.remove()
        return [str(one.attrs["Name"]) for one in (*containers, *networks)]
    finally:
        talking.close()
