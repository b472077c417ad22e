"""A stand-in for an engine that is asked by the quality guard: answers well, or in each way in which answers are bad.

Shapes: OpenAI's chat completions with logprobs; vLLM's prompt_logprobs, SGLang's input_token_logprobs.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

from fakes import answers
from fakes.answers import Mood
from fakes.stub_chat import served

PATIENCE_S = 0.02


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Engine

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        with suppress(BrokenPipeError, ConnectionResetError):
            self.answer(body)

    def answer(self, body: dict[str, Any]) -> None:
        mood = self.server.mood
        if mood == "silent":
            while not self.server.is_closing:
                time.sleep(PATIENCE_S)
        elif mood == "errors":
            self.reply(500, {"error": {"message": "the kernel is gone"}})
        elif mood == "odd":
            self.reply(200, {"choices": []})
        elif mood == "bare":
            self.reply(200, {"choices": [{"message": "hello"}]})
        elif mood == "half":  # of a character; JSON can say it, UTF-8 cannot
            self.reply(200, {"choices": [{"message": {"content": "\ud800 and more"}}]})
        elif mood == "no logprobs" and "logprobs" in body:
            self.reply(400, {"error": {"message": "logprobs: extra fields not permitted"}})
        elif "prompt_logprobs" in body:
            self.reply(200, self.vllm(body["prompt"]))
        elif "return_logprob" in body:
            self.reply(200, self.sglang(body["text"]))
        else:
            self.reply(200, answers.chat(body, mood, next(self.server.numbers)))

    def vllm(self, text: str) -> dict[str, Any]:
        """Each token of the prompt with the best two; tokens are words here."""
        places: list[Any] = [None]
        for at, word in enumerate(text.split()[1:]):
            best, own = answers.expected(text, at, self.server.mood)
            places.append({word: {"logprob": own, "rank": 2}, best: {"logprob": -0.1, "rank": 1}})
        return {"choices": [{"text": "", "prompt_logprobs": places}]}

    def sglang(self, text: str) -> dict[str, Any]:
        words = text.split()
        own: list[Any] = [[None, 0, None]]
        tops: list[Any] = [None]
        for at, word in enumerate(words[1:]):
            best, logprob = answers.expected(text, at, self.server.mood)
            own.append([logprob, len(word), None])
            tops.append([[-0.1, best, None], [logprob, len(word), None]])
        return {"text": "", "meta_info": {"input_token_logprobs": own, "input_top_logprobs": tops}}

    def reply(self, code: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Keep the test's output for what matters."""


class Engine(ThreadingHTTPServer):
    """The server; `mood` may change while it runs."""

    request_queue_size = 256

    def __init__(self, mood: Mood) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mood = mood
        self.bodies: list[dict[str, Any]] = []
        self.numbers = count()
        self.is_closing = False
        self.lock = threading.Lock()

    def handle_error(self, *_: object) -> None:
        """A client that gave up is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def answering(mood: Mood = "well") -> Iterator[Engine]:
    """Serve until the end of the scope."""
    engine = Engine(mood)
    with served(engine):
        try:
            yield engine
        finally:
            engine.is_closing = True
