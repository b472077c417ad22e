"""Says where prompts begin alike and the prefix cache made nothing of it, or nobody knows whether it did. Pure."""

from dataclasses import replace

from pipeline.core import traffic_size
from pipeline.core.record import Level
from pipeline.core.schema import Config
from pipeline.core.schema_traffic import Traffic

SHARED = 0.05  # of a prompt: with less, no knob of the prefix cache is rewarded (engines/rules)
NOTHING = 0.01  # of the prompts' tokens: a chat template alone begins every prompt alike


def told(config: Config, level: Level) -> Level:
    """The level with a warning, where it needs one; not where a knob has turned the cache off."""
    off = config.runtime.tells.no_prefix_cache
    is_off = any(config.knobs.get(name) == setting for name, setting in off.items())
    found = None if is_off else _warning(config.traffic, level)
    return level if found is None else replace(level, warnings=(*level.warnings, found))


def _warning(traffic: Traffic, level: Level) -> str | None:
    shared, seen, engine = traffic_size.shared(traffic), level.metrics, level.engine_metrics
    if seen is None or shared < SHARED or not _could_hit(traffic, level):
        return None
    alike = f"prompts begin alike in {shared:.0%} of their tokens"
    if engine is None or engine.prefix_hit_rate is None:
        return (
            f"{alike}, and it is not known what the prefix cache had of that: neither the engine's metrics nor the "
            "answers (cached_tokens) say"
        )
    if engine.prefix_hit_rate >= NOTHING:
        return None
    whose = "by the engine's count" if engine.prefix_hits_by == "engine" else "by the answers' cached_tokens"
    return (
        f"{alike}, and the prefix cache had {engine.prefix_hit_rate:.0%} of them, {whose}: it is off, what they "
        "share is shorter than one of its blocks, or the model's sliding window leaves nothing to reuse (llama.cpp: "
        "set swa_full=true)"
    )


def _could_hit(traffic: Traffic, level: Level) -> bool:
    """Whether a prefix was there before the last request began. Requests that begin at once can find nothing."""
    seen = level.metrics
    begun = (seen.num_begun or seen.num_requests) if seen else 0
    return traffic.cache == "warm" or begun > max(level.concurrency, traffic.prefixes)
