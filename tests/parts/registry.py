"""A real registry of the tests' own (Debian's docker-registry), and a way to it that can be slow and that counts."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import docker
import requests

from parts.llama import free_port
from pipeline.machine import process

PROGRAM = "docker-registry"
START_S = 60.0
MIB = 2**20
LAYERS, LAYER_MIB = 3, 4
CONFIG = """
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """The port of a registry that keeps its images in `folder`; dockerd needs no TLS for one on loopback."""
    port = free_port()
    (folder / "config.yml").write_text(CONFIG.format(folder=folder, port=port))
    with (folder / "log").open("w") as log:
        serves = subprocess.Popen([PROGRAM, "serve", folder / "config.yml"], stdout=log, stderr=log)
    try:
        is_up = process.wait_until(lambda: _answers(port), timeout_s=START_S)
        assert is_up, (folder / "log").read_text()
        yield port
    finally:
        serves.terminate()
        serves.wait()


def fill(host: str, port: int) -> str:
    """Give the registry an image of a few layers through the daemon at `host`, which forgets it; the image's digest."""
    client = docker.DockerClient(base_url=host)
    name = f"127.0.0.1:{port}/engine/image"
    try:
        client.images.build(fileobj=_context(), custom_context=True, tag=f"{name}:1", rm=True)
        *_, last = client.api.push(name, tag="1", stream=True, decode=True)
        client.images.remove(f"{name}:1")
    finally:
        client.close()
    return str(last["aux"]["Digest"])


def _context() -> io.BytesIO:
    """Random bytes: nothing makes them smaller, and no other image has them."""
    names = [f"layer{number}" for number in range(LAYERS)]
    recipe = "\n".join(["FROM scratch", *(f"COPY {name} /" for name in names), 'CMD ["/none"]'])
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in [
            ("Dockerfile", recipe.encode()),
            *((name, os.urandom(LAYER_MIB * MIB)) for name in names),
        ]:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    data.seek(0)
    return data


def _answers(port: int) -> bool:
    with suppress(requests.RequestException):
        return requests.get(f"http://127.0.0.1:{port}/v2/", timeout=1).ok
    return False


@dataclass
class Way:
    """A port that leads to another one, `speed` bytes a second at most in each connection."""

    to: int
    speed: float = float("inf")
    passed: int = 0  # bytes that came back
    open: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.door.getsockname()[1]
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.speed = float("inf")
        self.door.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.door.close()
        self.cut()

    def cut(self) -> None:
        """Break every connection off."""
        for one in list(self.open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        process.wait_until(lambda: not self.open, timeout_s=5)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self.door.accept()
                there = socket.create_connection(("127.0.0.1", self.to))
                self.open.append(here)
                threading.Thread(target=self._copy, args=[here, there, False]).start()
                threading.Thread(target=self._copy, args=[there, here, True]).start()

    def _copy(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(16384):
                target.sendall(data)
                if is_answer:
                    self.passed += len(data)
                    time.sleep(len(data) / self.speed)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        if is_answer:
            self.open.remove(target)
            source.close()
            target.close()
