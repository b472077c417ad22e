"""A server that sends the bytes it is told to, in threads of the test: what HTTP looks like on the wire."""

from __future__ import annotations

import json
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
CLOSE, HANG, PAUSE = b"<close>", b"<hang>", b"<pause>"  # PAUSE: until what the test says has happened


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(body: Any) -> bytes:
    return chunk(b"data: " + (body if isinstance(body, bytes) else json.dumps(body).encode()) + b"\n\n")


def token(text: str = "d", finish: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


def usage(count: int) -> bytes:
    return event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": count}})


DONE = event(b"[DONE]")
GOOD = HEAD + token() + token(finish="length") + usage(2) + DONE + LAST  # at once: what came together is read together


class Handler(socketserver.BaseRequestHandler):
    """One connection."""

    server: ScriptedChat

    def handle(self) -> None:
        self.server.connections += 1
        with suppress(ConnectionError):
            while self.take() and all(map(self.send, self.server.next_answer())):
                pass

    def take(self) -> bool:
        """Whether a request has come."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = self.request.recv(65536)
            data += part
            if not part:
                return False
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or b"0")
        while len(body) < length:
            body += self.request.recv(65536)
        self.server.bodies.append(body)
        return True

    def send(self, part: bytes) -> bool:
        """Whether the connection goes on."""
        if part == HANG:
            self.server.closing.wait()
        if part == PAUSE:
            self.server.pause()
            return True
        if part in (CLOSE, HANG):
            return False
        self.request.sendall(part)
        time.sleep(0.001)  # so that the next part is a packet of its own
        return True


class ScriptedChat(socketserver.ThreadingTCPServer):
    """The server: its answers in turn, each a list of what is sent."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answers: Sequence[Sequence[bytes]], context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.context = context
        self.answers = cycle(answers)
        self.bodies: list[bytes] = []
        self.connections = 0
        self.closing, self.lock = threading.Event(), threading.Lock()
        self.pause: Callable[[], object] = lambda: None

    def next_answer(self) -> Sequence[bytes]:
        with self.lock:
            return next(self.answers)

    def finish_request(self, request: Any, client_address: Any) -> None:
        with suppress(OSError):  # a client that does not trust us
            super().finish_request(self.context.wrap_socket(request, True) if self.context else request, client_address)

    @property
    def url(self) -> str:
        return f"http{'s' if self.context else ''}://127.0.0.1:{self.server_address[1]}"


@contextmanager
def scripted(*answers: Sequence[bytes], context: ssl.SSLContext | None = None) -> Iterator[ScriptedChat]:
    """Serve until the end of the scope."""
    with ScriptedChat(answers, context) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
