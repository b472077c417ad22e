"""Looking again and again beside a measurement: how often, how dear, and that nobody waits for it."""

import threading
import time
from itertools import count, pairwise

import pytest

from pipeline.machine import process, sampler
from pipeline.machine.sampler import MOST, Sampler


class Clock:
    """A clock that a look moves on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def looked(times: int, *, takes_s: float = 0.0) -> Sampler[int]:
    """A sampler that has looked so many times, without its thread."""
    clock, numbers = Clock(), count()

    def look() -> int:
        clock.now += takes_s
        return next(numbers)

    made = Sampler(look, clock)
    for _ in range(times):
        clock.now += made.pause_s
        made.once()
        made.cpu_s = 0.0  # of this machine: the test has a clock of its own
    return made


def test_samples_come_with_the_time_since_the_begin() -> None:
    ended = threading.Event()

    def look() -> str:
        ended.set()
        return "seen"

    made = Sampler(look)
    made.start()
    assert ended.wait(60)
    assert process.wait_until(lambda: bool(made.samples), timeout_s=180)
    (at_s, seen), *_ = made.end()
    assert seen == "seen"
    assert at_s > 0


def test_after_the_end_nothing_is_looked_at() -> None:
    made = looked(3)
    made.end()
    made.once()
    assert [seen for _, seen in made.samples] == [0, 1, 2]


def test_one_that_was_never_started_has_no_samples() -> None:
    assert Sampler(lambda: 1).end() == ()


def test_the_end_does_not_wait_for_a_look_that_hangs() -> None:
    begun, freed = threading.Event(), threading.Event()

    def look() -> int:
        begun.set()
        freed.wait()
        return 1

    made = Sampler(look)
    made.start()
    assert begun.wait(60)
    assert made.end() == ()
    freed.set()
    made._thread.join()
    assert (made.samples, made.looks) == ([], 0)  # it came too late to be one


def test_the_last_look_waits_for_a_thread_that_is_held_up() -> None:
    """By a busy machine, in its pause."""
    paused, freed = threading.Event(), threading.Event()

    class HeldUp(Sampler[int]):
        @property
        def pause_s(self) -> float:
            paused.set()
            freed.wait(60)
            return 60.0

    made = HeldUp(lambda: 1)
    made.once()
    made.start()
    assert paused.wait(60)
    threading.Timer(2 * sampler.LEAVE_S, freed.set).start()
    assert [seen for _, seen in made.finish()] == [1, 1]


def test_a_short_level_is_looked_at_soon_and_a_long_one_once_a_second() -> None:
    made = looked(10)
    assert made.samples[0][0] == pytest.approx(0.25)
    assert made.pause_s == sampler.INTERVAL_S


def test_looks_that_take_long_become_rare() -> None:
    made = looked(20, takes_s=2.0)
    assert made.pause_s == pytest.approx(2.0 / sampler.WAIT_SHARE)


def test_looks_that_cost_a_core_become_rare() -> None:
    made = looked(4)
    made.cpu_s = 4 * 0.05  # as its thread's clock would have counted
    assert made.pause_s == pytest.approx(0.05 / sampler.SHARE)


def test_a_long_level_keeps_few_samples_all_over_its_time() -> None:
    made = looked(1000)
    times = [at_s for at_s, _ in made.samples]
    assert MOST / 2 <= len(times) <= MOST
    assert times[0] < 1
    assert times[-1] > 0.9 * (made.clock() - made.started_s)
    gaps = [after - before for before, after in pairwise(times)]
    assert max(gaps[5:]) <= 2.1 * min(gaps[5:])


def test_what_is_none_is_no_sample() -> None:
    made: Sampler[int] = Sampler(lambda: None)
    made.once()
    assert (made.looks, made.samples) == (1, [])


def test_its_own_time_is_that_of_its_thread() -> None:
    def work() -> int:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        return 1

    made = Sampler(work)
    made.once()
    assert made.cpu_s >= 0.02
