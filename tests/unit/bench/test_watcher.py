"""The watcher of a level: what it writes of each request, and when a level is over; read back by the ledger."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench import ledger, watcher
from pipeline.bench.watcher import Request, Tally, Watcher
from pipeline.bench.wire import Prepared
from pipeline.core.errors import BenchFailed
from pipeline.core.requests import Measurement


@dataclass
class Level:
    """A watcher on a clock of the test's own, and its file."""

    path: Path
    planned: int = 4
    users: int = 2
    now: float = 100.0
    watcher: Watcher = field(init=False)

    def __post_init__(self) -> None:
        self.path.write_text(watcher.opening(self.planned, 1.0))
        self.watcher = Watcher(self.planned, self.users, 1.0, self.write, clock=lambda: self.now)

    def write(self, line: str) -> None:
        with self.path.open("a") as file:
            file.write(line)

    def begin(self, max_tokens: int = 4, *, ignore_eos: bool = True) -> Request:
        made = self.watcher.begin(Prepared(b"", max_tokens, ignore_eos))
        self.watcher.sent(made, self.now)
        return made

    def say(self, request: Request, *pieces: str, every_s: float = 0.1, finish: str | None = "length") -> None:
        """The server sends text, a piece each `every_s`."""
        for index, text in enumerate(pieces):
            self.now += every_s
            request.heard_s = self.now
            reason = finish if index == len(pieces) - 1 else None
            chunk = {"choices": [{"delta": {"content": text}, "finish_reason": reason}]}
            request.answer.read(f"data: {json.dumps(chunk)}".encode(), self.now)

    def end(self, request: Request, tokens: int | None = 4, *, is_done: bool = True) -> None:
        """The server ends its answer, with its own count."""
        if tokens is not None:
            usage = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": tokens}}
            request.answer.read(f"data: {json.dumps(usage)}".encode(), self.now)
        if is_done:
            request.answer.read(b"data: [DONE]", self.now)
        self.watcher.answered(request)

    def answer(self, tokens: int | None = 4, **payload: Any) -> None:
        made = self.begin(**payload)
        self.say(made, *"abcd")
        self.end(made, tokens)

    def close(self) -> Measurement:
        self.write(watcher.closing([{**self.watcher.close(len), "keeps": True, "late_prompts": 0}], self.users))
        seen = ledger.read(self.path)
        assert seen is not None
        return seen


@pytest.fixture
def level(tmp_path: Path) -> Level:
    return Level(tmp_path / ledger.NAME)


def test_a_whole_level_tells_times_and_tokens(level: Level) -> None:
    for _ in range(4):
        level.answer()
    assert level.watcher.is_over
    seen = level.close()
    assert (seen.planned, len(seen.requests), seen.is_cut) == (4, 4, False)
    assert seen.run_duration_s == pytest.approx(1.6)
    one = seen.requests[0]
    assert (one.ttft_s, one.tpot_s, one.e2e_s) == pytest.approx((0.1, 0.1, 0.4))
    assert (one.input_tokens, one.output_tokens, one.fault, one.is_in_one_piece) == (9, 4, None, False)


def test_cached_tokens_reach_who_reads_the_ledger(level: Level) -> None:
    request = level.begin()
    level.say(request, *"abcd")
    request.answer.cached_tokens = 5
    level.end(request)
    level.answer()
    assert [one.cached_tokens for one in level.close().requests] == [5, None]


def test_no_more_begin_than_were_planned(level: Level) -> None:
    for _ in range(4):
        assert level.watcher.admits
        level.begin()
    assert not level.watcher.admits


def test_tokens_that_came_with_the_first_piece_are_not_decoded_after_it(level: Level) -> None:
    """Three tokens a chunk, 20 ms each: 15 ms by genai-bench's formula."""
    made = level.begin(max_tokens=12)
    level.say(made, *["abc"] * 4, every_s=0.06)
    level.end(made, 12)
    assert level.close().requests[0].tpot_s == pytest.approx(0.02)


def test_an_answer_that_a_proxy_held_back_is_in_one_piece(level: Level) -> None:
    made = level.begin()
    level.now += 0.5
    level.say(made, *"abcd", every_s=0.0)
    level.end(made)
    one = level.close().requests[0]
    assert one.is_in_one_piece
    assert one.tpot_s is None
    assert one.ttft_s == pytest.approx(0.5)


