"""Images pulled by a real dockerd from a real registry: what is told, what is recorded, what each failure is called."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

import docker
import pytest
import requests
from docker import DockerClient

from fakes import make_plan
from parts import lacking, registry
from parts.dockerd import Dockerd
from parts.llama import free_port
from pipeline.backends import lease
from pipeline.backends.docker import Docker
from pipeline.core.errors import FailureKind, Interrupted, PreflightFailed
from pipeline.core.plan import Plan
from pipeline.core.schema_backends import Container
from pipeline.machine import process

pytestmark = pytest.mark.live
MIB = 2**20
SIZE_MIB = registry.LAYERS * registry.LAYER_MIB
Make = Callable[..., Plan]


@pytest.fixture(scope="module")
def served(daemon: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    """The port of a registry, and the digest of its `engine/image:1`."""
    if shutil.which(registry.PROGRAM) is None:
        lacking(f"not installed: {registry.PROGRAM}")
    with registry.serving(tmp_path_factory.mktemp("registry")) as port:
        yield port, registry.fill(daemon.host, port)


@pytest.fixture
def way(served: tuple[int, str], client: DockerClient) -> Iterator[registry.Way]:
    """A way to the registry; what was pulled by it is gone afterwards."""
    with registry.Way(served[0]) as open_way:
        yield open_way
        for one in client.images.list(f"127.0.0.1:{open_way.port}/*/*"):
            client.images.remove(str(one.id), force=True)


@pytest.fixture
def make(dockerd: Dockerd, tmp_path: Path) -> Make:
    """Makes the plan of a trial of an image."""

    def plan(image: str, **changes: Any) -> Plan:
        (tmp_path / "run").mkdir(exist_ok=True)
        box = Container(image=image, socket=dockerd.host, shm_size_gib=0.1)
        docker_ = "pipeline.backends.docker.Docker"
        return make_plan(tmp_path / "run", backend=docker_, argv=("python3",), container=replace(box, **changes))

    return plan


def name(port: int) -> str:
    return f"127.0.0.1:{port}/engine/image:1"


def refused(plan: Plan) -> PreflightFailed:
    with pytest.raises(PreflightFailed) as caught:
        Docker().prepare(plan, lambda _said: None)
    return caught.value


def test_a_pull_tells_how_far_it_is(make: Make, way: registry.Way, client: DockerClient) -> None:
    way.speed = 2 * MIB
    told: list[tuple[float, str]] = []
    Docker().prepare(make(name(way.port)), lambda said: told.append((time.monotonic(), said)))
    times, said = zip(*told, strict=True)
    assert said[0] == f"pulling {name(way.port)}"
    assert any(f"of {SIZE_MIB} MiB, 0 of 3 layers, " in one and one.endswith(" MiB/s") for one in said), said
    assert median(after - before for before, after in pairwise(times)) < 1.2  # a busy machine may hold up one of them
    assert client.images.get(name(way.port)).tags == [name(way.port)]


def test_an_image_that_is_here_is_not_pulled(make: Make, way: registry.Way) -> None:
    Docker().prepare(make(name(way.port)), lambda _said: None)
    passed = way.passed
    Docker().prepare(make(name(way.port)), pytest.fail)
    assert way.passed == passed


def test_pull_always_pulls_once_for_all_trials_of_a_process(
    make: Make, way: registry.Way, client: DockerClient
) -> None:
    plan = make(name(way.port), pull="always")
    Docker().prepare(plan, lambda _said: None)
    Docker().prepare(plan, pytest.fail)
    client.images.remove(name(way.port))
    Docker().prepare(plan, lambda _said: None)
    assert client.images.get(name(way.port)).tags == [name(way.port)]


def test_trials_in_parallel_share_one_download(make: Make, way: registry.Way) -> None:
    way.speed = 2 * MIB
    with ThreadPoolExecutor(3) as trials:
        list(trials.map(lambda plan: Docker().prepare(plan, lambda _said: None), [make(name(way.port))] * 3))
    assert SIZE_MIB * MIB < way.passed < 1.1 * SIZE_MIB * MIB


def test_the_record_names_the_digest_of_the_registry(
    make: Make, served: tuple[int, str], image: str, client: DockerClient
) -> None:
    port, repository = served[0], f"127.0.0.1:{served[0]}/host/python"
    client.images.get(image).tag(repository, "1")
    client.images.push(repository, tag="1")
    client.images.remove(f"{repository}:1")
    facts = [_deployed(make(one)) for one in (f"{repository}:1", image)]
    accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    asked = requests.head(f"http://127.0.0.1:{port}/v2/host/python/manifests/1", headers=accept, timeout=5)
    assert facts[0]["image"] == f"{repository}:1"
    assert facts[0]["image_digest"] == f"{repository}@{asked.headers['Docker-Content-Digest']}"
    assert facts[0]["image_id"] == facts[1]["image_id"]
    client.images.remove(f"{repository}:1")
    assert "image_digest" not in _deployed(make(image)), "no registry has it"


def _deployed(plan: Plan) -> dict[str, str]:
    owned = lease.make(plan)
    lease.update(owned)
    try:
        Docker().prepare(plan, lambda _said: None)
        return dict(Docker().deploy(plan, owned).facts)
    finally:
        Docker().teardown(lease.current(owned))


@pytest.mark.parametrize("image", ["engine/image:2", "no/such:1"], ids=["tag", "repository"])
def test_what_the_registry_does_not_have_is_missing(make: Make, served: tuple[int, str], image: str) -> None:
    failure = refused(make(f"127.0.0.1:{served[0]}/{image}"))
    assert failure.kind == FailureKind.IMAGE_MISSING
    assert str(failure).startswith(f"The image 127.0.0.1:{served[0]}/{image} cannot be pulled: manifest for")
    assert f"docker login 127.0.0.1:{served[0]}" in failure.hint


def test_an_image_that_is_not_here_and_may_not_be_pulled_is_missing(make: Make) -> None:
    failure = refused(make("servetune-test/none:1", pull="never"))
    assert failure.kind == FailureKind.IMAGE_MISSING
    assert "servetune-test/none:1 is missing" in str(failure)
    assert "docker pull servetune-test/none:1" in failure.hint


def test_a_registry_that_is_down_cannot_be_reached(make: Make) -> None:
    failure = refused(make(name(free_port())))
    assert failure.kind == FailureKind.REGISTRY_UNREACHABLE
    assert "connection refused" in str(failure)


@contextmanager
def broken_registry(status: int, body: str) -> Iterator[int]:
    """The port of one that answers so, whatever is asked but its version."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/v2/" else status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


