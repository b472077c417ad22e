"""When the requests of an open loop are sent, and whether the server kept up with them. Pure; times in seconds.

In an open loop a request is sent at its time, whatever became of those before it, as users of a service do who do not
know of each other. Source: Schroeder, Wierman, Harchol-Balter, Open Versus Closed: A Cautionary Tale, NSDI 2006.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean, median, stdev
from typing import Literal

from pipeline.core.values import value

How = Literal["constant", "poisson", "trace"]
FIRST = 5  # requests whose time tells how long one takes before a queue could grow
FEWEST = 20  # requests by which it can be told whether a queue grows
MARGIN = 0.05  # of the requests that arrive: so many may wait more without the server being too slow
SDS = 2.0  # of the difference of two numbers of open requests, each spread by its root as a Poisson process has it
SHORT, LONG = 0.25, 0.5  # of the time of sending: a request that takes longer hides whether a queue grows
DRAIN = 3.0  # times that of a first request: who takes so long for what is open after the last was sent had a queue
QUEUE = 3.0  # times as many are open as where nobody waits: some do
DRAINED = 8  # requests whose ends tell by themselves how fast a queue is served
LATE_S = 0.05  # after its time; shorter delays of a sender are any scheduler's
BEHIND = 0.98  # of the rate that was asked


@value
class Arrivals:
    """How the requests of a level at a rate were sent, and how many were open meanwhile."""

    rate: float  # that was asked, per second
    sent_per_s: float
    late_p99_s: float  # after their time, those that traffic.max_in_flight held back left out
    late_max_s: float
    held_back: int = 0  # by traffic.max_in_flight
    held_back_s: float = 0.0  # the longest of them
    in_flight_mean: float  # while requests were sent
    in_flight_max: int
    in_flight_half: int  # when half of the time of sending was over
    in_flight_end: int  # when the last request was sent
    keeps_up: bool | None  # None: not to be told from so few, or so long, requests


@dataclass(frozen=True, slots=True)
class Span:
    """One request: since the level began; None: it did not end."""

    sent_s: float
    ended_s: float | None
    late_s: float = 0.0
    is_held: bool = False


def times(how: How, rate: float, count: int, *, seed: int = 0, recorded: Sequence[float] = ()) -> tuple[float, ...]:
    """When each of `count` requests is due, since the level began; the same for the same seed.

    constant: one every 1 / rate. poisson: with exponential gaps. trace: as recorded. The gaps are stretched alike, so
    that their mean is 1 / rate: levels then differ in their rates, and not in their luck.
    """
    if how == "constant":
        return tuple(number / rate for number in range(count))
    if how == "trace":
        return stretched(recorded, rate)
    chance = random.Random(f"{seed} arrivals")  # noqa: S311 - not for secrets
    return stretched([*accumulate((chance.expovariate(1.0) for _ in range(count - 1)), initial=0.0)], rate)


def stretched(recorded: Sequence[float], rate: float) -> tuple[float, ...]:
    """Times from 0 on, as far apart as the rate says."""
    if len(recorded) == 1:
        return (0.0,)
    factor = mean_rate(recorded) / rate
    return tuple((each - recorded[0]) * factor for each in recorded)


def mean_rate(recorded: Sequence[float]) -> float:
    """Requests per second: the gaps between them over the time from first to last."""
    return (len(recorded) - 1) / (recorded[-1] - recorded[0])


def seen(spans: Sequence[Span], rate: float) -> Arrivals | None:
    """What was measured; None where nothing was sent."""
    if not spans:
        return None
    ordered = sorted(spans, key=lambda one: one.sent_s)
    begin, end = ordered[0].sent_s, ordered[-1].sent_s
    late = sorted(one.late_s for one in ordered if not one.is_held) or [0.0]
    held = [one.late_s for one in ordered if one.is_held]
    half = begin + (end - begin) / 2
    return Arrivals(
        rate=rate,
        sent_per_s=(len(ordered) - 1) / (end - begin) if end > begin else rate,
        late_p99_s=late[math.ceil(0.99 * len(late)) - 1],
        late_max_s=late[-1],
        held_back=len(held),
        held_back_s=max(held, default=0.0),
        in_flight_mean=_mean_open(ordered, begin, end),
        in_flight_max=max(_open(ordered)),
        in_flight_half=_open_at(ordered, half),
        in_flight_end=_open_at(ordered, end),
        keeps_up=_keeps_up(ordered, half, rate),
    )


def _keeps_up(ordered: Sequence[Span], half: float, rate: float) -> bool | None:
    """No, if a queue is served more slowly than requests come; where there may be one and it is served fast: None.

    A queue may be there if more requests are open at the end of sending than in the middle, but for what chance does,
    or many times as many as where nobody waits. Where requests take about as long as the sending, what is left at its
    end tells: a queue takes long to be empty.
    """
    begin, end = ordered[0].sent_s, ordered[-1].sent_s
    if len(ordered) < FEWEST:
        return None
    first = sorted(math.inf if one.ended_s is None else one.ended_s - one.sent_s for one in ordered[:FIRST])
    took_s, opened = median(first), _open_at(ordered, end)
    drained_s = max((one.ended_s for one in ordered if one.ended_s is not None), default=end) - end
    is_full = drained_s > DRAIN * took_s
    if took_s > LONG * (end - begin):
        return False if is_full else None
    usual, least = (each * len(ordered) / (end - begin) for each in (took_s, first[1]))  # open, by Little's law
    came = sum(one.sent_s > half for one in ordered)
    is_growing = opened - _open_at(ordered, half) > MARGIN * came + SDS * math.sqrt(2 * usual + 1)
    is_long = opened > QUEUE * least + SDS * math.sqrt(least + 1)
    if is_growing and took_s > SHORT * (end - begin) and not is_full:
        return None
    gap_s, error_s = _served(ordered, end)
    is_slow = (is_growing and gap_s > 1 / rate) or (is_long and gap_s - SDS * error_s > 1 / rate)
    return False if is_slow else None if is_growing or is_long else True


def _served(ordered: Sequence[Span], end: float) -> tuple[float, float]:
    """Seconds between the ends of the first half of those open when the last one was sent, and its standard error.

    The first half: the last ones do not have all of a server's slots full.
    """
    ends = sorted(math.inf if one.ended_s is None else one.ended_s for one in ordered)
    left = [at for at in ends if at > end]
    gaps = [after - before for before, after in pairwise([end, *left[: len(left) // 2]])]
    if math.inf in left[: len(left) // 2]:
        return math.inf, 0.0
    return fmean(gaps or [0.0]), stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) >= DRAINED else math.inf


def _open_at(spans: Sequence[Span], at_s: float) -> int:
    return sum(one.sent_s <= at_s and (one.ended_s is None or one.ended_s > at_s) for one in spans)


def _open(spans: Sequence[Span]) -> Iterator[int]:
    """How many are open, at each beginning and end."""
    steps = [(one.sent_s, 1) for one in spans] + [(one.ended_s, -1) for one in spans if one.ended_s is not None]
    yield from accumulate(change for _, change in sorted(steps))


def _mean_open(spans: Sequence[Span], begin: float, end: float) -> float:
    if end <= begin:
        return float(len(spans))
    return sum(min(end if one.ended_s is None else one.ended_s, end) - one.sent_s for one in spans) / (end - begin)


def is_unsure(found: Arrivals, requests: int) -> bool:
    """Whether another look might say otherwise: more requests were open in the end, but so few that it may be luck."""
    grew = found.in_flight_end - found.in_flight_half
    return found.keeps_up is None or (found.keeps_up and grew > MARGIN * requests / 2)


def told(found: Arrivals) -> Iterator[str]:
    """What a reader of the level must know."""
    rate = f"{found.rate:g} requests/s"
    if found.keeps_up is False:
        yield (
            f"the server does not keep up with {rate}: {found.in_flight_half} requests were open when half of the time "
            f"of sending was over, {found.in_flight_end} when the last one was sent; at this rate the queue grows "
            "without bound"
        )
    if found.keeps_up is None:
        yield (
            f"too short to tell whether the server keeps up with {rate}: send for longer "
            "(traffic.arrivals_s, traffic.min_requests; or a longer trace)"
        )
    if found.held_back:
        yield (
            f"traffic.max_in_flight held back {found.held_back} requests, up to {found.held_back_s:.3g} s: they were "
            "not sent at their times"
        )
    elif found.late_p99_s > LATE_S or found.sent_per_s < BEHIND * found.rate:
        yield (
            f"the load generator fell behind: it sent {found.sent_per_s:.4g} of {rate}, up to "
            f"{found.late_p99_s * 1000:.0f} ms late (p99); set bench.workers higher, or the rate lower"
        )
