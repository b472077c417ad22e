"""The objective of a trial: which levels count, and the metric's value over them. Pure."""

from collections.abc import Iterable, Sequence

from pipeline.core.errors import BenchFailed, ConfigError
from pipeline.core.metric_names import COST, MAXIMISED, known_metrics
from pipeline.core.metrics import flatten
from pipeline.core.record import Level, LevelMetrics
from pipeline.core.schema import Config, Slo


def names(config: Config) -> tuple[str, ...]:
    """The metrics to optimise; `auto` is goodput with an SLO and output-token throughput without one, per GPU."""
    default = "goodput_requests_per_s_per_gpu" if config.slo.is_set else "output_tokens_per_s_per_gpu"
    return tuple(default if name == "auto" else name for name in config.objective)


def is_maximised(name: str) -> bool:
    """Whether more of this metric is better."""
    return name.removesuffix("_per_gpu") in MAXIMISED


def check(config: Config) -> None:
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
    return [level for level in levels if level.metrics and counts(level.metrics, slo)]


def counts(seen: LevelMetrics, slo: Slo) -> bool:
    """Whether a level may give an objective its value: what is cut is not compared with what is whole."""
    return seen.is_usable and not seen.is_cut and (seen.meets_slo or not slo.is_set)


def of(levels: Iterable[Level], config: Config) -> dict[str, float]:
    """Each objective's best value over the levels that count.

    Throughput and goodput are 0 when levels were measured but none met the SLO: that is their true value inside
    it. A latency has no such value.

    Raises:
        BenchFailed: no level can be used.
    """
    levels = list(levels)
    best = {name: _best(name, counted(levels, config.slo), config) for name in names(config)}
    measured = any(level.metrics and level.metrics.is_usable for level in levels)
    if not measured or None in best.values():
        raise _unusable(levels)
    return {name: score for name, score in best.items() if score is not None}


def _unusable(levels: Sequence[Level]) -> BenchFailed:
    """With kind and hint of the level that failed it."""
    words = f"No level can be used: {why_unusable(levels)}"
    why = next((level.failure for level in levels if level.failure and level.status != "skipped"), None)
    return BenchFailed(words, kind=why.kind, hint=why.hint) if why else BenchFailed(words)


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
    name = names(config)[0]
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
