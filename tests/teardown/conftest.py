"""The server of broken pipelines, and where engines live."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from parts.dockerd import Dockerd
from parts.kube import Cluster
from parts.ome_operator import Operator
from support.homes import Home, InCluster, InContainer, OnHost
from support.matrix import MATRIX
from support.world import Launch, Tell, Trial, Zygote, begin


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    served = Zygote()
    yield served
    served.close()


@pytest.fixture
def on_host() -> Home:
    return OnHost()


@pytest.fixture
def in_container(dockerd: Dockerd, image: str, client: DockerClient) -> Home:
    return InContainer(dockerd.host, image, client)


@pytest.fixture
def in_cluster(cluster: Cluster, operator: Operator) -> Home:
    return InCluster(cluster, operator)


@pytest.fixture(
    scope="session",
    params=[
        "local",
        pytest.param("docker", marks=pytest.mark.live),
        pytest.param("ome", marks=pytest.mark.live),
    ],
)
def place(request: pytest.FixtureRequest) -> str:
    """The name of a backend. What it needs is started here: it must not look like something that a test started."""
    needed = {"docker": "image", "ome": "operator"}.get(request.param)
    if needed:
        request.getfixturevalue(needed)
    return str(request.param)


@pytest.fixture
def backend(place: str, request: pytest.FixtureRequest) -> Home:
    """Where the engine lives; a test that takes it, or what needs it, runs once with each."""
    home: Home = request.getfixturevalue({"local": "on_host", "docker": "in_container", "ome": "in_cluster"}[place])
    return home


@pytest.fixture
def launch(zygote: Zygote, backend: Home, tmp_path: Path, tiny_gguf: Path) -> Launch:
    """Start a pipeline in a folder of its own: overrides, faults=..., env=..., constants=..."""

    def start(*overrides: str, **given: Any) -> Trial:
        return begin(zygote, backend, tmp_path, tiny_gguf, *overrides, **given)

    return start


@pytest.fixture
def tell(backend: Home, record_property: Callable[[str, object], None]) -> Tell:
    """Put a line into the matrix."""

    def say(step: str, mode: str, outcome: str) -> None:
        record_property(MATRIX, (backend.name, step, mode, outcome))

    return say
