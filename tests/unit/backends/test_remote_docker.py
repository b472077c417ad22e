"""hardware=auto with a Docker daemon on another machine: it says whether it has NVIDIA GPUs, not which."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hydra import initialize_config_dir

from pipeline.backends import docker_checks
from pipeline.config.command_line import composed, to_config
from pipeline.core.errors import ConfigError, PreflightFailed
from pipeline.core.places import CONF
from pipeline.core.schema import Config

VERSION = {"Version": "28.0", "ApiVersion": "1.48", "MinAPIVersion": "1.24"}
NVIDIA: dict[str, Any] = {"Runtimes": {"runc": {}, "nvidia": {}}}
CDI: dict[str, Any] = {"Runtimes": {"runc": {}}, "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}
Daemon = Callable[[dict[str, Any]], str]


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A daemon that answers GET /version and GET /info; its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(info: dict[str, Any]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(info if self.path.endswith("/info") else VERSION).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return f"tcp://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def config(*overrides: str) -> Config:
    with initialize_config_dir(str(CONF)):
        return to_config(composed(["runtime=vllm", "backend=docker", *overrides]))


@pytest.mark.parametrize(("info", "how"), [(NVIDIA, "the NVIDIA runtime"), (CDI, "CDI")], ids=["runtime", "CDI"])
def test_gpus_that_nobody_knows_have_to_be_named(
    info: dict[str, Any], how: str, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", daemon(info))
    with pytest.raises(ConfigError, match=f"by {how}.*does not tell which. Name them, e.g. hardware=h100"):
        docker_checks.gpus(config())


def test_a_daemon_without_nvidias_runtime_has_none(daemon: Daemon) -> None:
    address = daemon({"Runtimes": {"runc": {}}})
    assert docker_checks.gpus(config(f"backend.container.socket={address}")) == ()


def test_a_daemon_that_does_not_answer() -> None:
    with pytest.raises(PreflightFailed, match="Docker does not answer"):
        docker_checks.gpus(config("backend.container.socket=tcp://127.0.0.1:9"))
