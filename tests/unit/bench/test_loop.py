"""The users of a level on real connections: what is sent when, what is kept, and what becomes of each request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path

import pytest

from fakes.scripted_chat import (
    CLOSE,
    DONE,
    GOOD,
    HANG,
    HEAD,
    LAST,
    PAUSE,
    ScriptedChat,
    chunk,
    event,
    scripted,
    token,
    usage,
)
from pipeline.bench import connection, ledger, watcher
from pipeline.bench.connection import server
from pipeline.bench.keeping import server_keeps
from pipeline.bench.loop import Loop
from pipeline.bench.pacing import Closed
from pipeline.bench.watcher import Watcher
from pipeline.bench.wire import get, prepare
from pipeline.core.requests import Measurement, Request
from pipeline.machine import process

PAYLOAD = {"max_tokens": 2, "ignore_eos": True, "stream": True}
ENDLESS_S = 600.0
JSON_400 = b'{"error": {"message": "too long"}}'
REFUSED = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(JSON_400), JSON_400)


class Level:
    """A level sent by one loop; its ledger."""

    def __init__(
        self,
        folder: Path,
        url: str,
        planned: int,
        users: int = 1,
        *,
        keeps: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = folder / ledger.NAME
        self.path.write_text(watcher.opening(planned, ENDLESS_S))
        self.watcher = Watcher(planned, users, ENDLESS_S, self.write, clock=clock)
        prepared = prepare(f"{url}/v1/chat/completions", {}, PAYLOAD)
        self.loop = Loop(self.watcher, repeat(prepared), Closed(users), lambda: server(url), keeps=keeps)

    def write(self, line: str) -> None:
        with self.path.open("a") as file:
            file.write(line)

    def run(self, max_time_s: float = ENDLESS_S) -> Measurement:
        self.loop.open_ahead()
        self.loop.run(max_time_s)
        part = {**self.watcher.close(len), "keeps": self.loop.keeps, "late_prompts": 0}
        self.write(watcher.closing([part], self.watcher.users))
        self.loop.close()
        seen = ledger.read(self.path)
        assert seen is not None
        return seen

    @property
    def lines(self) -> list[tuple[str, int]]:
        told = map(json.loads, self.path.read_text().splitlines())
        return [(name, line[name]) for line in told for name in ("begin", "end") if name in line]


Sent = Callable[..., Sequence[Request]]


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    """The requests of a level, one for each of the answers."""

    def call(*answers: Sequence[bytes], keeps: bool = True) -> Sequence[Request]:
        with scripted(*answers) as chat:
            return Level(tmp_path, chat.url, len(answers), keeps=keeps).run().requests

    return call


@pytest.fixture
def good() -> Iterator[ScriptedChat]:
    with scripted([GOOD]) as chat:
        yield chat


def test_connections_are_opened_before_and_kept(good: ScriptedChat, tmp_path: Path) -> None:
    level = Level(tmp_path, good.url, planned=12, users=3)
    level.loop.open_ahead()
    assert not good.bodies
    seen = level.run()
    assert [one.fault for one in seen.requests] == [None] * 12
    assert good.connections == 3
    assert seen.client is not None
    assert (seen.client.keeps_connections, seen.client.resent, seen.client.users) == (True, 0, 3)


def test_where_none_is_kept_each_request_has_its_own(good: ScriptedChat, tmp_path: Path) -> None:
    seen = Level(tmp_path, good.url, planned=6, users=2, keeps=False).run()
    assert [one.ending for one in seen.requests] == ["answered"] * 6
    assert good.connections == 6


def waits_for(check: Callable[[], bool]) -> Callable[[], object]:
    """What the server does at PAUSE."""
    return lambda: process.wait_until(check, timeout_s=180, interval_s=0.001)


def test_the_next_request_is_sent_before_the_answer_is_parsed(tmp_path: Path) -> None:
    """But the first answers, which tell whether there is hope for the level."""
    with scripted([PAUSE, GOOD]) as chat:
        level = Level(tmp_path, chat.url, planned=4)
        # An answer that is there already is read first: the server waits until the one before is parsed
        chat.pause = waits_for(lambda: level.watcher.ended >= len(chat.bodies) - 1)
        level.run()
    order = [("begin", 0), ("end", 0), ("begin", 1), ("begin", 2), ("end", 1), ("begin", 3), ("end", 2), ("end", 3)]
    assert level.lines == order


@pytest.mark.parametrize("is_stamped", [True, False], ids=["kernel", "reading"])
def test_times_are_those_of_arrival(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_stamped: bool) -> None:
    if not is_stamped:
        monkeypatch.setattr(connection, "STAMPED", None)
    with scripted([HEAD + token(), PAUSE, token(finish="length") + usage(2) + DONE + LAST]) as chat:
        level = Level(tmp_path, chat.url, planned=1)
        chat.pause = waits_for(lambda: any(one.heard_s > one.began_s for one in [*level.watcher.open.values()]))
        (one,) = level.run().requests
    assert one.ttft_s is not None
    assert one.e2e_s is not None
    assert 0 < one.ttft_s < one.e2e_s
    assert one.lag_s >= 0


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([GOOD], id="at once"),
        pytest.param([GOOD[i : i + 1] for i in range(len(GOOD))], id="byte by byte"),
        pytest.param([GOOD[i : i + 7] for i in range(0, len(GOOD), 7)], id="in sevens"),
        pytest.param([HEAD, token(), token(finish="length"), usage(2), DONE, LAST], id="the end by itself"),
        pytest.param([HEAD, token(), token(finish="length"), usage(2), DONE, HANG], id="no end after [DONE]"),
        pytest.param([HEAD, token(), token(finish="length"), usage(2), HANG], id="neither [DONE] nor end"),
        pytest.param([HEAD, token(), token(finish="length"), usage(2), LAST], id="no [DONE]"),
        pytest.param([HEAD, chunk(b": ping\n\n"), GOOD.removeprefix(HEAD)], id="a comment"),
        pytest.param([GOOD.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), CLOSE], id="closes"),
        pytest.param([b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + GOOD], id="early hints"),
        pytest.param([GOOD.replace(b"Transfer-Encoding", b"transfer-encoding")], id="small letters"),
    ],
)
@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "new"])
def test_a_whole_answer_is_good_however_it_comes(sent: Sent, answer: Sequence[bytes], *, keeps: bool) -> None:
    seen = sent([GOOD], answer, [GOOD], keeps=keeps)
    assert [(one.ending, one.fault, one.output_tokens) for one in seen] == [("answered", None, 2)] * 3


@pytest.mark.parametrize(
    ("answer", "ending", "words"),
    [
        ([REFUSED], "failed", "too long"),
        ([HEAD, token(), CLOSE], "failed", "the connection broke: the answer ended early"),
        ([HEAD, CLOSE], "failed", "the connection broke: the answer ended early"),
        ([HEAD, token(), event({"error": {"message": "engine dead"}}), HANG], "failed", "engine dead"),
        ([HEAD, event({"error": {"message": "engine dead"}}), DONE, LAST], "failed", "engine dead"),
        ([HEAD, token(""), usage(2), DONE + LAST], "failed", "no content"),
        ([HEAD, event(b"{oops"), DONE + LAST], "unreadable", "no JSON: {oops (JSONDecodeError)"),
        ([b"SSH-2.0-x\r\n\r\n", HANG], "unreadable", "no HTTP answer: SSH-2.0-x"),
        ([HEAD, b"zz\r\n", HANG], "unreadable", "a chunk without a size: zz"),
        ([b"HTTP/1.1 307 x\r\nLocation: https://x/\r\nContent-Length: 0\r\n\r\n"], "failed", "moved to https://x/"),
    ],
)
@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "new"])
def test_a_broken_answer_fails_with_its_words_and_costs_no_other(
    sent: Sent, answer: Sequence[bytes], ending: str, words: str, *, keeps: bool
) -> None:
    seen = sorted(sent([GOOD], answer, [GOOD], keeps=keeps), key=lambda one: one.ending)
    assert [one.ending for one in seen if one.ending == "answered"] == ["answered"] * 2
    (broken,) = (one for one in seen if one.ending != "answered")
    assert (broken.ending, broken.words) == (ending, words)


def test_a_request_on_a_connection_that_the_server_had_closed_is_sent_once_more(tmp_path: Path) -> None:
    with scripted([GOOD, CLOSE]) as chat:
        seen = Level(tmp_path, chat.url, planned=9).run()
    assert [one.ending for one in seen.requests] == ["answered"] * 9
    assert seen.client is not None
    assert seen.client.resent <= 3
    assert chat.connections == 9


def test_a_server_that_is_gone_fails_every_request(tmp_path: Path) -> None:
    with scripted() as chat:
        url = chat.url
    seen = Level(tmp_path, url, planned=100, users=2).run()
    assert {(one.ending, one.words) for one in seen.requests} == {("failed", "connection refused")}
    assert 8 <= len(seen.requests) < 100


def test_what_is_in_flight_at_the_end_is_counted(tmp_path: Path) -> None:
    with scripted([GOOD], [HEAD, token(), HANG], [HANG]) as chat:

        def clock() -> float:  # time is over when each of the three waits: whose answer is good asks three times
            return time.monotonic() + (ENDLESS_S if len(chat.bodies) >= 5 else 0.0)

        level = Level(tmp_path, chat.url, planned=9, users=3, clock=clock)
        level.watcher.drain_s = 0.3
        seen = level.run()
    assert sorted(one.ending for one in seen.requests) == ["answered"] * 2 + ["open"] * 3
    assert seen.is_cut
    assert len(level.lines) == 2 * len(seen.requests)  # each that has begun has an end


@pytest.mark.parametrize(
    ("answer", "keeps"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"], True),
        ([b"HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n"], True),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5, max=100\r\n\r\n{}"], False),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", CLOSE], False),
        ([b"HTTP/1.0 200 OK\r\n\r\n{}", CLOSE], False),
        ([CLOSE], False),
        ([b"220 smtp\r\n"], False),
    ],
)
def test_a_server_is_asked_whether_it_keeps_connections(answer: Sequence[bytes], *, keeps: bool) -> None:
    with scripted(answer) as chat:
        assert server_keeps(server(chat.url), get(f"{chat.url}/v1/models", {})) is keeps
