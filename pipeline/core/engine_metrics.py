"""What an engine's /metrics say of a level: a summary of readings, and where it contradicts the load generator. Pure.

The answers' own `cached_tokens` stand in where the engine does not tell its prefix cache's hit rate.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import Field

from pipeline.core.engine_times import Reading as Clocks
from pipeline.core.engine_times import Sum
from pipeline.core.record import EngineMetrics, LevelMetrics
from pipeline.core.requests import ANSWERED
from pipeline.core.values import value

APART = 0.01  # of a count of tokens; engines count one more or less of them for each request (end of the text)
COLUMNS = ("running", "waiting", "kv_use", "accept_rate")
AGAIN = "the engine's counters went back: it was started anew, or several engines answer in turn"
N = TypeVar("N", int, float)


@value
class Reading:
    """What an engine tells at one moment, by quantity: the fields of schema_engine.MetricNames, `ttft` and `tpot`."""

    gauges: Mapping[str, float] = Field(default_factory=dict)
    counters: Mapping[str, float] = Field(default_factory=dict)
    times: Mapping[str, Sum] = Field(default_factory=dict)

    @property
    def clocks(self) -> Clocks:
        """Its latency histograms alone."""
        return Clocks(ttft=self.times.get("ttft"), tpot=self.times.get("tpot"))


@value
class Seen:
    """The readings of a level. `samples`: seconds since the level began, and what was read then."""

    before: Reading | None
    samples: tuple[tuple[float, Reading], ...]
    after: Reading | None
    missing: str | None = None  # why readings are missing


def summary(seen: Seen, measured: LevelMetrics | None) -> EngineMetrics | None:
    """The level in numbers; None where nothing is known and nothing was asked."""
    grown = _grown(seen)
    answered = _answered(measured) if measured else 0
    samples = busy(seen.samples)
    told = {**_gauges(samples), **_counts(grown), **_times(seen, grown, answered), **_hits(grown, measured)}
    missing = "; ".join(filter(None, [seen.missing, AGAIN if _went_back(seen) else None])) or None
    if not told and not seen.samples and missing is None:
        return None
    return EngineMetrics(samples=len(samples), missing=missing, **told)


def busy(samples: Sequence[tuple[float, Reading]]) -> Sequence[tuple[float, Reading]]:
    """Without those at both ends that found the engine idle: the load generator had not begun, or was done."""
    at_work = [at for at, (_, one) in enumerate(samples) if _is_busy(one)]
    return samples[at_work[0] : at_work[-1] + 1] if at_work else ()


def _is_busy(one: Reading) -> bool:
    known = [one.gauges[name] for name in ("running", "waiting") if name in one.gauges]
    return any(known) or not known


def rows(seen: Seen) -> dict[str, Any]:
    """The samples as columns and rows, for a file."""
    columns = [name for name in COLUMNS if any(name in one.gauges for _, one in seen.samples)]
    table = [[round(at_s, 3), *(one.gauges.get(name) for name in columns)] for at_s, one in seen.samples]
    return {"columns": ["at_s", *columns], "rows": table}


def disagreements(told: EngineMetrics, measured: LevelMetrics) -> Iterator[str]:
    """In words, what the engine counted that the load generator did not.

    Tokens can be compared only where every request that was begun has been answered: an engine counts those of others
    too.
    """
    begun, answered = measured.num_begun, _answered(measured)
    if told.requests is not None and not answered <= told.requests <= begun:
        yield f"requests: {told.requests} in the engine, {_range(answered, begun)} at the load generator"
        return
    if answered != begun or told.requests not in (None, begun):
        return
    for what, theirs, mean in (
        ("prompt tokens", told.prompt_tokens, measured.input_tokens_mean),
        ("output tokens", told.output_tokens, measured.output_tokens_mean),
    ):
        ours = round(mean * answered)
        if theirs is not None and ours and abs(theirs - ours) > max(answered, APART * theirs):
            yield f"{what}: {theirs} in the engine, {ours} at the load generator"


def _range(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def _answered(measured: LevelMetrics) -> int:
    return sum(measured.fates.get(end, 0) for end in ANSWERED)


def _gauges(samples: Sequence[tuple[float, Reading]]) -> dict[str, float]:
    told: dict[str, float] = {}
    for name in ("running", "waiting", "kv_use"):
        found = [one.gauges[name] for _, one in samples if name in one.gauges]
        if found:
            told |= {f"{name}_mean": sum(found) / len(found), f"{name}_max": max(found)}
    return told


def _grown(seen: Seen) -> dict[str, float]:
    """By how much each counter has grown; empty where that cannot be told."""
    if seen.before is None or seen.after is None or _went_back(seen):
        return {}
    before = seen.before.counters
    return {name: number - before.get(name, 0.0) for name, number in seen.after.counters.items()}


def _went_back(seen: Seen) -> bool:
    if seen.before is None or seen.after is None:
        return False
    after = seen.after.counters
    return any(after.get(name, number) < number for name, number in seen.before.counters.items())


def _counts(grown: Mapping[str, float]) -> dict[str, float]:
    names = ("preemptions", "requests", "prompt_tokens", "output_tokens", "drafted_tokens", "accepted_tokens")
    told: dict[str, float] = {name: round(grown[name]) for name in names if name in grown}
    if "prompt_tokens" not in told and {"uncached_tokens", "cached_tokens"} <= grown.keys():
        told["prompt_tokens"] = round(grown["uncached_tokens"] + grown["cached_tokens"])
    if not told.get("drafted_tokens", 1):  # it drafts nothing
        return {name: number for name, number in told.items() if name not in ("drafted_tokens", "accepted_tokens")}
    if "accepted_tokens" in told and "drafted_tokens" in told:
        told["accept_rate"] = told["accepted_tokens"] / told["drafted_tokens"]
    return told


def _times(seen: Seen, grown: Mapping[str, float], answered: int) -> dict[str, float]:
    """Means per request; of seconds over all requests, per answered one. And the accepted share where it is a gauge."""
    told = {}
    for name in ("queue", "prefill", "decode"):
        mean = _mean(name, seen)
        if mean is None and name in grown and answered:
            mean = grown[name] / answered
        if mean is not None:
            told[f"{name}_mean_s"] = mean
    rates = [rate for _, one in seen.samples if (rate := one.gauges.get("accept_rate", 0.0)) > 0]
    return told | ({"accept_rate": sum(rates) / len(rates)} if rates else {})


def _mean(name: str, seen: Seen) -> float | None:
    after = seen.after.times.get(name) if seen.after else None
    if seen.before is None or after is None:
        return None
    before = seen.before.times.get(name, Sum(seconds=0.0, count=0))
    count, seconds = after.count - before.count, after.seconds - before.seconds
    return seconds / count if count > 0 and seconds >= 0 else None


def _hits(grown: Mapping[str, float], measured: LevelMetrics | None) -> dict[str, Any]:
    """The prefix cache's hit rate, by the engine where it tells, else by what the answers say of themselves."""
    looked_for = grown.get("cache_queries", grown.get("prompt_tokens", 0.0))
    if "uncached_tokens" in grown:
        looked_for = looked_for or grown["uncached_tokens"] + grown.get("cached_tokens", 0.0)
    if "cached_tokens" in grown and looked_for > 0:
        return {"prefix_hit_rate": grown["cached_tokens"] / looked_for, "prefix_hits_by": "engine"}
    cached = measured.cached_tokens_mean if measured else None
    if measured is not None and cached is not None and measured.input_tokens_mean:
        return {"prefix_hit_rate": cached / measured.input_tokens_mean, "prefix_hits_by": "answers"}
    if grown.get("cached_tokens") == 0 and grown.get("prompt_tokens", 0.0) > 0:  # it counts, and looked for nothing
        return {"prefix_hit_rate": 0.0, "prefix_hits_by": "engine"}
    return {}
