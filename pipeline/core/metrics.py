"""Computes metrics from requests: latencies, throughput, SLO attainment, goodput, objective. Pure.

Throughput is genai-bench's (tokens of completed requests / run_duration); error_rate is not: genai-bench 0.0.5
always reports 0, so it is computed here as num_errors / num_requests. SLO attainment looks at each request.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pipeline.core.errors import BenchFailed, ConfigError
from pipeline.core.metric_names import COST, LATENCIES, MAXIMISED, STATS, known_metrics
from pipeline.core.record import Level, LevelMetrics, Stats
from pipeline.core.schema import Config, Slo
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
        **latencies,
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


def objective_names(config: Config) -> tuple[str, ...]:
    """The metrics to optimise; `auto` is goodput with an SLO and output-token throughput without one, per GPU."""
    default = "goodput_requests_per_s_per_gpu" if config.slo.is_set else "output_tokens_per_s_per_gpu"
    return tuple(default if name == "auto" else name for name in config.objective)


def is_maximised(name: str) -> bool:
    """Whether more of this metric is better."""
    return name.removesuffix("_per_gpu") in MAXIMISED


def check_names(config: Config) -> None:
    """Refuse objectives and SLO limits that name no metric.

    Raises:
        ConfigError: with the names there are.
    """
    known = known_metrics()
    for name in config.objective:
        if name not in known:
            raise ConfigError(f"objective={name}: expected one of {', '.join(known)}.")
        if name.startswith(("goodput", "slo")) and not config.slo.is_set:
            raise ConfigError(f"objective={name} needs an SLO: add slo=interactive or slo.ttft_s=...")
        if name == COST and config.hardware.usd_per_gpu_hour is None:
            raise ConfigError(f"objective={name} needs a price: add hardware.usd_per_gpu_hour=...")
    latencies = [name for name in known if name.endswith("_s") and not name.endswith("_per_s")]
    for name in config.slo.limits:
        if name not in latencies:
            raise ConfigError(f"slo.limits.{name}: expected one of {', '.join(latencies)}.")


def counted(levels: Iterable[Level], slo: Slo) -> list[Level]:
    """The levels an objective may look at: usable, and inside the SLO where there is one."""
    return [
        level
        for level in levels
        if level.metrics and level.metrics.is_usable and (level.metrics.meets_slo or not slo.is_set)
    ]


def objective(levels: Iterable[Level], config: Config) -> dict[str, float]:
    """Each objective's best value over the levels that count.

    Throughput and goodput are 0 when levels were measured but none met the SLO: that is their true value inside
    it. A latency has no such value.

    Raises:
        BenchFailed: no level can be used.
    """
    levels = list(levels)
    best = {name: _best(name, counted(levels, config.slo), config) for name in objective_names(config)}
    measured = any(level.metrics and level.metrics.is_usable for level in levels)
    if not measured or None in best.values():
        raise BenchFailed(f"No level can be used: {why_unusable(levels)}")
    return {name: score for name, score in best.items() if score is not None}


def why_unusable(levels: Iterable[Level]) -> str:
    """One clause per level."""
    reasons = []
    for level in levels:
        missed = level.metrics is not None and not level.metrics.meets_slo
        told = "; ".join(level.warnings) or ("outside the SLO" if missed else "the objective was not measured")
        reasons.append(f"{level.name}: {level.failure.message if level.failure else told}")
    return " | ".join(reasons)


def best_level(levels: Iterable[Level], config: Config) -> Level | None:
    """The level that gives the first objective its value."""
    name = objective_names(config)[0]
    candidates = counted(levels, config.slo)
    pick = max if is_maximised(name) else min
    scored = [(seen, level) for level in candidates if (seen := score(name, level, config)) is not None]
    return pick(scored, key=lambda pair: pair[0], default=(None, None))[1]


def score(name: str, level: Level, config: Config) -> float | None:
    """One metric of a level, None if it was not measured; per GPU means per host where there is no GPU."""
    if name == COST:
        return _cost(score("output_tokens_per_s_per_gpu", level, config), config.hardware.usd_per_gpu_hour)
    seen = flatten(level.metrics).get(name.removesuffix("_per_gpu")) if level.metrics else None
    gpus = max(1, config.gpus) if name.endswith("_per_gpu") else 1
    return None if seen is None else seen / gpus


def _cost(tokens_per_s: float | None, usd_per_hour: float | None) -> float | None:
    """The cost of a million tokens, in US dollars."""
    return usd_per_hour / 3600 / tokens_per_s * 1e6 if tokens_per_s and usd_per_hour else None


def _best(name: str, levels: Sequence[Level], config: Config) -> float | None:
    scores = [seen for level in levels if (seen := score(name, level, config)) is not None]
    return max(scores, default=0.0) if is_maximised(name) else min(scores, default=None)
