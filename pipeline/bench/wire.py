"""HTTP/1.1 as bytes: a request ready to be written, and an answer read from what came. Pure; standard library only.

Source: RFC 9112, sections 6 and 7. Bytes are kept with their times when they come, and read when there is time.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pipeline.bench.stream import Answer, Unreadable, clean, refused

LONGEST_ERROR = 65536
LONGEST_HEAD = 65536
ENDS = (b"\ndata: [DONE]\n", b"\ndata: [DONE]\r", b"\ndata:[DONE]\n")  # a line of its own: no JSON has a raw line end
LAST_CHUNK = b"\r\n0\r\n\r\n"
CODINGS = {"gzip": 31, "x-gzip": 31, "deflate": 47}  # zlib's window bits
OURS = ("host", "accept", "accept-encoding", "connection")


@dataclass(frozen=True)
class Prepared:
    """A request. `data` is all that is written."""

    data: bytes
    asked: int | None = None  # tokens
    is_exact: bool = False  # the server is told to ignore the end of the text
    tokens: int | None = None  # of the prompt, as genai-bench counts


def prepare(url: str, headers: Mapping[str, str], payload: Mapping[str, Any], tokens: int | None = None) -> Prepared:
    """`payload` as a POST to `url`."""
    body = json.dumps(payload).encode()
    data = _head("POST", url, {**headers, "Content-Length": str(len(body))}) + body
    return Prepared(data, payload.get("max_tokens"), bool(payload.get("ignore_eos")), tokens)


def get(url: str, headers: Mapping[str, str]) -> bytes:
    """A GET of `url`."""
    return _head("GET", url, headers)


def _head(method: str, url: str, headers: Mapping[str, str]) -> bytes:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    own = {"Host": parts.netloc.rpartition("@")[2], "Accept": "*/*", "Accept-Encoding": "identity"}
    given = {name: text for name, text in headers.items() if name.lower() not in OURS}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {text}" for name, text in {**own, **given}.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def is_plain(first: bytes) -> bool:
    """Whether an answer that begins so is a stream whose end can be seen from its last bytes, on a kept connection."""
    head, end, _ = first.partition(b"\r\n\r\n")
    fields = head.lower()
    is_kept = b"\r\nconnection: close" not in fields and b"\r\ncontent-encoding:" not in fields
    return head.startswith(b"HTTP/1.1 200") and bool(end) and b"chunked" in fields and is_kept


def is_done(data: bytes) -> bool:
    """Whether what was read has the line that ends a stream of events."""
    return b"[DONE]" in data and any(end in data for end in ENDS)


def is_last(data: bytes, before: bytes = b"") -> bool:
    """Whether what was read ends with the last chunk; `before`: the end of what was read before it."""
    return data.endswith(b"0\r\n\r\n") and (before[-2:] + data).endswith(LAST_CHUNK)


@dataclass
class Response:
    """One answer. `answer` is what its text says."""

    answer: Answer = field(default_factory=Answer)
    status: int = 0  # 0: its head has not ended
    is_complete: bool = False
    is_kept: bool = True  # whether the connection can be used again
    is_limited: bool = False  # it says for how long it keeps a connection
    left: int | None = None  # of a body of known length
    is_chunked: bool = False
    rest: bytes = b""
    error: bytes = b""
    where: str = ""  # a redirect leads to
    decoder: Any = None

    def feed(self, data: bytes, at_s: float) -> None:
        """Take what came at `at_s`, however it is cut.

        Raises:
            Refused, Unreadable: the answer is none.
        """
        self.rest += data
        while not self.status:
            if not self._begin():
                return
        body = b"" if self.is_complete else self._body()
        text = self.decoder.decompress(body) if self.decoder else body
        if self.status == 200:
            self.answer.feed(text, at_s)
        else:
            self.error += text[:LONGEST_ERROR]
        self._refuse()

    def end(self) -> bool:
        """The connection is at its end: whether the answer was complete.

        Raises:
            Refused: it is complete, and an error.
        """
        self.is_complete |= bool(self.status) and not self.is_chunked and self.left is None
        self._refuse()
        return self.is_complete or self.answer.is_done

    def _refuse(self) -> None:
        if self.status not in (0, 200) and (self.is_complete or len(self.error) >= LONGEST_ERROR):
            raise refused(self.status, self.error or self.where.encode())

    def _begin(self) -> bool:
        """Whether a whole head was there to take."""
        head, end, rest = self.rest.partition(b"\r\n\r\n")
        if not end:
            if len(self.rest) > LONGEST_HEAD or not self.rest[:5].startswith(b"HTTP/"[: len(self.rest)]):
                raise Unreadable(f"no HTTP answer: {clean(self.rest[:200].decode(errors='replace'))}")
            return False
        self.rest = rest
        first, *lines = head.decode("latin-1").split("\r\n")
        version, _, code = first.partition(" ")
        if not version.startswith("HTTP/") or not code[:3].isdigit():
            raise Unreadable(f"no HTTP answer: {clean(first)}")
        if code[0] != "1":  # 100 Continue, 103 Early Hints: the answer is still to come
            self.status = int(code[:3])
            self._fields(version, dict(map(_field, lines)))
        return True

    def _fields(self, version: str, fields: Mapping[str, str]) -> None:
        connection = fields.get("connection", "").lower()
        self.is_kept = "close" not in connection and (version == "HTTP/1.1" or "keep-alive" in connection)
        self.is_limited = "keep-alive" in fields
        self.is_chunked = fields.get("transfer-encoding", "").lower().endswith("chunked")
        length = fields.get("content-length", "")
        self.left = int(length) if length.isdigit() and not self.is_chunked else None
        self.is_complete = self.left == 0 or self.status == 204
        self.where = fields.get("location", "") and f"moved to {fields['location']}"
        if bits := CODINGS.get(fields.get("content-encoding", "").lower()):
            self.decoder = zlib.decompressobj(bits)

    def _body(self) -> bytes:
        """What of the body is there and was not taken."""
        if self.is_chunked:
            return self._chunks()
        body, self.rest = self.rest, b""
        if self.left is not None:
            body = body[: self.left]
            self.left -= len(body)
            self.is_complete = not self.left
        return body

    def _chunks(self) -> bytes:
        """The contents of the whole chunks."""
        data, place, found = self.rest, 0, []
        while (line := data.find(b"\r\n", place)) >= 0:
            size = _size(data[place:line])
            after = line + 2 + size
            if size == 0:
                self.is_complete = data.startswith(b"\r\n", after) or b"\r\n\r\n" in data[line:]
                break
            if len(data) < after + 2:
                break
            found.append(data[line + 2 : after])
            place = after + 2
        self.rest = data[place:]
        return found[0] if len(found) == 1 else b"".join(found)


def _field(line: str) -> tuple[str, str]:
    name, _, text = line.partition(":")
    return name.strip().lower(), text.strip()


def _size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        raise Unreadable(f"a chunk without a size: {clean(line[:100].decode(errors='replace'))}") from None
