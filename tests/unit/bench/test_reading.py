"""When something came, by the kernel's clock, and how sure that is; all times are the test's own."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.scripted_chat import DONE, HEAD, LAST, token, usage
from pipeline.bench.reading import SLICE, Exchange, Reader
from pipeline.bench.watcher import Watcher
from pipeline.bench.wire import Prepared, Response

SHIFT_S = 1000.0  # the kernel's clock is ahead of ours
FIRST, SECOND, END = HEAD + token(), token(finish="length"), usage(2) + DONE + LAST


class Level:
    """One request, sent at 100 s, whose answer is read."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.free: list[Exchange] = []
        self.watcher = Watcher(1, 1, 1.0, print, clock=lambda: 500.0)
        self.reader = Reader(self.watcher, self.free.append)
        request = self.watcher.begin(Prepared(b"", 2, is_exact=True))
        self.watcher.sent(request, 100.0)
        self.exchange = Exchange(request, Prepared(b""), Response(request.answer), None)

    def come(self, data: bytes, at_s: float | None, *, read_s: float, busy_s: float = 0.0) -> None:
        stamp = None if at_s is None else at_s + SHIFT_S
        self.reader.keep(self.exchange, (data, stamp, read_s, busy_s, SHIFT_S))

    def end(self) -> None:
        self.exchange.is_over = True
        self.reader.end([self.exchange])

    @property
    def times(self) -> list[float]:
        return self.exchange.request.answer.times


def test_what_was_read_late_came_when_the_kernel_says() -> None:
    level = Level()
    level.come(FIRST, 100.04, read_s=100.5)
    level.come(SECOND + END, 100.06, read_s=100.6)
    level.end()
    assert level.times == pytest.approx([100.04, 100.06])
    assert level.exchange.request.lag_s == pytest.approx(0.54)
    assert level.watcher.lags.quantile(1.0) == pytest.approx(0.54, rel=0.1)
    assert level.watcher.unsure.quantile(1.0) == 0.0


def test_a_first_token_that_was_read_late_with_others_is_unsure() -> None:
    level = Level()
    level.come(FIRST + SECOND, 100.06, read_s=100.1)
    level.come(END, 100.1, read_s=100.1)
    level.end()
    assert level.watcher.unsure.quantile(1.0) == pytest.approx(0.04, rel=0.1)


def test_without_the_kernels_word_it_came_when_it_was_read() -> None:
    """It may have been there for as long as the loop did not look."""
    level = Level()
    level.come(FIRST, None, read_s=100.05, busy_s=0.02)
    level.come(SECOND + END, None, read_s=100.07)
    level.end()
    assert level.times == pytest.approx([100.05, 100.07])
    assert level.watcher.unsure.quantile(1.0) == pytest.approx(0.02, rel=0.1)


def test_a_clock_that_was_set_makes_no_time_before_the_request_or_after_the_reading() -> None:
    level = Level()
    level.come(FIRST, 20.0, read_s=100.05)
    level.come(SECOND + END, 900.0, read_s=100.07)
    level.end()
    assert level.times == pytest.approx([100.0, 100.07])


def test_a_long_answer_is_parsed_a_little_at_a_time() -> None:
    level = Level()
    level.come(HEAD, 100.0, read_s=100.0)
    for _ in range(2 * SLICE):
        level.come(token(), 100.0, read_s=100.0)
    level.reader.queue(level.exchange)
    level.reader.parse_some()
    assert len(level.times) == SLICE - 1
    assert level.reader.kept == len(level.exchange.pieces) == SLICE + 1
    level.reader.parse_some()
    assert level.reader.todo  # it waits for its turn again


def test_so_much_may_wait_that_it_is_parsed_at_once() -> None:
    level = Level()
    assert not level.reader.is_full
    level.reader.kept = 10**6
    assert level.reader.is_full
