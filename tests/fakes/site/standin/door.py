"""HTTP: routes, JSON, server-sent events in chunks. What the engines share; their answers differ in a subclass each."""

import json
import select
import socket
import socketserver
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from standin.errors import ClientGoneError, RejectedError
from standin.serving import Answer, Ask, Serving


class Server(ThreadingHTTPServer):
    """Binds and listens in two steps: an engine may hold its port long before it answers."""

    request_queue_size = 1024
    allow_reuse_port = False
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, handler: type["Door"]) -> None:
        super().__init__((host, port), handler, bind_and_activate=False)

    def server_bind(self) -> None:
        """Without http.server's question to the name server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def bind_or_exit(self, say: Callable[[str], None]) -> None:
        """In the words of uvicorn."""
        try:
            self.server_bind()
        except OSError as error:
            words = f"error while attempting to bind on address {self.server_address}"
            say(f"ERROR:    [Errno {error.errno}] {words}: {str(error.strerror).lower()}")
            sys.exit(1)

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


Route = Callable[[dict[str, str]], None]  # given the query


class Door(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    serving: ClassVar[Serving]
    keys: ClassVar[tuple[str, ...]] = ()
    open_paths: ClassVar[tuple[str, ...]] = ()  # that need no key

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        split = urlsplit(self.path)
        route = self.route(f"{self.command} {split.path}")
        with suppress(BrokenPipeError, ConnectionResetError, ClientGoneError):
            if not self._is_allowed(split.path):
                self.answer(401, {"error": "Unauthorized"})
            elif route is None:
                self.answer(404, {"detail": "Not Found"})
            else:
                route(dict(parse_qsl(split.query)))

    def _is_allowed(self, path: str) -> bool:
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        return not self.keys or path in self.open_paths or given in self.keys

    # How an engine words it

    def route(self, line: str) -> Route | None:
        """What answers `GET /health`."""
        raise NotImplementedError

    def rejected(self, status: int, words: str) -> Any:
        """The body of an error."""
        raise NotImplementedError

    def chunks(self, answer: Answer, texts: Iterator[str], head: dict[str, Any], *, is_chat: bool) -> Iterator[Any]:
        """The chunks of a stream before the usage."""
        raise NotImplementedError

    def usage(self, answer: Answer) -> dict[str, Any]:
        """The tokens."""
        raise NotImplementedError

    def admit(self, ask: Ask) -> None:
        """Raises RejectedError where there is no room."""

    # What they share

    def complete(self, *, is_chat: bool) -> None:
        """Answer a chat completion, or a plain one."""
        try:
            body = json.loads(self.body)
            ask = asked(body, is_chat=is_chat)
        except (ValueError, KeyError, TypeError) as error:
            self.answer(400, self.rejected(400, f"{type(error).__name__}: {error}"))
            return
        kind = "chat.completion" if is_chat else "text_completion"
        head: dict[str, Any] = {
            "id": f"{kind}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": body.get("model"),
        }
        try:
            self.admit(ask)
            answer = self.serving.begin(ask)
            with closing(self.serving.tokens(answer, self.is_gone)) as texts:
                if ask.is_stream:
                    head["object"] = f"{kind}.chunk" if is_chat else kind
                    self._stream(answer, texts, head, is_chat=is_chat)
                else:
                    self.answer(200, {**head, "object": kind, **self._whole(answer, texts, is_chat=is_chat)})
        except RejectedError as error:
            self.answer(error.status, self.rejected(error.status, str(error)))

    def _whole(self, answer: Answer, texts: Iterator[str], *, is_chat: bool) -> dict[str, Any]:
        text = "".join(texts)
        said: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": answer.finish_reason}
        return {"choices": [choice], "usage": self.usage(answer)}

    def _stream(self, answer: Answer, texts: Iterator[str], head: dict[str, Any], *, is_chat: bool) -> None:
        """The status goes out with the first token, as the engines do: until then there may be an error instead."""
        chunks = self.chunks(answer, texts, head, is_chat=is_chat)
        first = next(chunks)
        self.open_stream()
        try:
            self.event(first)
            for chunk in chunks:
                self.event(chunk)
            if answer.ask.wants_usage:
                self.event({**head, "choices": [], "usage": self.usage(answer)})
        except RejectedError as error:
            self.event(self.rejected_in_stream(error.status, str(error)))
        self.close_stream()

    def rejected_in_stream(self, status: int, words: str) -> Any:
        """An error after the stream has begun."""
        return self.rejected(status, words)

    def open_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, data: Any) -> None:
        """One event in one chunk."""
        text = data if isinstance(data, str) else json.dumps(data)
        line = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))

    def close_stream(self) -> None:
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def answer(self, status: int, body: Any = None) -> None:
        """JSON, text, or nothing."""
        data = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def is_gone(self) -> bool:
        """Whether the client has closed its side."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        try:
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def log_message(self, *_: object) -> None:
        """Keep the log for what matters."""


def asked(body: dict[str, Any], *, is_chat: bool) -> Ask:
    """The request in the fields that count. Raises KeyError and TypeError where they are not there."""
    options = body.get("stream_options") or {}
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    return Ask(
        prompt="\n".join(_text(message["content"]) for message in body["messages"]) if is_chat else body["prompt"],
        max_tokens=most if most or is_chat else 16,
        min_tokens=body.get("min_tokens") or 0,
        ignore_eos=bool(body.get("ignore_eos")),
        model=body.get("model"),
        is_stream=bool(body.get("stream")),
        wants_usage=bool(options.get("include_usage")),
    )


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)
