"""A server that accepts and never answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pipeline.machine import process


@dataclass
class Silent:
    """One, and the connections that it holds."""

    address: tuple[str, int]
    held: list[socket.socket] = field(default_factory=list)
    peers: list[Any] = field(default_factory=list)  # who has connected, in their order
    own: int = 0  # of them, by `asked`

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.address[0]}:{self.address[1]}"

    def asked(self) -> int:
        """How many connections there were: all, as they are accepted in their order, and ours is the last."""
        with socket.create_connection(self.address) as ours:
            self.own += 1
            assert process.wait_until(lambda: ours.getsockname() in self.peers, timeout_s=60, interval_s=0.001)
        return len(self.peers) - self.own


@contextmanager
def silence() -> Iterator[Silent]:
    """One, on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Silent(listener.getsockname())

        def accept() -> None:
            while True:
                try:
                    taken, peer = listener.accept()
                except OSError:
                    return
                made.held.append(taken)
                made.peers.append(peer)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield made
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in made.held:
                each.close()
