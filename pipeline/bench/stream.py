"""Reads one streamed chat answer, line by line. Pure; standard library only, because it runs beside genai-bench.

Source: OpenAI's chat completion chunks as server-sent events (https://platform.openai.com/docs/api-reference/chat-streaming,
https://html.spec.whatwg.org/multipage/server-sent-events.html), and what engines make of them: an error as an event
inside an HTTP 200 answer (vLLM, SGLang), reasoning in a field of its own, usage in the last chunk or in a later one.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

QUICK_S = 0.0002  # pieces that follow each other faster came together: nobody decodes 5,000 tokens per second and user
LONGEST_WORDS = 300


class Unreadable(Exception):
    """The answer is not what was asked for."""


class Refused(Exception):
    """The server says that it failed. `cause` is its code, or a word."""

    def __init__(self, cause: str, words: str) -> None:
        super().__init__(words)
        self.cause = cause


@dataclass
class Answer:
    """What a stream has said so far. Times are whatever clock `read` is given, in seconds."""

    times: list[float] = field(default_factory=list)  # of the pieces of text
    texts: list[str] = field(default_factory=list)
    last_s: float | None = None  # of the last line that said something
    events: int = 0
    input_tokens: int | None = None  # as the server counts
    output_tokens: int | None = None
    cached_tokens: int | None = None  # of the prompt's, in the prefix cache; None: the server does not say
    finish_reason: str | None = None
    is_done: bool = False  # [DONE] has come
    stray: str = ""  # the first line that is no event
    rest: bytes = b""  # of a line that has not ended

    def feed(self, data: bytes, at_s: float) -> None:
        """Take what one read brought, however it cuts lines and characters.

        Raises:
            Refused, Unreadable: as `read`.
        """
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.read(line, at_s)

    def read(self, line: bytes, at_s: float) -> None:
        """Take one line.

        Raises:
            Refused: it is an error of the server.
            Unreadable: it is no chunk of a chat answer.
        """
        text = line.removeprefix(b"\xef\xbb\xbf").strip()
        if not text.startswith(b"data:"):
            self._ignore(text)
            return
        self.events += 1
        data = text.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            self.is_done = True
            return
        self._chunk(_object(data), at_s)
        self.last_s = at_s

    def end(self) -> None:
        """Judge the answer at the end of its stream.

        Raises:
            Refused: it has no content, or is an error without a stream.
            Unreadable: it was no stream.
        """
        if self.rest.strip() and not self.is_done:  # a line without its end: read for what it says, if it is whole
            self.read(self.rest, self.last_s or 0.0)
        if self.stray and not self.events:
            body = _mapping(self.stray)
            if body.get("error"):
                raise refusal(body)
            raise Unreadable(f"answered without streaming: {self.stray}")
        if not self.times:
            raise Refused("no_content", "no content")

    @property
    def is_whole(self) -> bool:
        """Whether nothing but [DONE] is missing."""
        return bool(self.times) and self.finish_reason is not None and self.output_tokens is not None

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.texts)

    def shape(self) -> dict[str, Any]:
        """How the text came: `head` came together with the first piece."""
        gaps = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        head = next((index for index, gap in enumerate(gaps) if gap >= QUICK_S), len(gaps)) + 1
        return {
            "pieces": len(self.times),
            "span_s": self.times[-1] - self.times[0] if self.times else 0.0,
            "chars": len(self.text),
            "head_pieces": min(head, len(self.times)),
            "head_chars": sum(map(len, self.texts[:head])),
        }

    def _ignore(self, text: bytes) -> None:
        """Comments, which keep a connection alive, and other fields of an event; a line that is neither is kept."""
        if text and not re.match(rb":|(event|id|retry):", text):
            self.stray = self.stray or clean(text.decode(errors="replace"))

    def _chunk(self, data: Mapping[str, Any], at_s: float) -> None:
        if data.get("error") or data.get("object") == "error":  # some gateways send an empty one along
            raise refusal(data)
        choices = data.get("choices")
        if not isinstance(choices, list):
            raise Unreadable(f"a chunk without choices: {clean(json.dumps(data))}")
        self._count(data.get("usage"))
        for choice in choices[:1]:
            delta = choice.get("delta") or {} if isinstance(choice, dict) else None
            if not isinstance(delta, dict):
                raise Unreadable(f"a choice that is none: {clean(json.dumps(choice))}")
            self._count(delta.get("usage"))
            self._take(delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning") or "", at_s)
            self._finish(choice.get("finish_reason"))

    def _take(self, text: object, at_s: float) -> None:
        if not isinstance(text, str):
            raise Unreadable(f"content that is no text: {clean(json.dumps(text))}")
        if text:
            self.times.append(at_s)
            self.texts.append(text)

    def _finish(self, reason: object) -> None:
        if reason is not None and not isinstance(reason, str):
            raise Unreadable(f"a finish reason that is none: {clean(json.dumps(reason))}")
        self.finish_reason = reason or self.finish_reason

    def _count(self, usage: object) -> None:
        if not usage:
            return
        given = usage if isinstance(usage, dict) else {"completion_tokens": usage}
        for name, ours in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")):
            count = given.get(name)
            if count is not None and (type(count) is not int or count < 0):
                raise Unreadable(f"usage that is no count: {clean(json.dumps(usage))}")
            setattr(self, ours, getattr(self, ours) if count is None else count)
        details = given.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        self.cached_tokens = cached if type(cached) is int and cached >= 0 else self.cached_tokens


def refusal(body: Mapping[str, Any], cause: str | None = None) -> Refused:
    """The error in an answer: OpenAI's `error`, or what FastAPI and proxies say instead."""
    error = body.get("error")
    told: Any = error or body.get("message") or body.get("detail") or body
    code = told.get("code") if isinstance(told, dict) else body.get("code")
    words = (told.get("message") if isinstance(told, dict) else None) or told
    if not isinstance(words, str):
        words = json.dumps(words)
    return Refused(cause or (str(code) if re.fullmatch(r"[45]\d\d", str(code)) else "stream_error"), clean(words))


def refused(status: int, body: bytes) -> Refused:
    """An answer with an HTTP status that is none."""
    found = _mapping(body)
    words = re.sub(r"<[^>]*>", " ", body.decode(errors="replace"))
    return refusal(found, str(status)) if found else Refused(str(status), clean(words) or "no words")


def clean(text: str) -> str:
    """One line without control characters, not too long."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= LONGEST_WORDS else f"{line[:LONGEST_WORDS]}..."


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:  # also a character that is cut in the middle
        raise Unreadable(f"no JSON: {clean(data.decode(errors='replace'))} ({type(error).__name__})") from error
    if not isinstance(found, dict):
        raise Unreadable(f"no JSON object: {clean(data.decode(errors='replace'))}")
    return found


def _mapping(data: bytes | str) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
