"""`python -m pipeline.backends.kube.forward <json>`: a local port that leads to a pod's port through the API server.

A process of its own, so that what it computes takes no time from the measuring one. Each connection is a stream of its
own: after the API server was away, nothing needs repair and the next connection works again. Ends with its parent,
or when there is no such pod any more.
"""

import json
import os
import select
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.backends.kube.client import Api, ApiError, Unreachable, connect
from pipeline.core.schema_backends import Cluster
from pipeline.core.values import parse
from pipeline.machine.companion import die_with_parent

if TYPE_CHECKING:
    from websocket import WebSocket

BLOCK = 65536
CONTINUED, CLOSED, PING = 0, 8, 9  # RFC 6455, 5.2
DATA, ERROR = 0, 1  # channels of the only port
POD_GONE = 3
GONE = 404


@dataclass
class Door:
    """Where connections come in."""

    api: Api
    pod: str
    port: int
    told: str = ""

    def serve(self, listener: socket.socket) -> None:
        """Serve forever, with a thread for each connection."""
        while True:
            client, _ = listener.accept()
            threading.Thread(target=self._lead, args=[client], daemon=True).start()

    def _lead(self, client: socket.socket) -> None:
        """A connection that cannot be led on is closed: whoever made it knows how long to try."""
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with closing(client):
            try:
                tunnel = self.api.forward(self.pod, self.port)
            except Unreachable as error:
                return self._tell(f"the API server does not answer: {error}")
            except ApiError as error:
                self._tell(f"the API server refused: {error}")
                if error.code == GONE:
                    os._exit(POD_GONE)
                return None
            with closing(tunnel), suppress(OSError):
                Stream(client, tunnel).run()
            return None

    def _tell(self, words: str) -> None:
        """Once, not for each of the connections that a health check makes."""
        if words != self.told:
            self.told = words
            print(f"port-forward to {self.pod}:{self.port}: {words}", file=sys.stderr, flush=True)


@dataclass
class Stream:
    """One connection, both ways in one thread: a TLS socket must not be read and written by two at once."""

    client: socket.socket
    tunnel: "WebSocket"
    received: bytearray = field(default_factory=bytearray)
    greeted: set[int] = field(default_factory=set)  # channels whose first frame, the port's number, has come
    channel: int = DATA  # of a frame that may be continued

    def run(self) -> None:
        """Forward until either side closes."""
        poll = select.poll()  # select() ends at 1024 files
        wire: Any = self.tunnel.sock
        ours, theirs = self.client.fileno(), wire.fileno()
        for one in (ours, theirs):
            poll.register(one, select.POLLIN)
        while True:
            ready = {number for number, _ in poll.poll()}
            if ours in ready and not self._send():
                return
            if theirs in ready and not self._receive():
                return

    def _send(self) -> bool:
        data = self.client.recv(BLOCK)
        if data:
            self.tunnel.send_binary(bytes([DATA]) + data)
        return bool(data)

    def _receive(self) -> bool:
        """All that there is: what TLS has decrypted already, no poll tells of."""
        wire: Any = self.tunnel.sock
        while True:
            wire.settimeout(0)
            try:
                data = wire.recv(BLOCK)
            except (ssl.SSLWantReadError, BlockingIOError):
                return True
            finally:
                wire.settimeout(None)  # sending waits
            if not data:
                return False
            self.received += data
            if not all(self._take(*frame) for frame in frames(self.received)):
                return False

    def _take(self, kind: int, payload: bytes) -> bool:
        """One frame; whether the stream goes on."""
        if kind == CLOSED:
            return False
        if kind == PING:
            self.tunnel.pong(payload)
        elif kind in {CONTINUED, 1, 2}:
            if kind != CONTINUED:
                self.channel, payload = payload[0], payload[1:]
            return self._deliver(payload)
        return True

    def _deliver(self, data: bytes) -> bool:
        if self.channel not in self.greeted:
            self.greeted.add(self.channel)
        elif self.channel == DATA:
            self.client.sendall(data)
        else:  # nobody listens there, or the pod's end broke
            return False
        return True


def frames(received: bytearray) -> Iterator[tuple[int, bytes]]:
    """(Opcode, payload) of each whole frame, taken off the beginning of `received`. A server's are not masked."""
    while len(received) >= 2:
        length, begin = received[1] & 127, 2
        if length >= 126:
            begin = 4 if length == 126 else 10
            if len(received) < begin:
                return
            length = int.from_bytes(received[2:begin])
        if len(received) < begin + length:
            return
        kind, payload = received[0] & 15, bytes(received[begin : begin + length])
        del received[: begin + length]
        yield kind, payload


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main(text: str) -> None:
    """`{"cluster", "pod", "port", "host"}` -> `{"port"}` on stdout as soon as it listens on a port of its own."""
    die_with_parent()
    asked = json.loads(text)
    door = Door(connect(parse(Cluster, asked["cluster"])), asked["pod"], asked["port"])
    with socket.create_server((asked["host"], 0), backlog=1024) as listener:
        os.write(sys.stdout.fileno(), json.dumps({"port": listener.getsockname()[1]}).encode() + b"\n")
        threading.Thread(target=_end_with_parent, daemon=True).start()
        door.serve(listener)


if __name__ == "__main__":
    main(sys.argv[1])
