"""The requests of a level, and what became of each: its fate. Pure.

Every request that was begun has exactly one fate, so that the counts add up. Only `good` is goodput; `short`, `failed`,
`client`, `unreadable` and `missed` are errors; `censored`, `stopped` and `read_late` are in no rate.
"""

from typing import Literal, get_args

from pipeline.core.arrivals import Arrivals
from pipeline.core.record import Client
from pipeline.core.schema import Slo
from pipeline.core.values import value

Ending = Literal["answered", "failed", "client", "unreadable", "open", "stopped"]
Fate = Literal[
    "good",  # answered as asked, inside the limits
    "late",  # answered as asked, outside the limits
    "in_one_piece",  # several tokens at once, where time per token is limited: the limit cannot be met
    "read_late",  # the same, but our own client did not come to read: nothing is known of the server
    "short",  # fewer tokens than asked, no finish reason, or counts that contradict each other
    "failed",  # by the server
    "client",  # by ourselves
    "unreadable",  # no answer of the kind that was asked for
    "missed",  # open at the level's end for longer than its limit, or silent for too long
    "censored",  # open at the level's end, but younger
    "stopped",  # ended by us
]
FATES: tuple[Fate, ...] = get_args(Fate)
ANSWERED = ("good", "late", "in_one_piece", "read_late")  # their tokens were served
ERRORS = ("short", "failed", "client", "unreadable", "missed")
IN_NO_RATE = ("censored", "stopped", "read_late")
BURST = 0.15  # an answer whose text came within this share of its time, and as fast as nobody decodes, came at once
BURST_S = 0.002  # per piece: these engines do not decode 500 tokens per second for one user
OURS = 0.5  # the share of the time before the text in which our client was late, for the delay to be its own


@value
class Request:
    """One request; times in seconds. Of an answer, unless `ending` says otherwise."""

    ttft_s: float | None
    tpot_s: float | None  # None: fewer than two tokens, or all of them at once
    e2e_s: float | None
    input_tokens: int
    output_tokens: int
    ending: Ending = "answered"
    cause: str | None = None  # of a failure: an HTTP status, or a word of pipeline/bench/causes.py
    words: str | None = None  # of a failure, the server's own where it said any
    fault: str | None = None  # what is wrong with the shape of an answer
    is_in_one_piece: bool = False
    lag_s: float = 0.0  # the longest time that our client did not come to read
    open_s: float = 0.0  # of one that was open at the level's end: since it began
    silent_s: float = 0.0  # since the server last sent anything
    asked_tokens: int | None = None
    cached_tokens: int | None = None  # of the input tokens, by the server's word


@value
class Measurement:
    """What one genai-bench run measured. `planned`: requests that it was to send; None: it did not say."""

    run_duration_s: float
    requests: tuple[Request, ...]
    planned: int | None = None
    is_cut: bool = False  # time was over before all that was planned had ended
    drain_s: float = 0.0
    client: Client | None = None
    arrivals: Arrivals | None = None  # of requests that are sent at a rate
    notes: tuple[str, ...] = ()


def fate(request: Request, slo: Slo, *, drain_s: float) -> Fate:
    """What became of it."""
    match request.ending:
        case "open":
            limit = limit_s(request, slo)
            is_over = limit is not None and request.open_s > limit
            return "missed" if is_over or request.silent_s >= drain_s else "censored"
        case "answered":
            return _answered(request, slo)
        case other:
            return other


def limit_s(request: Request, slo: Slo) -> float | None:
    """How long it may be open without having missed the SLO; None: no limit says so."""
    limits = [slo.e2e_s]
    if request.ttft_s is None:
        limits.append(slo.ttft_s)
    if slo.ttft_s is not None and slo.tpot_s is not None and request.asked_tokens:
        limits.append(slo.ttft_s + slo.tpot_s * (request.asked_tokens - 1))
    return min((each for each in limits if each is not None), default=None)


def _answered(request: Request, slo: Slo) -> Fate:
    if request.fault is not None:
        return "short"
    if request.is_in_one_piece and _limits_pace(slo):
        return "read_late" if is_read_late(request) else "in_one_piece"
    pairs = ((request.ttft_s, slo.ttft_s), (request.tpot_s, slo.tpot_s), (request.e2e_s, slo.e2e_s))
    is_good = all(limit is None or seen is None or seen <= limit for seen, limit in pairs)
    return "good" if is_good else "late"


def _limits_pace(slo: Slo) -> bool:
    return slo.tpot_s is not None or any(name.startswith("tpot_") for name in slo.limits)


def is_read_late(request: Request) -> bool:
    """Whether it came in one piece because our own client was late."""
    return request.is_in_one_piece and request.lag_s >= OURS * (request.ttft_s or 0.0)


def is_burst(*, pieces: int, span_s: float, e2e_s: float) -> bool:
    """Whether text that came as `pieces` within `span_s` came at once."""
    return pieces < 2 or (span_s <= BURST * e2e_s and span_s < BURST_S * (pieces - 1))
