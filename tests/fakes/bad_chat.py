"""A chat endpoint that goes wrong as told, in threads of the test: what real servers and the proxies before them do.

Each mood is a list of what to send: a chunk of server-sent events, or a pause in seconds. A token is one letter, which
every tokenizer has.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from typing import Any

from fakes.stub_chat import served

TOKEN_S = 0.01
Part = bytes | float
Script = Callable[[int], Sequence[Part]]


def data(event: Any) -> bytes:
    return b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n"


def token(text: str = "d", finish: str | None = None) -> bytes:
    return data({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


def usage(count: int) -> bytes:
    return data({"choices": [], "usage": {"prompt_tokens": 48, "completion_tokens": count}})


def error(code: object) -> bytes:
    return data({"error": {"message": "engine dead", "type": "server_error", "code": code}})


DONE = data(b"[DONE]")


def paced(parts: Sequence[bytes], every_s: float = TOKEN_S) -> list[Part]:
    """A pause before each."""
    return [each for part in parts for each in (every_s, part)]


def tokens(count: int, finish: str | None = "length") -> list[Part]:
    return paced([token(finish=finish if index == count - 1 else None) for index in range(count)])


def whole(count: int) -> list[Part]:
    return [*tokens(count), usage(count), DONE]


MOODS: dict[str, Script] = {
    "ok": whole,
    "comments": lambda n: [b": ping\n\n", *tokens(n), b": ping\n\n", b"event: end\n", usage(n), DONE],
    "no done": lambda n: [*tokens(n), usage(n)],
    "no end": lambda n: [*tokens(n), usage(n), 3600.0],
    "two finish reasons": lambda n: [*tokens(n - 1, "stop"), *tokens(1), usage(n), DONE],
    "no usage": lambda n: [*tokens(n), DONE],
    "stall": lambda n: [*tokens(2, None), 0.6, *tokens(n - 2), usage(n), DONE],
    "three tokens a chunk": lambda n: [
        *paced([token("ddd") for _ in range(n // 3)], 3 * TOKEN_S), token("", "length"), usage(n), DONE,
    ],
    "truncate": lambda _: [*tokens(2, None)],
    "truncate politely": lambda _: [*tokens(2, "stop"), usage(2), DONE],
    "usage lies": lambda n: [*tokens(2), usage(n), DONE],
    "usage overshoots": lambda n: [*tokens(n), usage(4 * n), DONE],
    "error without code": lambda _: [*tokens(2, None), error(None), DONE],
    "error with words for code": lambda _: [*tokens(2, None), error("boom"), DONE],
    "error after the last token": lambda n: [*tokens(n), usage(n), error(500)],
    "empty": lambda n: [token("", "length"), usage(n), DONE],
    "not json": lambda _: [*tokens(2, None), data(b"{oops"), DONE],
    "no choices": lambda _: [*tokens(2, None), data({"id": 1}), DONE],
    "cut character": lambda _: [*tokens(2, None), b'data: {"choices": [{"delta": {"content": "\xe6\x97'],
    "in one piece": lambda n: [n * TOKEN_S, b"".join(each for each in whole(n) if isinstance(each, bytes))],
    "in one burst": lambda n: [n * TOKEN_S, *(each for each in whole(n) if isinstance(each, bytes))],
    "hang": lambda _: [*tokens(2, None), 3600.0],
}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: BadChat

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with suppress(BrokenPipeError, ConnectionResetError):
            match self.server.next_mood():
                case "http 400":
                    self.reply(400, b'{"error": {"message": "too long for the context"}}')
                case "http 502":
                    self.reply(502, b"<html><h1>Bad Gateway</h1></html>")
                case "no stream":
                    self.reply(200, b'{"choices": [{"message": {"content": "hi"}}]}')
                case "plain":
                    self.stream(whole(int(body["max_tokens"])), is_chunked=False)
                case "reset":
                    self.stream(tokens(2, None), is_broken=True)
                case mood:
                    self.stream(MOODS[mood](int(body["max_tokens"])))

    def reply(self, code: int, text: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def stream(self, parts: Sequence[Part], *, is_broken: bool = False, is_chunked: bool = True) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header(*(("Transfer-Encoding", "chunked") if is_chunked else ("Connection", "close")))
        self.end_headers()
        for part in parts:
            if isinstance(part, bytes):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if is_chunked else part)
            elif self.server.closing.wait(part):
                return
        if is_broken or not is_chunked:
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Keep the test's output for what matters."""


class BadChat(ThreadingHTTPServer):
    """The server: its moods in turn, one for each answer."""

    request_queue_size = 128

    def __init__(self, moods: Sequence[str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.moods = cycle(moods)
        self.closing, self.lock = threading.Event(), threading.Lock()

    def next_mood(self) -> str:
        with self.lock:
            return next(self.moods)

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def misbehaving(*moods: str) -> Iterator[BadChat]:
    """Serve until the end of the scope."""
    chat = BadChat(moods)
    with served(chat):
        try:
            yield chat
        finally:
            chat.closing.set()
