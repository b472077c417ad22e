"""Several processes share a level's users: every request once, one account, and a failure that is told."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from itertools import chain, count, islice
from pathlib import Path

import psutil
import pytest

from fakes.scripted_chat import GOOD, HANG, HEAD, scripted, token
from pipeline.bench import ledger, workers
from pipeline.bench.connection import server
from pipeline.bench.wire import Prepared, get, prepare
from pipeline.bench.workers import Level, Means, Prompts, Share, WorkerDied
from pipeline.core.requests import Measurement


def level(path: Path, planned: int, users: int, max_time_s: float = 600.0, drain_s: float = 600.0) -> Level:
    def write(line: str) -> None:
        with path.open("a") as file:
            file.write(line)

    return Level(planned, users, max_time_s, drain_s, write)


def means(url: str, made: int, make: Callable[[], Prepared] | None = None) -> Means:
    """`made` numbered prompts, and `make` for more."""

    def numbered(number: int) -> Prepared:
        return prepare(f"{url}/v1/chat/completions", {}, {"max_tokens": 2, "ignore_eos": True, "number": number})

    more = (numbered(number) for number in count(1000))
    prompts = Prompts([numbered(number) for number in range(made)], make or (lambda: next(more)))
    return Means(prompts, lambda: server(url), len, get(f"{url}/v1/models", {}))


@pytest.mark.parametrize(("users", "planned", "number"), [(5, 17, 2), (3, 3, 3), (7, 100, 4), (2, 1, 2), (512, 4, 3)])
def test_each_request_is_one_workers_and_shares_follow_the_users(users: int, planned: int, number: int) -> None:
    whole = Level(planned, users, 1.0, 1.0, print)
    shares = [Share(worker, number, whole) for worker in range(number)]
    assert sum(share.users for share in shares) == users
    dealt = [[*islice(share.numbers(), share.planned)] for share in shares]
    assert sorted(chain(*dealt)) == [*range(planned)]
    rounds = planned // users
    assert all(rounds * share.users <= share.planned <= (rounds + 1) * share.users for share in shares)


@pytest.mark.parametrize(
    ("users", "cores", "number"),
    [(1, 8, 1), (512, 8, 1), (513, 8, 2), (4000, 8, 7), (4000, 2, 1), (4000, 1, 1)],
)
def test_as_many_as_the_users_take_but_a_core_is_the_servers(users: int, cores: int, number: int) -> None:
    assert workers.enough(users, cores) == number


@pytest.mark.parametrize("number", [1, 2, 3, 9])
def test_the_result_is_one_however_many_measure(number: int, tmp_path: Path) -> None:
    path = tmp_path / ledger.NAME
    with scripted([GOOD]) as chat:
        workers.run(level(path, planned=17, users=5), number, means(chat.url, made=17))
        asked = Counter(json.loads(body)["number"] for body in chat.bodies if body)
    seen = ledger.read(path)
    assert seen is not None
    assert asked == Counter(range(17))
    assert (seen.planned, len(seen.requests), seen.is_cut) == (17, 17, False)
    assert {(one.ending, one.fault) for one in seen.requests} == {("answered", None)}
    assert seen.client is not None
    assert (seen.client.workers, seen.client.users) == (min(number, 5), 5)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(line["begin"] for line in lines if "begin" in line) == [*range(17)]


def test_prompts_that_were_not_made_before_are_made_then(tmp_path: Path) -> None:
    path = tmp_path / ledger.NAME
    with scripted([GOOD]) as chat:
        workers.run(level(path, planned=6, users=2), 1, means(chat.url, made=4))
        asked = {json.loads(body)["number"] for body in chat.bodies if body}
    assert asked == {0, 1, 2, 3, 1000, 1001}
    seen = ledger.read(path)
    assert seen is not None
    assert seen.notes[0].startswith("2 prompts were made while the level ran")


def test_what_is_in_flight_in_any_worker_at_the_end_is_counted(tmp_path: Path) -> None:
    def measured(max_time_s: float) -> Measurement:
        path = tmp_path / f"{max_time_s}.jsonl"
        with scripted([HEAD, token(), HANG]) as chat:
            part = level(path, planned=9, users=3, max_time_s=max_time_s, drain_s=0.3)
            workers.run(part, 2, means(chat.url, made=9))
        found = ledger.read(path)
        assert found is not None
        return found

    tries = map(measured, (0.3, 3.0, 30.0))  # longer where a busy machine has not sent all three in time
    seen = next((one for one in tries if len(one.requests) == 3), None)
    assert seen is not None
    assert [one.ending for one in seen.requests] == ["open"] * 3
    assert seen.is_cut


def test_a_worker_that_dies_fails_the_level_with_words(tmp_path: Path) -> None:
    """One of two; the other one, whose requests are never answered, is ended too."""
    path, flag = tmp_path / ledger.NAME, tmp_path / "first"
    before = psutil.Process().children(recursive=True)
    with scripted([HANG]) as chat:

        def make() -> Prepared:
            try:
                flag.touch(exist_ok=False)
            except FileExistsError:
                return prepare(f"{chat.url}/v1/chat/completions", {}, {})
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        with pytest.raises(WorkerDied, match=r"worker \d of 2 of the load generator ended early: killed by SIGKILL; "):
            workers.run(level(path, planned=9, users=4), 2, means(chat.url, 0, make))
    assert ledger.read(path) is None
    assert {*psutil.Process().children(recursive=True)} <= {*before}


@pytest.mark.parametrize("words", ["oh", "oh\n"], ids=["words", "a line"])
def test_a_worker_that_raises_says_what(tmp_path: Path, words: str) -> None:
    def make() -> Prepared:
        raise ZeroDivisionError(words)

    with scripted([GOOD]) as chat, pytest.raises(WorkerDied, match="exit code 1: ZeroDivisionError: oh"):
        workers.run(level(tmp_path / ledger.NAME, planned=9, users=4), 2, means(chat.url, 0, make))
