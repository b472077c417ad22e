"""Computes metrics from requests: latencies, throughput, SLO attainment, goodput. Pure.

Throughput is genai-bench's (tokens of completed requests / run_duration); error_rate is not: genai-bench 0.0.5
always reports 0, so it is computed here as num_errors / num_requests. SLO attainment looks at each request.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pipeline.core.errors import BenchFailed
from pipeline.core.metric_names import LATENCIES, STATS
from pipeline.core.record import LevelMetrics, Stats
from pipeline.core.schema import Slo
from pipeline.core.values import plain, value

SHORT_OUTPUT = 0.9  # served / asked output tokens below which a level is warned about
OVERLOAD_ERROR_RATE = 0.5
OVERLOAD_ATTAINMENT = 0.1


@value
class Request:
    """One request as genai-bench measured it; times in seconds. `error_code` is None when it was answered."""

    ttft_s: float | None
    tpot_s: float | None  # None: fewer than two tokens, or too fast to time
    e2e_s: float | None
    input_tokens: int
    output_tokens: int
    error_code: int | None = None


@value
class Measurement:
    """What one genai-bench run measured."""

    run_duration_s: float
    requests: tuple[Request, ...]


def measure(seen: Measurement, slo: Slo, *, output_tokens_asked: float | None) -> LevelMetrics:
    """The metrics of one level.

    Raises:
        BenchFailed: no request was answered, so that nothing was measured.
    """
    answered = [request for request in seen.requests if request.error_code is None]
    codes = Counter(str(request.error_code) for request in seen.requests if request.error_code is not None)
    if not answered:
        raise BenchFailed(no_answer(len(seen.requests), codes))
    duration = seen.run_duration_s
    if duration <= 0:
        raise BenchFailed(f"{len(answered)} requests answered in a run that lasted {duration:g} s.")
    good = [request for request in answered if is_good(request, slo)]
    output, prompt = (sum(getattr(r, f"{side}_tokens") for r in answered) for side in ("output", "input"))
    errors = codes.total()
    share = len(good) / len(seen.requests) if slo.is_set else None
    latencies = {name: stats(_times(answered, name)) for name in LATENCIES}
    error_rate = errors / len(seen.requests)
    is_usable = error_rate <= slo.max_error_rate
    return LevelMetrics(
        num_requests=len(seen.requests),
        num_errors=errors,
        error_rate=error_rate,
        error_codes=dict(codes),
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
        meets_slo=is_usable and _meets(slo, share, latencies),
        is_usable=is_usable,
    )


def no_answer(total: int, codes: Mapping[str, int]) -> str:
    """`0 of 132 requests answered, HTTP 503 (132)`."""
    seen = ", ".join(f"HTTP {code} ({count})" for code, count in sorted(codes.items()))
    return f"0 of {total} requests answered" + (f", {seen}" if seen else "")


def is_good(request: Request, slo: Slo) -> bool:
    """Whether an answered request meets every per-request limit; a time that could not be taken is not over it."""
    pairs = ((request.ttft_s, slo.ttft_s), (request.tpot_s, slo.tpot_s), (request.e2e_s, slo.e2e_s))
    return all(limit is None or seen is None or seen <= limit for seen, limit in pairs)


def stats(values: Sequence[float]) -> Stats | None:
    """Mean and percentiles; None for no values, so that nothing unmeasured passes for a zero."""
    if not values:
        return None
    points = np.percentile(values, [50, 90, 95, 99])
    names = ("p50", "p90", "p95", "p99")
    return Stats(mean=float(np.mean(values)), **{n: float(p) for n, p in zip(names, points, strict=True)})


def _times(requests: Iterable[Request], name: str) -> list[float]:
    times = (getattr(request, f"{name}_s") for request in requests)
    return [time for time in times if time is not None]


def _meets(slo: Slo, share: float | None, latencies: Mapping[str, Stats | None]) -> bool:
    if share is not None and share < slo.attainment:
        return False
    return all(_latency(latencies, name) <= limit for name, limit in slo.limits.items())


def _latency(latencies: Mapping[str, Stats | None], name: str) -> float:
    quantity, stat, _unit = name.split("_")
    return float(getattr(latencies[quantity], stat, 0.0))


def flatten(metrics: LevelMetrics) -> dict[str, float | int]:
    """Every number under the one name used in the CLI, the tables and W&B: `ttft_p95_s`, `requests_per_s`, ..."""
    data = plain(metrics)
    flat = {key: item for key, item in data.items() if isinstance(item, int | float)}
    return flat | {f"{q}_{stat}_s": data[q][stat] for q in LATENCIES if data[q] for stat in STATS}


def warnings_for(metrics: LevelMetrics) -> tuple[str, ...]:
    """What a reader of the numbers must know."""
    asked = metrics.output_tokens_asked_mean
    found = []
    if asked and metrics.output_tokens_mean < SHORT_OUTPUT * asked:
        found.append(
            f"the server stopped early: {metrics.output_tokens_mean:.1f} of {asked:g} output tokens per request"
        )
    if metrics.num_errors:
        found.append(f"{metrics.num_errors} of {metrics.num_requests} requests failed")
    return tuple(found)


def is_overloaded(metrics: LevelMetrics) -> bool:
    """Whether a level overloads the server so clearly that higher concurrencies need not be tried."""
    misses = metrics.slo_attainment is not None and metrics.slo_attainment < OVERLOAD_ATTAINMENT
    return misses or metrics.error_rate > OVERLOAD_ERROR_RATE
