"""The objective of a trial: which levels count, and the metric's value over them. Pure."""

from collections.abc import Iterable

from pipeline.core import capacity, pareto
from pipeline.core.errors import BenchFailed, ConfigError
from pipeline.core.metric_names import COST, JOULES, MAXIMISED, known_metrics
from pipeline.core.metrics import flatten
from pipeline.core.record import Level, LevelMetrics, Record
from pipeline.core.schema import Config, Slo
from pipeline.core.words import listed, meant


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
    if capacity.is_wanted(config.traffic) and len(config.objective) > 1:
        raise ConfigError("objective: expected one, because traffic.levels=capacity finds one level for each trial.")
    if twice := next((name for name in config.objective if config.objective.count(name) > 1), None):
        raise ConfigError(f"objective: {twice} is there twice.")
    for name in config.objective:
        if name not in known:
            there = listed(name, known, by="docs/measuring.md")
            raise ConfigError(f"objective={name}: expected one of {there}.{meant(name, known)}")
        if name.startswith(("goodput", "slo")) and not config.slo.is_set:
            raise ConfigError(f"objective={name} needs an SLO: add slo=interactive or slo.ttft_s=...")
        if capacity.is_wanted(config.traffic) and not grows(name):
            raise ConfigError(
                f"objective={name}: with traffic.levels=capacity, expected a metric that more users raise, such as "
                "auto or output_tokens_per_s; limit latencies by an SLO (slo.ttft_s=1)."
            )
        if name == COST and config.hardware.usd_per_gpu_hour is None:
            raise ConfigError(f"objective={name} needs a price: add hardware.usd_per_gpu_hour=...")
    latencies = [name for name in known if name.endswith("_s") and not name.endswith("_per_s")]
    for name in config.slo.limits:
        if name not in latencies:
            there = listed(name, latencies, by="docs/measuring.md")
            raise ConfigError(f"slo.limits.{name}: expected one of {there}.{meant(name, latencies)}")


def grows(name: str) -> bool:
    """Whether more users bring more of it, until the server is full."""
    return name in {"auto", COST, JOULES} or (is_maximised(name) and name != "slo_attainment")


def counted(levels: Iterable[Level], slo: Slo) -> list[Level]:
    """The levels an objective may look at: whole, usable, and inside the SLO where there is one."""
    return [
        level for level in levels if _is_whole(level) and level.metrics and (level.metrics.meets_slo or not slo.is_set)
    ]


def _is_whole(level: Level) -> bool:
    """Usable, and not cut: a level with fewer requests than planned is not comparable with whole ones."""
    return level.metrics is not None and level.metrics.is_usable and not level.metrics.is_cut


def of(levels: Iterable[Level], config: Config) -> dict[str, float]:
    """One objective's best value over the levels that count; several objectives' values at one level, `best_level`.

    Throughput and goodput are 0 when levels were measured but none met the SLO: that is their true value inside
    it. A latency has no such value.

    Raises:
        BenchFailed: no level can be used.
    """
    levels = list(levels)
    if best := best_level(levels, config):
        return _scores(best, config) or {}
    is_measured = any(map(_is_whole, levels)) and not counted(levels, config.slo)  # else a sensor tells nothing
    if not is_measured or not all(map(is_maximised, names(config))):
        raise _unusable(levels)
    return dict.fromkeys(names(config), 0.0)


def _unusable(levels: Iterable[Level]) -> BenchFailed:
    """With kind and hint of the level that failed it."""
    levels = list(levels)
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
    """The level whose values are the trial's: the best of one objective; of several, the one with the most volume.

    One level, because nobody can have the throughput of one load together with the latency of another. Where the
    capacity is looked for, only the levels that are one count.
    """
    if capacity.is_wanted(config.traffic):
        levels = capacity.levels_at(levels, config)
    more = [is_maximised(name) for name in names(config)]
    scored = [
        (tuple(seen.values()), level) for level in counted(levels, config.slo) if (seen := _scores(level, config))
    ]
    if len(more) > 1:
        return max(scored, key=lambda pair: pareto.volume(pair[0], more), default=(None, None))[1]
    pick = max if more[0] else min
    return pick(scored, key=lambda pair: pair[0], default=(None, None))[1]


def points(record: Record) -> dict[str, tuple[float, ...]]:
    """The values of the objectives at each level that counts, by its name: what a Pareto front is made of."""
    found = {level.name: _scores(level, record.config) for level in counted(record.levels, record.config.slo)}
    return {name: tuple(seen.values()) for name, seen in found.items() if seen}


def _scores(level: Level, config: Config) -> dict[str, float] | None:
    """Every objective at one level; None where one was not measured."""
    found = {name: score(name, level, config) for name in names(config)}
    return None if None in found.values() else {name: seen for name, seen in found.items() if seen is not None}


def violations(seen: LevelMetrics, slo: Slo) -> dict[str, float]:
    """How far each part of the SLO is missed: shares of requests, and shares of a limit. Empty without an SLO."""
    found = {} if seen.slo_attainment is None else {"attainment": slo.attainment - seen.slo_attainment}
    flat = flatten(seen)
    found |= {name: flat[name] / limit - 1 for name, limit in slo.limits.items() if name in flat}
    return found | ({"error_rate": seen.error_rate - slo.max_error_rate} if slo.is_set else {})


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