def test_a_burst_that_the_scheduler_broke_once_is_in_one_piece(level: Level) -> None:
    made = level.begin()
    level.now += 0.5
    level.say(made, *"abc", every_s=0.0)
    level.say(made, "d", every_s=0.004)
    level.end(made)
    assert level.close().requests[0].is_in_one_piece


def test_two_bursts_at_the_servers_pace_tell_it(level: Level) -> None:
    made = level.begin(max_tokens=8)
    for _ in range(2):
        level.now += 0.4
        level.say(made, *"abcd", every_s=0.0)
    level.end(made, 8)
    one = level.close().requests[0]
    assert not one.is_in_one_piece
    assert one.tpot_s == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("payload", "tokens", "finish", "fault"),
    [
        ({}, 3, "length", None),  # it does not count the last of its four pieces
        ({"max_tokens": 5}, 3, "length", "3 of 5 tokens"),
        ({"max_tokens": 5}, 5, "length", None),
        ({"max_tokens": 5}, 5, None, "the server counts 5 tokens, its text has 4"),
        ({"max_tokens": 9}, 9, "length", "the server counts 9 tokens, its text has 4"),
        ({}, 4, None, None),
        ({"ignore_eos": False}, 3, "stop", None),
        ({"ignore_eos": False}, 4, None, "no finish reason"),
        ({}, 90, "length", "the server counts 90 tokens, its text has 4"),
        ({"ignore_eos": False}, 1, "stop", "the server counts 1 tokens, its text came in 4 pieces"),
        ({}, 6, "length", "the server counts 6 tokens, its text has 4"),
        ({}, 5, "length", None),
        ({"ignore_eos": False}, 4, "abort", "finish reason abort"),
        ({}, 4, "error", "finish reason error"),
        ({"max_tokens": 2}, None, "length", "4 pieces, where at most 2 tokens were asked for"),
        ({}, None, "length", None),
        ({"max_tokens": 5}, None, "length", "4 of 5 tokens"),
    ],
)
def test_an_answer_that_is_not_as_asked_is_at_fault(
    level: Level, payload: dict[str, Any], tokens: int | None, finish: str | None, fault: str | None
) -> None:
    made = level.begin(**payload)
    level.say(made, *"abcd", finish=finish)
    level.end(made, tokens)
    assert level.close().requests[0].fault == fault


def test_tokens_that_the_server_does_not_count_are_counted_after_the_level(level: Level) -> None:
    level.answer(None)
    seen = level.close()
    assert seen.requests[0].output_tokens == 4
    assert "1 answers came without usage" in seen.notes[0]


def test_a_missing_done_is_noted_and_costs_nothing(level: Level) -> None:
    made = level.begin()
    level.say(made, *"abcd")
    level.end(made, is_done=False)
    seen = level.close()
    assert (seen.requests[0].ending, seen.requests[0].fault) == ("answered", None)
    assert seen.notes == ("1 answers ended without [DONE]",)


def test_what_is_open_at_the_end_is_told_with_its_age(level: Level) -> None:
    level.answer()
    made = level.begin()
    level.say(made, "a")
    level.now += 5.0
    seen = level.close()
    assert seen.is_cut
    one = seen.requests[1]
    assert (one.ending, one.ttft_s) == ("open", 0.0)
    assert (one.open_s, one.silent_s) == pytest.approx((5.1, 5.0))
    assert seen.run_duration_s == pytest.approx(5.5)


def test_an_answer_that_lacks_nothing_but_done_is_no_open_request(level: Level) -> None:
    made = level.begin()
    level.say(made, *"abcd")
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}'
    made.answer.read(usage, level.now)
    level.now += 30.0
    assert level.close().requests[0].ending == "answered"


def test_what_ends_after_the_level_is_not_told_twice(level: Level) -> None:
    made = level.begin()
    level.close()
    level.watcher.failure(made, "failed", "connection_reset", "the connection was reset")
    seen = ledger.read(level.path)
    assert seen is not None
    assert [one.ending for one in seen.requests] == ["open"]


def test_a_level_whose_requests_all_fail_is_over_soon(tmp_path: Path) -> None:
    level = Level(tmp_path / ledger.NAME, planned=100)
    for _ in range(watcher.HOPELESS):
        assert not level.watcher.is_over
        level.watcher.failure(level.begin(), "failed", "stream_error", "engine dead")
    level.begin()
    assert level.watcher.is_over
    seen = level.close()
    assert [one.ending for one in seen.requests] == ["failed"] * 8 + ["stopped"]
    assert not seen.is_cut


