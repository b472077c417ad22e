"""The kubelet's own HTTPS endpoint: logs, and port-forward over a websocket; the API server leads its clients here."""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from select import select
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from parts.kubelet import Kubelet
from parts.kubelet_container import Container

PROTOCOL = "v4.channel.k8s.io"
MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
BINARY, CLOSE, PING, PONG = 2, 8, 9, 10
LOOK_S = 0.1


class Door(BaseHTTPRequestHandler):
    """GET /containerLogs/NAMESPACE/POD/CONTAINER and /portForward/NAMESPACE/POD?port=N."""

    protocol_version = "HTTP/1.1"
    kubelet: ClassVar[Kubelet]

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        kind, *names = target.path.strip("/").split("/")
        asked = {name: many[-1] for name, many in parse_qs(target.query).items()}
        if kind == "containerLogs" and len(names) == 3:
            self.send_log(names, asked)
        elif kind == "portForward" and self.headers.get("Upgrade", "").lower() == "websocket":
            self.forward(names, parse_qs(target.query))
        else:
            self.send_error(400, "the tests' kubelet speaks websockets only")

    def do_POST(self) -> None:
        """kubectl's way to ask for SPDY."""
        self.do_GET()

    def send_log(self, names: list[str], asked: dict[str, str]) -> None:
        container = self.find(names)
        if container is None:
            self.send_error(404, f"container {names} not found")
            return
        path = container.previous_log if asked.get("previous") == "true" else container.log
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in read_log(path, container, asked):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def find(self, names: list[str]) -> Container | None:
        pod = self.kubelet.find(*names[:2])
        return next((one for one in (pod.containers if pod else []) if one.spec["name"] == names[2]), None)

    def forward(self, names: list[str], asked: dict[str, list[str]]) -> None:
        pod = self.kubelet.find(*names[:2])
        if pod is None:
            self.send_error(404, f"pod {names} not found")
            return
        accepted = b64encode(
            sha1(f"{self.headers['Sec-WebSocket-Key']}{MAGIC}".encode(), usedforsecurity=False).digest()
        )
        self.send_response(101)
        for name, words in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Protocol", PROTOCOL)):
            self.send_header(name, words)
        self.send_header("Sec-WebSocket-Accept", accepted.decode())
        self.end_headers()
        self.close_connection = True
        assert isinstance(self.connection, ssl.SSLSocket)
        with suppress(OSError):
            Forward(self.connection, pod.sandbox.address, [int(port) for port in asked["port"]]).run()

    def log_message(self, *_: object) -> None:
        """Keep the log for what matters."""


class Forward:
    """Channel 2n carries the data of the nth port, 2n + 1 its error; each begins with the port's number.

    One thread for both ways: a TLS connection must not be read and written by two at once.
    """

    def __init__(self, client: ssl.SSLSocket, address: str, ports: list[int]) -> None:
        self.client, self.address, self.ports = client, address, ports
        self.received = b""
        self.streams: dict[socket.socket, int] = {}  # and the channel of each

    def run(self) -> None:
        try:
            for index, port in enumerate(self.ports):
                self.open(2 * index, port)
            while self.move():
                pass
        finally:
            for stream in self.streams:
                stream.close()

    def open(self, channel: int, port: int) -> None:
        """A real kubelet connects to localhost in the pod's network; here an engine must listen on its address."""
        for number in (channel, channel + 1):
            self.send(bytes([number]) + struct.pack("<H", port))
        try:
            self.streams[socket.create_connection((self.address, port), timeout=5)] = channel
        except OSError as error:
            self.send(bytes([channel + 1]) + f"error forwarding port {port} to pod: {error}".encode())

    def move(self) -> bool:
        """What either side has sent; whether both are still there."""
        readable = [self.client] if self.client.pending() else select([self.client, *self.streams], [], [])[0]
        for one in readable:
            data = one.recv(65536)
            if not data:
                self.send(b"", CLOSE)
                return False
            if one is self.client:
                self.received += data
                if not all(self.take(kind, body) for kind, body in self.frames()):
                    return False
            else:
                self.send(bytes([self.streams[one]]) + data)
        return True

    def take(self, kind: int, data: bytes) -> bool:
        """One frame of the client's; whether it goes on."""
        if kind == PING:
            self.send(data, PONG)
        for stream, channel in self.streams.items():
            if kind == BINARY and data[:1] == bytes([channel]):
                stream.sendall(data[1:])
        return kind != CLOSE

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Those that have come as a whole."""
        while (found := parse(self.received)) is not None:
            kind, data, self.received = found
            yield kind, data

    def send(self, data: bytes, kind: int = BINARY) -> None:
        length = len(data)
        size = bytes([length]) if length < 126 else b"\x7e" + struct.pack(">H", length & 0xFFFF)
        if length >= 2**16:
            size = b"\x7f" + struct.pack(">Q", length)
        self.client.sendall(bytes([128 | kind]) + size + data)


def parse(received: bytes) -> tuple[int, bytes, bytes] | None:
    """Kind, data and the rest after the first frame (RFC 6455, 5.2); a client's frame is masked."""
    if len(received) < 2:
        return None
    wide = {126: 2, 127: 8}.get(received[1] & 127, 0)
    begin = 2 + wide + 4
    length = int.from_bytes(received[2 : 2 + wide]) if wide else received[1] & 127
    if len(received) < begin + length:
        return None
    mask, body = received[2 + wide : begin], received[begin : begin + length]
    data = bytes(byte ^ mask[place % 4] for place, byte in enumerate(body))
    return received[0] & 15, data, received[begin + length :]


def read_log(path: Path, container: Container, asked: dict[str, str]) -> Iterator[bytes]:
    """What there is, `tailLines` and `limitBytes` of it; with `follow` until the container ends."""
    text = path.read_bytes() if path.exists() else b""
    shown = text
    if "tailLines" in asked:
        count = int(asked["tailLines"])
        shown = b"".join(text.splitlines(keepends=True)[-count:]) if count else b""
    if "limitBytes" in asked:
        shown = shown[: int(asked["limitBytes"])]
    if shown:
        yield shown
    place = len(text)
    while asked.get("follow") == "true" and not container.has_ended:
        time.sleep(LOOK_S)
        text = path.read_bytes() if path.exists() else b""
        if text[place:]:
            yield text[place:]
        place = len(text)


def serve(kubelet: Kubelet, port: int, folder: Path) -> ThreadingHTTPServer:
    """On loopback, with a certificate that nobody checks."""
    cert, key = folder / "kubelet.crt", folder / "kubelet.key"
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=kubelet"]
    subprocess.run([*line, "-out", cert, "-keyout", key], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    Door.kubelet = kubelet
    server = ThreadingHTTPServer(("127.0.0.1", port), Door)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
