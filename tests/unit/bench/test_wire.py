"""HTTP as bytes: what a request looks like, and what an answer says however it is cut."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.scripted_chat import DONE, GOOD, HEAD, LAST, chunk, token, usage
from pipeline.bench import wire
from pipeline.bench.stream import Refused, Unreadable
from pipeline.bench.wire import Response

PLAIN = b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" + b"".join(
    part.partition(b"\r\n")[2][:-2] for part in (token(), token(finish="length"), usage(2), DONE)
)


def fed(*parts: bytes) -> Response:
    made = Response()
    for index, part in enumerate(parts):
        made.feed(part, float(index))
    return made


def test_a_request_is_what_the_server_expects() -> None:
    made = wire.prepare(
        "http://[::1]:8000/v1/chat/completions?x=1", {"Authorization": "Bearer k"}, {"max_tokens": 5}, 24
    )
    head, _, body = made.data.partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    assert first == "POST /v1/chat/completions?x=1 HTTP/1.1"
    assert {"Host: [::1]:8000", "Authorization: Bearer k", f"Content-Length: {len(body)}"} <= set(fields)
    assert json.loads(body) == {"max_tokens": 5}
    assert (made.asked, made.is_exact, made.tokens) == (5, False, 24)
    assert wire.get("http://x/v1/models", {}).startswith(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n")


@settings(deadline=None, derandomize=True, database=None)  # the same examples on every machine, however slow
@given(st.lists(st.integers(min_value=0, max_value=len(GOOD)), max_size=12))
def test_an_answer_says_the_same_however_it_is_cut(places: Sequence[int]) -> None:
    cuts = [0, *sorted(places), len(GOOD)]
    seen = fed(*(GOOD[begin:end] for begin, end in pairwise(cuts)))
    assert (seen.answer.text, seen.answer.output_tokens, seen.answer.is_done, seen.is_complete) == ("dd", 2, True, True)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PLAIN % b"Content-Type: text/event-stream", id="until its end"),
        pytest.param(PLAIN % b"Content-Length: %d" % (len(PLAIN) - len(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n")), id="length"),
        pytest.param(GOOD[: -len(LAST)] + b"0;last\r\nTrailer: x\r\n\r\n", id="trailers"),
    ],
)
def test_a_body_has_several_ways_to_end(data: bytes) -> None:
    seen = fed(data)
    assert seen.end()
    assert seen.answer.text == "dd"


def test_a_compressed_answer_is_read() -> None:
    text = (PLAIN % b"").partition(b"\r\n\r\n")[2]
    head = HEAD.replace(b"OK\r\n", b"OK\r\nContent-Encoding: gzip\r\n")
    assert fed(head + chunk(gzip.compress(text)) + LAST).answer.text == "dd"
    assert not wire.is_plain(head)


@pytest.mark.parametrize(
    ("data", "cause", "words"),
    [
        (b"HTTP/1.1 503 x\r\nContent-Length: 19\r\n\r\n<h1>no room</h1>...", "503", "no room ..."),
        (b"HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b'{"error": "oh"}') + LAST, "500", "oh"),
        (b"HTTP/1.1 502 x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x" * 65536), "502", "x" * 300 + "..."),
        (b"HTTP/1.1 204 x\r\n\r\n", "204", "no words"),
    ],
)
def test_another_status_is_an_error_with_the_servers_words(data: bytes, cause: str, words: str) -> None:
    with pytest.raises(Refused) as error:
        fed(data)
    assert (error.value.cause, str(error.value)) == (cause, words)


@pytest.mark.parametrize("data", [b"hello", b"HTTP/1.1 abc\r\n\r\n", b"x" * 70000, HEAD + b"5 5\r\n"])
def test_what_is_no_http_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        fed(data)


@pytest.mark.parametrize(
    ("before", "data", "is_last"),
    [
        (b"", GOOD, True),
        (b"\r\n", LAST, True),
        (b"xx", LAST, False),
        (b"", chunk(b"data: 0\r\n\r\n")[:-2], False),  # an event that ends so, cut before its own line end
        (b"", GOOD[:-1], False),
    ],
)
def test_the_end_is_seen_in_the_last_bytes(before: bytes, data: bytes, *, is_last: bool) -> None:
    assert wire.is_last(data, before) is is_last


def test_done_is_a_line_of_its_own() -> None:
    assert wire.is_done(token() + DONE)
    assert not wire.is_done(token("data: [DONE]\n"))  # a model may say so


def test_only_a_stream_on_a_kept_connection_has_an_end_that_can_be_seen() -> None:
    assert wire.is_plain(GOOD)
    assert not wire.is_plain(HEAD[:-2])
    assert not wire.is_plain(GOOD.replace(b"OK\r\n", b"OK\r\nconnection: Close\r\n"))
    assert not wire.is_plain(PLAIN % b"Content-Length: 9")
    assert not wire.is_plain(b"HTTP/1.1 404 x\r\nTransfer-Encoding: chunked\r\n\r\n")
