"""When requests are sent in an open loop, and how it is told that a server does not keep up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean, pstdev
from typing import Any

import pytest

from pipeline.core import arrivals
from pipeline.core.arrivals import Arrivals, Span

RATE = 8.0
COUNT = 2000


def gaps(times: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


def test_constant_arrivals_are_equally_far_apart() -> None:
    times = arrivals.times("constant", RATE, 5)
    assert times == (0.0, 0.125, 0.25, 0.375, 0.5)


def test_poisson_arrivals_have_the_mean_rate_and_exponential_gaps() -> None:
    """An exponential distribution: its deviation is its mean, and a share of 1 - 1/e is shorter than that."""
    found = gaps(arrivals.times("poisson", RATE, COUNT, seed=3))
    assert min(found) > 0
    assert fmean(found) == pytest.approx(1 / RATE)
    assert pstdev(found) == pytest.approx(1 / RATE, rel=0.1)
    shorter = sum(gap < 1 / RATE for gap in found) / len(found)
    assert shorter == pytest.approx(1 - 1 / math.e, abs=0.04)


def test_the_seed_decides_the_arrivals() -> None:
    first, again, other = (arrivals.times("poisson", RATE, 50, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first[0] == other[0] == 0.0


def test_a_trace_keeps_its_pattern_at_another_rate() -> None:
    recorded = (10.0, 11.0, 14.0)
    assert arrivals.mean_rate(recorded) == 0.5
    assert arrivals.times("trace", 0.5, 3, recorded=recorded) == (0.0, 1.0, 4.0)
    assert arrivals.times("trace", 2.0, 3, recorded=recorded) == (0.0, 0.25, 1.0)


def test_one_request_is_sent_at_once() -> None:
    assert arrivals.times("poisson", RATE, 1) == (0.0,)


def served(
    rate: float, slots: int, takes_s: float, *, for_s: float = 60.0, how: Any = "poisson", seed: int = 1
) -> list[Span]:
    """What a server of so many slots does with the arrivals: first come, first served."""
    times = arrivals.times(how, rate, round(rate * for_s), seed=seed)
    free = [0.0] * slots
    spans = []
    for at_s in times:
        begin = max(at_s, min(free))
        free[free.index(min(free))] = begin + takes_s
        spans.append(Span(at_s, begin + takes_s))
    return spans


def seen(spans: Sequence[Span], rate: float) -> Arrivals:
    found = arrivals.seen(spans, rate)
    assert found is not None
    return found


@pytest.mark.parametrize("how", ["constant", "poisson"])
@pytest.mark.parametrize(("rate", "keeps_up"), [(2.0, True), (7.0, True), (12.0, False), (20.0, False), (100.0, False)])
def test_a_queue_that_grows_without_bound_is_seen(how: str, rate: float, keeps_up: bool) -> None:
    """Ten slots of a second: ten requests per second."""
    assert seen(served(rate, 10, 1.0, how=how), rate).keeps_up is keeps_up


@pytest.mark.parametrize("slots", [1, 4, 10])
def test_a_server_that_can_just_do_it_is_never_said_to_be_too_slow(slots: int) -> None:
    """Its queue may be long for a while, but it is served faster than it comes."""
    rate = 0.95 * slots / 0.36
    assert not any(seen(served(rate, slots, 0.36, seed=seed), rate).keeps_up is False for seed in range(50))


def test_a_queue_that_did_not_grow_in_the_second_half_is_seen_by_its_pace() -> None:
    """As a real llama.cpp had it: one slot of 0.36 s, four requests per second, for 12 s."""
    found = [seen(served(4.0, 1, 0.36, for_s=12.0, seed=seed), 4.0) for seed in range(50)]
    assert not any(one.keeps_up for one in found)
    assert sum(one.keeps_up is False for one in found) >= 45


def test_long_requests_are_no_queue() -> None:
    """Ever more are open while the first ones run, though nothing waits: that says nothing."""
    assert seen(served(4.0, 10_000, 50.0), 4.0).keeps_up is None
    assert seen(served(4.0, 10_000, 10.0), 4.0).keeps_up is True


def test_a_queue_is_seen_though_single_requests_take_as_long_as_the_sending() -> None:
    assert seen(served(20.0, 4, 13.0, for_s=20.0), 20.0).keeps_up is False
    assert seen(served(20.0, 4, 7.0, for_s=20.0), 20.0).keeps_up is False


def test_a_few_requests_say_nothing() -> None:
    assert seen(served(0.3, 1, 1.0, how="constant"), 0.3).keeps_up is None


def test_what_never_ended_counts_as_open() -> None:
    spans = [replace(one, ended_s=None) if number % 2 else one for number, one in enumerate(served(10.0, 100, 0.1))]
    found = seen(spans, 10.0)
    assert found.keeps_up is False
    assert found.in_flight_max >= 300


def test_how_many_are_open_is_counted() -> None:
    found = seen([Span(0.0, 3.0), Span(1.0, 1.5), Span(2.0, None), Span(4.0, 5.0)], 0.75)
    assert (found.in_flight_max, found.in_flight_half, found.in_flight_end) == (2, 2, 2)
    assert found.in_flight_mean == pytest.approx((3 + 0.5 + 2) / 4)
    assert found.sent_per_s == pytest.approx(0.75)


def test_a_sender_that_fell_behind_says_so() -> None:
    punctual = [Span(number / 10, number / 10 + 0.1, late_s=0.001) for number in range(100)]
    assert [*arrivals.told(seen(punctual, 10.0))] == []
    late = [replace(one, late_s=0.2) for one in punctual]
    assert "the load generator fell behind: it sent 10 of 10 requests/s, up to 200 ms late" in " ".join(
        arrivals.told(seen(late, 10.0))
    )
    slow = [Span(number / 5, number / 5 + 0.1) for number in range(100)]
    assert "it sent 5 of 10 requests/s" in " ".join(arrivals.told(seen(slow, 10.0)))


def test_what_was_held_back_is_not_the_senders_delay() -> None:
    spans = [Span(number / 10, number / 10 + 0.1, late_s=3.0, is_held=True) for number in range(100)]
    found = seen(spans, 10.0)
    assert (found.held_back, found.held_back_s, found.late_max_s) == (100, 3.0, 0.0)
    assert "traffic.max_in_flight held back 100 requests, up to 3 s" in " ".join(arrivals.told(found))


def test_nothing_sent_is_nothing_seen() -> None:
    assert arrivals.seen([], RATE) is None