LIMIT = '{"errors": [{"code": "TOOMANYREQUESTS", "message": "You have reached your pull rate limit."}]}'
DENIED = '{"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]}'


@pytest.mark.parametrize(
    ("status", "body", "kind", "hint"),
    [
        (500, "oops", FailureKind.REGISTRY_UNREACHABLE, "Try again later"),
        (503, "", FailureKind.REGISTRY_UNREACHABLE, "Try again later"),
        (429, LIMIT, FailureKind.REGISTRY_UNREACHABLE, "docker login 127.0.0.1:"),
        (403, DENIED, FailureKind.IMAGE_MISSING, "docker login 127.0.0.1:"),
        (200, "hello", FailureKind.REGISTRY_UNREACHABLE, "docker pull 127.0.0.1:"),
    ],
    ids=["error", "unavailable", "rate-limit", "denied", "no-registry"],
)
def test_what_a_registry_answers_is_told_apart(
    make: Make, status: int, body: str, kind: FailureKind, hint: str
) -> None:
    with broken_registry(status, body) as port:
        failure = refused(make(name(port)))
    assert failure.kind == kind, failure
    assert hint in failure.hint


def test_an_interrupted_pull_stops(make: Make, way: registry.Way, client: DockerClient) -> None:
    way.speed = MIB / 2

    def interrupt(_said: str) -> None:
        if way.passed > MIB:
            raise Interrupted(2)

    with pytest.raises(Interrupted):
        Docker().prepare(make(name(way.port)), interrupt)
    assert way.passed < SIZE_MIB * MIB, "all of it was waited for"
    assert process.wait_until(lambda: not way.open, timeout_s=180), "the daemon goes on"
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get(name(way.port))


def test_a_daemon_that_dies_in_mid_pull_is_down(make: Make, way: registry.Way, dockerd: Dockerd) -> None:
    way.speed = MIB / 2

    def kill(_said: str) -> None:
        if way.passed > MIB and dockerd.is_up:
            dockerd.stop_hard()

    with pytest.raises(PreflightFailed) as caught:
        Docker().prepare(make(name(way.port)), kill)
    assert caught.value.kind == FailureKind.BACKEND_DOWN
    assert f"Docker does not answer: the pull of {name(way.port)} was interrupted" in str(caught.value)
    dockerd.restore()


def inside(dockerd: Dockerd, *command: str) -> None:
    """Run a command among the mounts of the daemon."""
    pid = (dockerd.root / "pid").read_text().strip()
    subprocess.run(["nsenter", f"--target={pid}", "--mount", *command], check=True)


def test_a_disk_that_becomes_full_is_told(make: Make, way: registry.Way, dockerd: Dockerd) -> None:
    where = str(dockerd.root / "data" / "tmp")  # where a daemon keeps a layer until it is unpacked
    inside(dockerd, "mount", "-t", "tmpfs", "-o", f"size={MIB}", "servetune-test", where)
    try:
        failure = refused(make(name(way.port)))
    finally:
        inside(dockerd, "umount", where)
    assert failure.kind == FailureKind.DISK_FULL
    assert "no space left on device" in str(failure)
    assert "docker image prune" in failure.hint
