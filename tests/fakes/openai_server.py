"""A stand-in for a server with OpenAI's API that somebody runs: behind TLS, a key, a path, and not always well.

Source: https://platform.openai.com/docs/api-reference/models/list; answers to requests that lack their messages as
vLLM 0.32.0 and llama.cpp give them: the key first, then HTTP 400.
"""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

from fakes.stub_chat import Handler as ChatHandler
from fakes.stub_chat import served

Mood = Literal["well", "loading", "page", "other json", "moved", "open list", "no chat", "refuses tls"]
PAGE = b"<!DOCTYPE html><html><body>Welcome</body></html>"


class Handler(ChatHandler):
    """One connection."""

    server: OpenAI  # type: ignore[assignment]

    def do_GET(self) -> None:  # noqa: N802 - its name in http.server
        self.seen({})
        if self.is_allowed(is_list=True):
            self.listed()

    def do_POST(self) -> None:  # noqa: N802 - its name in http.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen(body)
        if not self.is_allowed(is_list=False):
            return
        if self.path != f"{self.server.prefix}/v1/chat/completions" or self.server.mood == "no chat":
            self.reply(404, b"404 page not found")
        elif not body.get("messages"):
            self.reply(400, b'{"error": {"message": "messages: field required"}}')
        elif body["model"] not in self.server.names:
            self.reply(404, json.dumps({"error": {"message": f"The model {body['model']} does not exist."}}).encode())
        else:
            with suppress(BrokenPipeError, ConnectionResetError):
                self.answer(body)

    def answer(self, body: dict[str, Any]) -> None:
        if body.get("stream"):
            self.stream(int(body["max_tokens"]), is_slow=True)
        else:
            self.reply(200, b'{"choices": [{"message": {"content": "two"}}]}')

    def seen(self, body: dict[str, Any]) -> None:
        self.server.asked.append(Asked(self.command, self.path, self.headers.get("Authorization"), body))

    def is_allowed(self, *, is_list: bool) -> bool:
        """Whether the key is the right one; else the answer is given."""
        wanted = self.server.key and not (is_list and self.server.mood == "open list")
        if wanted and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            self.reply(401, b'{"error": {"message": "invalid api key"}}')
            return False
        return True

    def listed(self) -> None:
        if self.path != f"{self.server.prefix}/v1/models":
            self.reply(404, b'{"detail": "Not Found"}')
        elif self.server.mood == "loading":
            self.reply(503, b'{"error": {"message": "Loading model"}}')
        elif self.server.mood == "page":
            self.reply(200, PAGE)
        elif self.server.mood == "other json":
            self.reply(200, b'{"status": "up"}')
        elif self.server.mood == "moved":
            self.moved()
        else:
            found = [{**one(name), **self.server.told, "created": len(self.server.asked)} for name in self.server.names]
            self.reply(200, json.dumps({"object": "list", "data": found}).encode())

    def moved(self) -> None:
        self.send_response(308)
        self.send_header("Location", f"https://elsewhere.example{self.path}")
        self.send_header("Content-Length", "0")
        self.end_headers()


def one(name: str) -> dict[str, Any]:
    """A model of the list; adapters are named `base:adapter`."""
    base, _, adapter = name.partition(":")
    return {"id": name, "object": "model", "owned_by": "me", "parent": base if adapter else None}


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    key: str | None
    body: dict[str, Any] = field(default_factory=dict)


class OpenAI(ThreadingHTTPServer):
    """The server; its mood may change while it runs."""

    def __init__(self, names: Sequence[str], *, key: str | None, prefix: str, mood: Mood) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.names, self.key, self.prefix, self.mood = names, key, prefix, mood
        self.asked: list[Asked] = []
        self.told: dict[str, Any] = {}  # of each model of the list
        self.scheme = "http"

    def handle_error(self, *_: object) -> None:
        """A client that does not trust us is no news."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.server_port}{self.prefix}"

    @property
    def chats(self) -> list[Asked]:
        """The requests that were answered with text."""
        return [one for one in self.asked if one.body.get("messages")]


@contextmanager
def serving(
    *names: str, key: str | None = None, prefix: str = "", mood: Mood = "well", certificate: Path | None = None
) -> Iterator[OpenAI]:
    """Serve until the end of the scope; with a certificate (and its key beside it), by TLS."""
    server = OpenAI(names or ("tiny",), key=key, prefix=prefix, mood=mood)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.scheme = "https"
    with served(server):
        yield server


def certified(folder: Path, name: str = "localhost", days: int = 2) -> Path:
    """A self-signed certificate for a name, and its key beside it."""
    made = folder / f"{name}.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-days", str(days), "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    files = ["-out", str(made), "-keyout", str(made.with_suffix(".key"))]
    subprocess.run([*words, *files], check=True, capture_output=True)
    return made
