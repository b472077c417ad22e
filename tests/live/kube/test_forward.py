"""The port-forward: a local port that leads to a pod's port, one stream of its own for each connection."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from parts.kube_fixtures import KUBE_MARKS, Kube
from parts.ome_objects import runner, service
from pipeline.backends.kube import forward
from pipeline.machine import process
from support.places import TESTS

pytestmark = KUBE_MARKS
NAME = "trial"
ECHO = """
import socketserver, sys
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 200
print("echoes", flush=True)
Server(("0.0.0.0", 8080), Echo).serve_forever()
"""


@contextmanager
def forwarding(kube: Kube, port: int = 8080) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The local port, and the process behind it."""
    cluster = {"kubeconfig": str(kube.cluster.kubeconfig), "namespace": kube.namespace}
    asked = {"cluster": cluster, "pod": pod(kube), "port": port, "host": "127.0.0.1"}
    line = [*process.python("pipeline.backends.kube.forward"), json.dumps(asked)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=TESTS.parent) as child:
        assert child.stdout is not None
        yield json.loads(child.stdout.readline())["port"], child
        child.kill()


def pod(kube: Kube) -> str:
    return str(kube.pods(NAME)[0]["metadata"]["name"])


def deploy(kube: Kube, *command: str) -> None:
    kube.add_node("one")
    kube.add_model("tiny")
    kube.add_runtime("rt")
    given = {**runner(command, env=[{"name": "STUB_HOST", "value": "0.0.0.0"}]), "args": []}
    kube.create(service(NAME, "tiny", "rt", engine={"runner": given, "terminationGracePeriodSeconds": 0}))
    assert process.wait_until(lambda: "running" in kube.state(NAME), timeout_s=180), kube.told(NAME)


@pytest.fixture
def engine(kube: Kube) -> Kube:
    deploy(kube, "python3", str(TESTS / "fakes" / "stub_engine.py"), "--port", "8080")
    kube.wait_ready(NAME)
    return kube


@pytest.fixture
def echo(kube: Kube) -> Kube:
    deploy(kube, "python3", "-c", ECHO)
    return kube


def health(port: int) -> int:
    """0 where nobody answers."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as talking:
        try:
            talking.request("GET", "/health")
            return talking.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0


def sent_back(port: int, data: bytes) -> bytes:
    """What an echo makes of `data`."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as talking, ThreadPoolExecutor(1) as pool:
        pool.submit(talking.sendall, data)
        got = bytearray()
        while len(got) < len(data):
            piece = talking.recv(65536)
            if not piece:
                break
            got += piece
    return bytes(got)


def test_answers_on_one_connection_again_and_again(engine: Kube) -> None:
    with forwarding(engine) as (port, _), closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as talking:
        for _ in range(20):
            talking.request("GET", "/health")
            assert json.loads(talking.getresponse().read()) == {"status": "ok"}


@pytest.mark.parametrize("size", [1, 125, 126, 65_535, 65_536, 3_000_000], ids=lambda size: f"{size}-bytes")
def test_brings_every_byte_there_and_back(echo: Kube, size: int) -> None:
    data = os.urandom(size)
    with forwarding(echo) as (port, _):
        assert process.wait_until(lambda: sent_back(port, b"ready") == b"ready", timeout_s=180)
        assert sent_back(port, data) == data


def test_leads_many_at_once(echo: Kube) -> None:
    with forwarding(echo) as (port, _):
        assert process.wait_until(lambda: sent_back(port, b"ready") == b"ready", timeout_s=180)
        with ThreadPoolExecutor(32) as pool:
            told = [str(number).encode() * 1000 for number in range(100)]
            assert list(pool.map(lambda data: sent_back(port, data), told)) == told


def test_goes_on_when_the_api_server_was_away(engine: Kube) -> None:
    with forwarding(engine) as (port, _):
        assert health(port) == 200
        engine.cluster.stop_api_server()
        assert health(port) == 0
        engine.cluster.start_api_server()
        assert process.wait_until(lambda: health(port) == 200, timeout_s=180)


def test_closes_a_connection_that_nobody_takes_in_the_pod(engine: Kube) -> None:
    with forwarding(engine, port=81) as (port, child):
        assert health(port) == 0
        assert child.poll() is None


def test_ends_when_the_pod_is_gone(engine: Kube) -> None:
    with forwarding(engine) as (port, child):
        engine.api.delete(f"{engine.ome}/{NAME}")
        assert process.wait_until(lambda: not engine.pods(NAME), timeout_s=180)
        assert health(port) == 0
        assert child.wait(timeout=60) == forward.POD_GONE


def test_ends_with_its_parent(engine: Kube) -> None:
    with forwarding(engine) as (port, child):
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(timeout=60) == 0
        assert health(port) == 0


def test_ends_with_a_parent_that_was_killed(engine: Kube) -> None:
    cluster = {"kubeconfig": str(engine.cluster.kubeconfig), "namespace": engine.namespace}
    asked = json.dumps({"cluster": cluster, "pod": pod(engine), "port": 8080, "host": "127.0.0.1"})
    parent = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'pipeline.backends.kube.forward', sys.argv[1]],"
        " stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "print(child.stdout.readline().decode(), flush=True)\n"
        "child.wait()"
    )
    line = [sys.executable, "-c", parent, asked]
    with subprocess.Popen(line, stdout=subprocess.PIPE, cwd=TESTS.parent) as started:
        assert started.stdout is not None
        port = json.loads(started.stdout.readline())["port"]
        assert health(port) == 200
        started.send_signal(signal.SIGKILL)
    assert process.wait_until(lambda: health(port) == 0, timeout_s=180)
