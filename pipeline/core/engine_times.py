"""Compares the latencies that our client measured with those that the engine itself measured. Pure.

The client's times are what a user gets, and the objective is made of them; but a client that does not come to read
sees late what was sent early. The engine's own histograms know nothing of that.
"""

from collections.abc import Iterator
from dataclasses import replace

from pipeline.core.record import EngineTimes, Level, LevelMetrics
from pipeline.core.requests import ANSWERED
from pipeline.core.values import value

# Of the engine's mean. The client's time also has the connection, HTTP and the tokenizer: a few percent, and more for
# short answers. What a tuning compares is a few percent too, but between trials that have the same error.
APART = 0.25
TTFT_S = 0.02  # the least that counts: HTTP, parsing and tokenizing a prompt, before the engine's own clock starts
WHY = "It arose behind the engine: in a load generator that is late, on the way, or with first tokens that have no text"
TPOT_S = 0.002  # the least that counts: a scheduler's time slice


@value
class Sum:
    """A histogram at one moment, since the engine started."""

    seconds: float
    count: int


@value
class Reading:
    """The histograms of an engine at one moment; None where it has none."""

    ttft: Sum | None
    tpot: Sum | None


def between(before: Reading | None, after: Reading | None) -> EngineTimes | None:
    """The means between two readings; None where there are none."""
    if before is None or after is None:
        return None
    ttft, tpot = _mean(before.ttft, after.ttft), _mean(before.tpot, after.tpot)
    if ttft is None and tpot is None:
        return None
    counted = after.ttft.count - before.ttft.count if before.ttft and after.ttft else 0
    return EngineTimes(requests=max(0, counted), ttft_mean_s=ttft, tpot_mean_s=tpot)


def _mean(before: Sum | None, after: Sum | None) -> float | None:
    if before is None or after is None or after.count <= before.count or after.seconds < before.seconds:
        return None  # nothing happened, or the engine has started anew
    return (after.seconds - before.seconds) / (after.count - before.count)


def compared(level: Level, seen: EngineTimes | None) -> Level:
    """The level with what the engine measured of it, and a warning where that is something else."""
    if seen is None:
        return level
    told = "; ".join(_disagreements(level.metrics, seen)) if level.metrics else ""
    if not told:
        return replace(level, engine=seen)
    words = f"latencies differ: {told}. {WHY}"
    return replace(level, engine=replace(seen, is_apart=True), warnings=(*level.warnings, words))


def _disagreements(metrics: LevelMetrics, seen: EngineTimes) -> Iterator[str]:
    """In words, each latency whose means are further apart than they should be.

    Nothing is said where the engine counted other requests than ours: somebody else's too, or too few of ours.
    """
    answered = sum(metrics.fates.get(end, 0) for end in ANSWERED)
    if not answered <= seen.requests <= metrics.num_begun:
        return
    for name, ours, theirs, least in (
        ("TTFT", metrics.ttft, seen.ttft_mean_s, TTFT_S),
        ("TPOT", metrics.tpot, seen.tpot_mean_s, TPOT_S),
    ):
        if theirs and ours and abs(ours.mean - theirs) > max(least, APART * theirs):
            yield f"mean {name} {_ms(ours.mean)} at the load generator, {_ms(theirs)} in the engine"
    if seen.tpot_mean_s is not None and metrics.tpot is None and metrics.output_tokens_mean > 1:
        yield f"mean TPOT unknown at the load generator, {_ms(seen.tpot_mean_s)} in the engine"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
