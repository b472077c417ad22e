"""llama.cpp's real server, started as the pipeline starts it, as a process of its own that dies with the test."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from pipeline.machine import process
from support.places import ROOT

MODULE = "pipeline.engines.runtimes.llamacpp"
START_S = 60.0
PORTS, PARTS = range(20_000, 32_000), 12


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    program: subprocess.Popen[bytes]
    log_path: Path
    key: str | None = None

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def get(self, path: str) -> Any:
        return requests.get(f"{self.url}{path}", headers=self._headers(), timeout=10).json()

    def chat(self, prompt: str, *, max_tokens: int = 4) -> Any:
        """The answer of one chat completion."""
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens, "temperature": 0}
        path = f"{self.url}/v1/chat/completions"
        return requests.post(path, json=body, headers=self._headers(), timeout=30).json()

    def threads(self) -> list[int]:
        return [thread.id for thread in psutil.Process(self.program.pid).threads()]

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


@contextmanager
def serving(model: Path, folder: Path, *flags: str, key: str | None = None) -> Iterator[Server]:
    """Serve `model` until the end of the scope; the log lies in `folder`."""
    port = free_port()
    log = folder / "server.log"
    program = start(model, port, log, *flags, env={"LLAMA_API_KEY": key} if key else {})
    try:
        running = Server(url=f"http://127.0.0.1:{port}", program=program, log_path=log, key=key)
        ended = process.wait_until(lambda: program.poll() is not None or _is_ready(running), timeout_s=START_S)
        assert ended, "not ready in time"
        assert program.poll() is None, running.log
        yield running
    finally:
        program.kill()
        program.wait()


def start(model: Path, port: int, log: Path, *flags: str, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the launcher without waiting for it."""
    argv = [sys.executable, "-m", MODULE, "--model", str(model), "--alias", "tiny", "--port", str(port), *flags]
    with log.open("wb") as out:
        return subprocess.Popen(argv, cwd=ROOT, env={**os.environ, **env}, stdout=out, stderr=out)


def launch(*flags: str) -> subprocess.CompletedProcess[str]:
    """Run the launcher to its end."""
    argv = [sys.executable, "-m", MODULE, *flags]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=START_S, check=False)


def free_port() -> int:
    """One that is still free when a server has started, which may take seconds."""
    return lasting_ports(1)[0]


def lasting_ports(count: int) -> list[int]:
    """Free ones that stay free while their server is stopped: no connection is given one below Linux's own range.

    Nor is another test: each of pytest's workers has a part of them.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PARTS
    own, found = PORTS[worker::PARTS], list[int]()
    for port in random.SystemRandom().sample(own, len(own)):  # whatever seed a test has set
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found


def _is_ready(server: Server) -> bool:
    try:
        return requests.get(f"{server.url}/health", timeout=5).ok
    except requests.ConnectionError:
        return False
