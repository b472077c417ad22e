"""An open loop on real connections: a server that does not answer does not hold back what is sent."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fakes.scripted_chat import GOOD, HANG, ScriptedChat, scripted
from pipeline.bench import ledger, workers
from pipeline.bench.connection import server
from pipeline.bench.watcher import HOPELESS
from pipeline.bench.wire import Prepared, get, prepare
from pipeline.bench.workers import Level, Means, Prompts
from pipeline.core.requests import Measurement
from pipeline.machine import process

ENDLESS_S = 600.0
EVENLY = tuple(number / 100 for number in range(20))


def measured(path: Path, url: str, times: Sequence[float], number: int = 1, **given: Any) -> Measurement:
    """The account of requests sent at these times by so many workers."""

    def write(line: str) -> None:
        with path.open("a") as file:
            file.write(line)

    def numbered(number: int) -> Prepared:
        return prepare(f"{url}/v1/chat/completions", {}, {"max_tokens": 2, "ignore_eos": True, "number": number})

    prompts = Prompts([numbered(number) for number in range(len(times))], lambda: numbered(-1))
    means = Means(prompts, lambda: server(url), len, get(f"{url}/v1/models", {}))
    level = Level(len(times), 0, ENDLESS_S, ENDLESS_S, write, times=times, rate=100.0, **given)
    workers.run(level, number, means)
    seen = ledger.read(path)
    assert seen is not None
    return seen


@contextmanager
def silent_until(chat: ScriptedChat, requests: int) -> Iterator[None]:
    """The server ends every connection when it has so many requests, and answers none before."""

    def release() -> None:
        if process.wait_until(lambda: sum(map(bool, chat.bodies)) >= requests, timeout_s=ENDLESS_S):
            chat.closing.set()

    thread = threading.Thread(target=release)
    thread.start()
    yield
    thread.join()


@pytest.mark.parametrize("number", [1, 3])
def test_all_is_sent_though_nothing_is_answered(number: int, tmp_path: Path) -> None:
    """With users that wait, the server would wait for ever for the second one."""
    with scripted([HANG]) as chat, silent_until(chat, len(EVENLY)):
        seen = measured(tmp_path / ledger.NAME, chat.url, EVENLY, number)
    assert (seen.planned, len(seen.requests)) == (20, 20)
    assert {one.ending for one in seen.requests} <= {"failed", "stopped"}
    assert seen.arrivals is not None
    assert seen.arrivals.in_flight_max == 20
    assert (seen.arrivals.rate, seen.arrivals.held_back) == (100.0, 0)


@pytest.mark.parametrize("number", [1, 2])
def test_each_request_is_sent_once_and_not_before_its_time(number: int, tmp_path: Path) -> None:
    path = tmp_path / ledger.NAME
    with scripted([GOOD]) as chat:
        seen = measured(path, chat.url, EVENLY, number)
        asked = Counter(json.loads(body)["number"] for body in chat.bodies if body)
    assert asked == Counter(range(20))
    assert {(one.ending, one.fault) for one in seen.requests} == {("answered", None)}
    lines = [line for line in map(json.loads, path.read_text().splitlines()) if "begin" in line]
    due = {line["begin"]: line["due_s"] for line in lines}
    assert [due[number] for number in range(20)] == pytest.approx(EVENLY)
    assert all(line["at_s"] >= line["due_s"] - 1e-6 and line["late_s"] >= 0 for line in lines)
    assert seen.client is not None
    assert (seen.client.users, seen.client.idle_share, seen.client.workers) == (0, 0.0, number)


def test_a_limit_of_open_requests_is_kept_and_told(tmp_path: Path) -> None:
    with scripted([GOOD]) as chat:
        seen = measured(tmp_path / ledger.NAME, chat.url, [0.0] * 12, max_in_flight=2)
    assert [one.ending for one in seen.requests] == ["answered"] * 12
    assert seen.arrivals is not None
    assert seen.arrivals.in_flight_max <= 2
    assert seen.arrivals.held_back >= 10


def test_a_server_that_fails_every_request_ends_the_level(tmp_path: Path) -> None:
    refused = [b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"]
    times = [0.0] * 12 + [ENDLESS_S / 2]
    with scripted(refused) as chat:
        seen = measured(tmp_path / ledger.NAME, chat.url, times)
    assert len(seen.requests) == 12  # all that were due; the last one was not waited for
    failed = [one.cause for one in seen.requests if one.ending == "failed"]
    assert len(failed) >= HOPELESS  # an answer that comes later than that may find the level over
    assert {*failed} == {"503"}
