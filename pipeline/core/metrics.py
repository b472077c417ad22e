"""Computes a level's metrics from its requests: latencies, throughput, SLO attainment, goodput. Pure.

Throughput is the tokens of whole answers / run_duration. genai-bench 0.0.5 always reports an error_rate of 0, so it is
computed here from the fates of the requests (requests.py). SLO attainment looks at each request.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from pipeline.core import arrivals
from pipeline.core.client import told
from pipeline.core.errors import BenchFailed
from pipeline.core.metric_names import LATENCIES, STATS
from pipeline.core.record import LevelMetrics, Stats
from pipeline.core.requests import ANSWERED, ERRORS, FATES, IN_NO_RATE, Fate, Measurement, Request, fate, is_read_late
from pipeline.core.schema import Slo
from pipeline.core.values import plain

OVERLOAD_ERROR_RATE = 0.5
OVERLOAD_ATTAINMENT = 0.1
WORDS_KEPT = 5

Fated = tuple[Request, Fate]


def measure(seen: Measurement, slo: Slo, *, output_tokens_asked: float | None) -> LevelMetrics:
    """The metrics of one level.

    Raises:
        BenchFailed: no request was answered, so that nothing was measured.
    """
    fated = [(request, fate(request, slo, drain_s=seen.drain_s)) for request in seen.requests]
    answered = [request for request, end in fated if end in ANSWERED]
    counted = [end for _, end in fated if end not in IN_NO_RATE]
    if not answered:
        raise BenchFailed(no_answer(fated))
    duration = _duration_s(seen, len(answered))
    errors = sum(end in ERRORS for end in counted)
    good = [request for request, end in fated if end == "good"]
    output, prompt = (sum(getattr(r, f"{side}_tokens") for r in answered) for side in ("output", "input"))
    share = len(good) / max(1, len(counted)) if slo.is_set else None
    latencies = {name: stats(_times(answered, name)) for name in LATENCIES}
    error_rate = errors / max(1, len(counted))
    is_usable = error_rate <= slo.max_error_rate and bool(counted)
    is_saturated = seen.arrivals is not None and seen.arrivals.keeps_up is False
    has_pace = any(r.output_tokens > 1 for r in answered)
    return LevelMetrics(
        num_requests=len(counted),
        num_errors=errors,
        error_rate=error_rate,
        error_codes=codes(fated),
        run_duration_s=duration,
        ttft=latencies["ttft"],
        tpot=latencies["tpot"],
        e2e=latencies["e2e"],
        input_tokens_mean=prompt / len(answered),
        output_tokens_mean=output / len(answered),
        output_tokens_asked_mean=output_tokens_asked,
        requests_per_s=len(answered) / duration,
        output_tokens_per_s=output / duration,
        input_tokens_per_s=prompt / duration,
        total_tokens_per_s=(prompt + output) / duration,
        slo_attainment=share,
        goodput_requests_per_s=len(good) / duration if slo.is_set else None,
        goodput_output_tokens_per_s=sum(r.output_tokens for r in good) / duration if slo.is_set else None,
        meets_slo=is_usable and not is_saturated and _meets(slo, share, latencies, has_pace=has_pace),
        is_usable=is_usable,
        num_planned=len(fated) if seen.planned is None else seen.planned,
        num_begun=len(fated),
        fates={name: count for name in FATES if (count := sum(end == name for _, end in fated))},
        error_words=words(fated),
        is_cut=seen.is_cut,
        is_saturated=is_saturated,
        cached_tokens_mean=_mean([r.cached_tokens for r in answered if r.cached_tokens is not None]),
    )


def _duration_s(seen: Measurement, answered: int) -> float:
    if seen.run_duration_s <= 0:
        raise BenchFailed(f"{answered} requests answered in a run that lasted {seen.run_duration_s:g} s.")
    return seen.run_duration_s


def no_answer(fated: Sequence[Fated]) -> str:
    """`0 of 132 requests answered: engine dead (132)`."""
    seen = words(fated) or ({"still open at the end": len(fated)} if fated else {})
    told = ", ".join(f"{said} ({count})" for said, count in seen.items())
    total = sum(end not in IN_NO_RATE for _, end in fated) or len(fated)
    return f"0 of {total} requests answered" + (f": {told}" if told else "")


def codes(fated: Iterable[Fated]) -> dict[str, int]:
    """Errors by cause: an HTTP status, or a word such as `connection_refused`, `short` or `missed`."""
    return dict(Counter(request.cause or end for request, end in fated if end in ERRORS).most_common())


def words(fated: Iterable[Fated]) -> dict[str, int]:
    """What was said of the requests that are errors, commonest first."""
    return dict(Counter(_words(request, end) for request, end in fated if end in ERRORS).most_common(WORDS_KEPT))


def _words(request: Request, end: Fate) -> str:
    if end == "missed":
        return "no answer in time"
    if end == "short":
        return f"not what was asked for: {request.fault}"
    cause = request.cause or end
    status = f"HTTP {cause}" if cause.isdigit() else ""
    return ": ".join(filter(None, [status, request.words or ("" if status else cause)]))


def stats(values: Sequence[float]) -> Stats | None:
    """Mean and percentiles; None for no values, so that nothing unmeasured passes for a zero."""
    if not values:
        return None
    points = np.percentile(values, [50, 90, 95, 99])
    names = ("p50", "p90", "p95", "p99")
    return Stats(mean=float(np.mean(values)), **{n: float(p) for n, p in zip(names, points, strict=True)})


def _mean(counts: Sequence[int]) -> float | None:
    return sum(counts) / len(counts) if counts else None


def _times(requests: Iterable[Request], name: str) -> list[float]:
    times = (getattr(request, f"{name}_s") for request in requests)
    return [time for time in times if time is not None]


def _meets(slo: Slo, share: float | None, latencies: Mapping[str, Stats | None], *, has_pace: bool) -> bool:
    """Whether the limits are met; a limit on what could not be taken is not, but for answers of a single token."""
    if share is not None and share < slo.attainment:
        return False
    limits = {name: limit for name, limit in slo.limits.items() if has_pace or not name.startswith("tpot_")}
    return all(_latency(latencies, name) <= limit for name, limit in limits.items())


def _latency(latencies: Mapping[str, Stats | None], name: str) -> float:
    quantity, stat, _unit = name.split("_")
    return float(getattr(latencies[quantity], stat, np.inf))


def flatten(metrics: LevelMetrics) -> dict[str, float | int]:
    """Every number under the one name used in the CLI, the tables and W&B: `ttft_p95_s`, `requests_per_s`, ..."""
    data = plain(metrics)
    flat = {key: item for key, item in data.items() if isinstance(item, int | float)}
    return flat | {f"{q}_{stat}_s": data[q][stat] for q in LATENCIES if data[q] for stat in STATS}


def warnings_for(metrics: LevelMetrics, seen: Measurement) -> tuple[str, ...]:
    """What a reader of the numbers must know."""
    sent = arrivals.told(seen.arrivals) if seen.arrivals else ()
    return (*_of_requests(metrics, seen), *sent, *_of_client(metrics, seen), *seen.notes)


def _of_requests(metrics: LevelMetrics, seen: Measurement) -> Iterator[str]:
    if metrics.is_cut:
        ended = metrics.num_begun - metrics.fates.get("missed", 0) - metrics.fates.get("censored", 0)
        told = f"cut: {ended} of {metrics.num_planned} requests ended in time (traffic.max_time_per_level_s)"
        young = metrics.fates.get("censored", 0)
        yield told + (f"; {young} were still being answered and are in no rate" if young else "")
    if metrics.num_errors:
        told = ", ".join(f"{said} ({count})" for said, count in metrics.error_words.items())
        yield f"{metrics.num_errors} of {metrics.num_requests} requests failed: {told}"
    if at_once := sum(request.is_in_one_piece and not is_read_late(request) for request in seen.requests):
        late = ", so they miss the limit on it" if metrics.fates.get("in_one_piece") else ""
        yield f"{at_once} answers came in one piece: their time per token (TPOT) is unknown{late}"


def _of_client(metrics: LevelMetrics, seen: Measurement) -> Iterator[str]:
    client, late = seen.client, sum(map(is_read_late, seen.requests))
    if client is None:
        return
    if late:
        yield f"{late} answers were read late by the load generator itself: their time per token (TPOT) is unknown"
    yield from told(client, metrics.ttft)


def is_overloaded(metrics: LevelMetrics) -> bool:
    """Whether a level overloads the server so clearly that higher loads need not be tried."""
    misses = metrics.slo_attainment is not None and metrics.slo_attainment < OVERLOAD_ATTAINMENT
    return misses or metrics.is_saturated or metrics.error_rate > OVERLOAD_ERROR_RATE