def test_a_request_that_waits_longer_than_others_failed_keeps_the_level_going(tmp_path: Path) -> None:
    """A full server refuses some at once, while it answers those that it took."""
    level = Level(tmp_path / ledger.NAME, planned=100)
    level.begin()
    level.now += 5.0
    for _ in range(20):
        level.watcher.failure(level.begin(), "failed", "503", "no room")
    assert not level.watcher.is_over


def test_one_good_answer_keeps_the_level_going(tmp_path: Path) -> None:
    level = Level(tmp_path / ledger.NAME, planned=100)
    level.answer()
    for _ in range(50):
        level.watcher.failure(level.begin(), "failed", "500", "engine dead")
    assert not level.watcher.is_over


def test_a_level_that_was_killed_has_no_measurement(level: Level) -> None:
    level.answer()
    assert ledger.read(level.path) is None
    with level.path.open("a") as file:
        file.write('{"end": 7, "how": "answ')
    assert ledger.read(level.path) is None


def test_a_level_without_a_ledger_has_no_measurement(tmp_path: Path) -> None:
    assert ledger.read(tmp_path / ledger.NAME) is None


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / ledger.NAME).write_text('{"closed": "whole"}\n')
    with pytest.raises(BenchFailed, match=r"Cannot read .*requests.jsonl: StopIteration"):
        ledger.read(tmp_path / ledger.NAME)


def test_our_own_lag_is_told_with_the_request_that_it_hit(level: Level) -> None:
    made = level.begin()
    for lag_s in (9.0, 0.4, 0.1):
        level.watcher.lags.add(lag_s)
    made.lag_s = 0.4
    level.say(made, *"abcd")
    level.end(made)
    seen = level.close()
    assert seen.requests[0].lag_s == 0.4
    assert seen.client is not None
    assert seen.client.lag_max_s == pytest.approx(9.0, rel=0.1)


def test_a_request_that_waits_for_its_connection_is_in_the_ledger(level: Level) -> None:
    level.answer()
    level.watcher.begin(Prepared(b"", 4, is_exact=True))
    level.now += 2.0
    seen = level.close()
    assert [(one.ending, one.open_s) for one in seen.requests] == [("answered", 0.0), ("open", pytest.approx(2.0))]


def test_the_clock_starts_when_the_request_is_written(level: Level) -> None:
    made = level.watcher.begin(Prepared(b"", 4, is_exact=True))
    level.now += 7.0  # until there is a connection
    level.watcher.sent(made, level.now)
    level.say(made, *"abcd")
    level.end(made)
    assert level.close().requests[0].ttft_s == pytest.approx(0.1)


def test_one_worker_without_an_answer_goes_on_while_another_has_some(tmp_path: Path) -> None:
    places = [0, 0, 0, 0]
    level = Level(tmp_path / ledger.NAME, planned=100)
    level.watcher.tally = Tally(places, 1)
    for _ in range(50):
        level.watcher.failure(level.begin(), "failed", "500", "engine dead")
    assert level.watcher.is_over
    Tally(places, 0).add(failed=False)
    assert not level.watcher.is_over


def test_the_parts_of_the_workers_are_one_account() -> None:
    part = {
        "how": "whole", "begun": 3, "duration_s": 2.0, "cpu_share": 0.2, "waited_s": 0.1, "resent": 0, "keeps": True,
        "late_prompts": 0,
        "lags": {"0": 97}, "unsure": {"0": 97},
    }  # fmt: skip
    other = {**part, "how": "cut", "begun": 2, "duration_s": 4.0, "cpu_share": 0.5, "lags": {"0": 1, "80": 2}}
    told = json.loads(watcher.closing([part, other], users=5))
    assert (told["closed"], told["begun"], told["duration_s"]) == ("cut", 5, 4.0)
    client = told["client"]
    assert (client["workers"], client["users"], client["cpu_share"]) == (2, 5, 0.5)
    assert client["idle_share"] == pytest.approx(0.2 / (5 * 4.0))
    assert client["lag_p99_s"] == client["lag_max_s"] == pytest.approx(1e-5 * 2**10)
    assert client["unsure_p99_s"] == 0.0
