"""One streamed answer: what is read from it, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.bench import stream
from pipeline.bench.stream import Answer, Refused, Unreadable


def data(event: Any) -> bytes:
    return b"data: " + (event.encode() if isinstance(event, str) else json.dumps(event).encode())


def token(text: str | None, finish: str | None = None, **delta: Any) -> bytes:
    return data({"choices": [{"delta": {"content": text, **delta}, "finish_reason": finish}]})


USAGE = data({"choices": [], "usage": {"prompt_tokens": 24, "completion_tokens": 2}})
DONE = data("[DONE]")


def answer(*lines: bytes, every_s: float = 0.01) -> Answer:
    """Read to its end; a line each `every_s`."""
    made = Answer()
    for index, line in enumerate(lines):
        made.read(line, index * every_s)
    made.end()
    return made


@pytest.mark.parametrize(
    "lines",
    [
        [token("a"), token("b", "length"), USAGE, DONE],
        [token(""), token("a"), token("b"), token("", "length"), USAGE, DONE],
        [b"", b": keep-alive", b"event: message", b"id: 7", token("a"), b": ping", token("b", "length"), USAGE, DONE],
        [line.replace(b"data: ", b"data:") for line in (token("a"), token("b", "length"), USAGE, DONE)],
        [token(None, reasoning_content="a"), token(None, reasoning="b"), token(None, "length"), USAGE, DONE],
        [token("a"), token("b", "stop"), token("", "length"), USAGE, DONE],
    ],
    ids=["plain", "empty-chunks", "comments-and-fields", "no-space", "reasoning", "two-finish-reasons"],
)
def test_an_answer_is_read(lines: Sequence[bytes]) -> None:
    seen = answer(*lines)
    assert (seen.text, seen.finish_reason, seen.is_done, seen.is_whole) == ("ab", "length", True, True)
    assert (seen.input_tokens, seen.output_tokens, len(seen.times)) == (24, 2, 2)


@pytest.mark.parametrize(
    ("details", "cached"),
    [({"cached_tokens": 8}, 8), ({"cached_tokens": 0}, 0), ({}, None), (None, None), ({"cached_tokens": "8"}, None)],
    ids=["some", "none-of-them", "untold", "no-details", "no-count"],
)
def test_cached_tokens_are_the_servers_where_it_tells_them(details: object, cached: int | None) -> None:
    usage = {"prompt_tokens": 24, "completion_tokens": 2, "prompt_tokens_details": details}
    assert answer(token("a"), data({"choices": [], "usage": usage}), DONE).cached_tokens == cached


def test_the_time_of_an_answer_ends_with_what_it_said_not_with_done() -> None:
    assert answer(token("a"), USAGE, DONE).last_s == 0.01


@pytest.mark.parametrize(
    ("error", "cause", "words"),
    [
        ({"message": "engine dead", "code": None}, "stream_error", "engine dead"),
        ({"message": "engine dead"}, "stream_error", "engine dead"),
        ({"message": "busy", "code": 503}, "503", "busy"),
        ({"message": "busy", "code": "rate_limit"}, "stream_error", "busy"),
        ({"message": "busy", "code": 2}, "stream_error", "busy"),
        ("engine dead", "stream_error", "engine dead"),
        ({"reason": ["a", 1]}, "stream_error", '{"reason": ["a", 1]}'),
    ],
)
def test_an_error_inside_a_stream_is_the_servers(error: Any, cause: str, words: str) -> None:
    with pytest.raises(Refused) as caught:
        answer(token("a"), data({"error": error}), DONE)
    assert (caught.value.cause, str(caught.value)) == (cause, words)


def test_an_error_after_the_last_token_is_an_error() -> None:
    with pytest.raises(Refused, match="out of memory"):
        answer(token("a"), token("b", "length"), USAGE, data({"error": {"message": "out of memory"}}))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"data: {not json", "no JSON: {not json"),
        (b'data: {"choices": [{"delta": {"content": "\xe6\x97"}}]}', "UnicodeDecodeError"),
        (b"data: [1]", "no JSON object"),
        (data({"id": 1}), "a chunk without choices"),
        (token("a", tokens=1).replace(b'"a"', b"5"), "content that is no text: 5"),
        (data({"choices": {}}), "a chunk without choices"),
        (data({"choices": [5]}), "a choice that is none: 5"),
        (data({"choices": [{"delta": {}, "finish_reason": {"a": 1}}]}), "a finish reason that is none"),
        (data({"choices": [], "usage": {"completion_tokens": "16"}}), "usage that is no count"),
        (data({"choices": [], "usage": {"completion_tokens": True}}), "usage that is no count"),
        (data({"choices": [], "usage": {"prompt_tokens": -24}}), "usage that is no count"),
        (b'data: {"choices": [], "usage": {"completion_tokens": NaN}}', "usage that is no count"),
        (data({"choices": [], "usage": 16.5}), "usage that is no count"),
    ],
    ids=[
        "json",
        "cut-character",
        "list",
        "choices",
        "number",
        "choices-mapping",
        "choice",
        "finish",
        "text-count",
        "true-count",
        "negative-count",
        "nan-count",
        "usage-number",
    ],
)
def test_what_is_no_chunk_is_unreadable(line: bytes, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        answer(token("a"), line)


@pytest.mark.parametrize("lines", [[], [DONE], [token(""), USAGE, DONE], [token(None, "stop"), USAGE, DONE]])
def test_an_answer_without_content_is_an_error(lines: Sequence[bytes]) -> None:
    with pytest.raises(Refused, match="no content"):
        answer(*lines)


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (b'{"choices": [{"message": {"content": "hi"}}]}', Unreadable, "answered without streaming"),
        (b'{"error": {"message": "no stream here"}}', Refused, "no stream here"),
        (b"<html>welcome</html>", Unreadable, "answered without streaming"),
    ],
)
def test_an_answer_without_a_stream_is_an_error(body: bytes, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        answer(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "too long", "code": 400}}', "too long"),
        (b'{"object": "error", "message": "too long"}', "too long"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"detail": [{"loc": ["body"]}]}', '[{"loc": ["body"]}]'),
        (b"<html><h1>502 Bad\n Gateway</h1></html>", "502 Bad Gateway"),
        (b"\x1b[31mred\x1b[0m", "[31mred [0m"),
        (b"", "no words"),
        (b"x" * 1000, "x" * 300 + "..."),
    ],
)
def test_the_words_of_a_refusal_are_one_short_line(body: bytes, words: str) -> None:
    seen = stream.refused(400, body)
    assert (seen.cause, str(seen)) == ("400", words)


def test_what_came_together_with_the_first_piece_is_counted() -> None:
    made = Answer()
    for at_s in (1.0, 1.0001, 1.0002, 1.1, 1.1001):
        made.read(token("ab"), at_s)
    shape = made.shape()
    assert (shape["pieces"], shape["head_pieces"], shape["head_chars"]) == (5, 3, 6)
    assert shape["span_s"] == pytest.approx(0.1001)


def test_lines_are_put_together_however_reads_cut_them() -> None:
    """Also inside of a character."""
    whole = b"\r\n\r\n".join(
        [token("\u65e5").replace(b"\\u65e5", "\u65e5".encode()), token("\u672c", "length"), USAGE, DONE, b""]
    )
    for size in (1, 2, 3, 7, 50, len(whole)):
        made = Answer()
        for start in range(0, len(whole), size):
            made.feed(whole[start : start + size], 0.0)
        made.end()
        assert (made.text, made.is_done, made.output_tokens) == ("\u65e5\u672c", True, 2)


def test_a_stream_that_ends_inside_of_a_line_is_unreadable() -> None:
    made = Answer()
    made.feed(token("a") + b"\n\n" + token("b", "length")[:-9], 0.0)
    with pytest.raises(Unreadable, match="no JSON"):
        made.end()
