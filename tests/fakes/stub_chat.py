"""A stand-in for a server's chat endpoint, in threads of the test: remembers prompts, streams, refuses or keeps silent.

Chunked server-sent events, because genai-bench sees the whole answer at once otherwise.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Mood = Literal["answer", "at once", "refuse", "silent"]
TOKEN_S = 0.002
PATIENCE_S = 0.02  # how often a silent answer looks whether it may end


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Chat

    def do_GET(self) -> None:
        self.reply(200, b"[]")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.server.prompts.append(body["messages"][0]["content"])
        with suppress(BrokenPipeError, ConnectionResetError):
            if self.server.mood == "silent":
                while not self.server.is_closing:
                    time.sleep(PATIENCE_S)
            elif self.server.mood == "refuse":
                self.reply(503, b'{"error": {"message": "no room"}}')
            else:
                self.stream(int(body["max_tokens"]), is_slow=self.server.mood == "answer")

    def reply(self, code: int, data: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, tokens: int, *, is_slow: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        lines = [f"data: {event}\n\n".encode() for event in events(tokens)]
        for data in lines if is_slow else [b"".join(lines)]:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            time.sleep(TOKEN_S)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Keep the test's output for what matters."""


class Chat(ThreadingHTTPServer):
    """The server; `mood` may change while it runs."""

    def __init__(self, mood: Mood) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mood = mood
        self.prompts: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.is_closing = False

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


def events(tokens: int) -> Iterator[str]:
    """One chunk per token, then what OpenAI's stream ends with."""
    for index in range(tokens):
        reason = "length" if index == tokens - 1 else None
        yield json.dumps({"choices": [{"delta": {"content": " day"}, "finish_reason": reason}]})
    usage = {"prompt_tokens": 48, "completion_tokens": tokens, "total_tokens": 48 + tokens}
    yield json.dumps({"choices": [], "usage": usage})
    yield "[DONE]"


@contextmanager
def chatting(mood: Mood = "answer") -> Iterator[Chat]:
    """Serve until the end of the scope."""
    chat = Chat(mood)
    with served(chat):
        try:
            yield chat
        finally:
            chat.is_closing = True


@contextmanager
def served(server: ThreadingHTTPServer) -> Iterator[None]:
    """A thread serves it until the end of the scope."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
