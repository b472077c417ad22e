"""The tests' own Docker daemon: what it can do, and that nothing of it is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from docker import DockerClient
from docker.models.containers import Container

from parts.dockerd import Dockerd, running
from parts.llama import free_port
from pipeline.machine import process
from support.places import ROOT, TESTS

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("needs_docker")]

OWNER = """
import time
from parts import dockerd
with dockerd.running() as mine:
    print(mine.root, flush=True)
    time.sleep(600)
"""


@contextmanager
def started(client: DockerClient, image: str, *command: str, **more: Any) -> Iterator[Container]:
    """A container that runs until the end of the scope."""
    container = client.containers.create(image, list(command), **more)
    try:
        container.start()
        yield container
    finally:
        container.remove(force=True)


def is_answering(url: str) -> bool:
    with suppress(requests.ConnectionError):
        return requests.get(url, timeout=5).ok
    return False


def world() -> list[str]:
    """What a daemon is known to change on a machine."""
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout.splitlines()
    kept = [line for line in rules if not line.startswith("#")]  # the comments tell the time
    forward = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    return [*kept, f"forward {forward}"]


def test_runs_a_program(client: DockerClient, image: str) -> None:
    assert client.containers.run(image, ["python3", "-c", "print(1)"], remove=True) == b"1\n"


def test_runs_a_shell(client: DockerClient, image: str) -> None:
    assert client.containers.run(image, ["/bin/sh", "-c", "echo $((1 + 1))"], remove=True) == b"2\n"


def test_publishes_a_port(client: DockerClient, image: str) -> None:
    port = free_port()
    with started(client, image, "python3", "-m", "http.server", "80", ports={"80/tcp": ("127.0.0.1", port)}):
        url = f"http://127.0.0.1:{port}/"
        assert process.wait_until(lambda: is_answering(url), timeout_s=180)


def test_tells_of_lack_of_memory(client: DockerClient, image: str) -> None:
    limits = {"mem_limit": "64m", "memswap_limit": "64m"}
    with started(client, image, "python3", "-c", "b'x' * 10**9", **limits) as container:
        assert container.wait(timeout=30)["StatusCode"] == 137
        container.reload()
        assert container.attrs["State"]["OOMKilled"] is True


def test_knows_names_in_a_network(client: DockerClient, image: str) -> None:
    network = client.networks.create("servetune-test")
    look = "import socket; print(socket.gethostbyname('there'))"
    try:
        with started(client, image, "python3", "-m", "http.server", name="there", network="servetune-test"):
            said = client.containers.run(image, ["python3", "-c", look], network="servetune-test", remove=True)
    finally:
        network.remove()
    assert said.decode().startswith("198.1")


def test_runs_the_environment_at_its_own_path(client: DockerClient, image: str) -> None:
    mounts = [f"{place}:{place}:ro" for place in (TESTS, ROOT / "pipeline", sys.prefix)]
    script = "import pydantic, standin.command_line; print(pydantic.VERSION)"
    env = {"PYTHONPATH": str(TESTS / "fakes" / "site")}
    said = client.containers.run(image, [sys.executable, "-c", script], volumes=mounts, environment=env, remove=True)
    assert said.decode()[:2] == "2."


def test_runs_the_stub_engine(client: DockerClient, image: str) -> None:
    port = free_port()
    argv = [sys.executable, str(TESTS / "fakes" / "stub_engine.py"), "--port", str(port)]
    with started(client, image, *argv, volumes=[f"{TESTS}:{TESTS}:ro"], network_mode="host"):
        assert process.wait_until(lambda: is_answering(f"http://127.0.0.1:{port}/health"), timeout_s=180)


def test_is_empty_after_each_test(client: DockerClient) -> None:
    assert client.containers.list(all=True, ignore_removed=True) == []


def test_answers_nothing_while_paused(dockerd: Dockerd) -> None:
    dockerd.pause()
    assert process.wait_until(lambda: not dockerd.is_up, timeout_s=180), "its threads stop one after the other"
    dockerd.resume()
    assert dockerd.is_up


def test_knows_its_containers_after_a_hard_stop(dockerd: Dockerd, client: DockerClient, image: str) -> None:
    sleeper = ["python3", "-c", "import time; time.sleep(600)"]
    # With an init, or the new daemon waits ten seconds for its end.
    container = client.containers.run(image, sleeper, detach=True, init=True)
    try:
        container.reload()
        pid = container.attrs["State"]["Pid"]
        dockerd.stop_hard()
        assert psutil.pid_exists(pid), "what it runs goes on without it"
        dockerd.start()
        assert [one.id for one in client.containers.list(all=True, ignore_removed=True)] == [container.id]
    finally:
        dockerd.restore()
        container.remove(force=True)


def test_leaves_nothing() -> None:
    before = world()
    with running() as mine, closing(DockerClient(base_url=mine.host)) as client:
        assert client.ping()
        client.networks.create("servetune-test")
        assert mine.remains()
    assert mine.remains() == []
    assert world() == before


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_leaves_nothing_when_its_owner_ends(end: signal.Signals, tmp_path: Path) -> None:
    before = world()
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{TESTS}"}
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, env=env, text=True) as owner:
        assert owner.stdout is not None
        daemon = Dockerd(Path(owner.stdout.readline().strip()))
        owner.send_signal(end)
    assert process.wait_until(lambda: not daemon.root.exists(), timeout_s=180)
    assert daemon.remains() == []
    assert world() == before
