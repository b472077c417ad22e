"""What a reader of a row has to know, in a word each, and what the words mean. Pure."""

from collections.abc import Iterator, Sequence

from pipeline.core.errors import FailureKind
from pipeline.core.record import Level, Record
from pipeline.report.front import Point
from pipeline.report.ranking import Row

ONCE = "(once)"
MEANINGS = {
    ONCE: "measured once, so the difference can be noise",
    "misses SLO": "measured, but outside of the SLO",
    "broken": "its answers are broken, while the baseline's are not: it cannot win",
    "differs": "it answers otherwise than the baseline: docs/quality.md",
    "differs too much": "it answers so much otherwise than the baseline that it cannot win",
    "raced": "levels were left out: where it was measured, it was behind the best one at that time",
    "cut": "a level had fewer requests than planned; it does not count",
    "crowded": "the machine was busy with something else",
    "clocks differ": "the load generator saw another latency than the engine itself: see the notes",
    "settings unknown": "the engine did not say what it made of the knobs",
    "twin": "the engine runs it as the trial with this number, whose result is shown",
    "cached": "measured by an earlier sweep",
    "runs": "some of its runs failed",
    "front": "it has a level that no other level is better than in all objectives",
    "refused": "known before that it cannot start",
}


def of(row: Row, records: Sequence[Record], points: Sequence[Point]) -> tuple[str, ...]:
    """The flags of a row."""
    mine = [one for one in records if row.number in {one.number, one.repeat_of}]
    return tuple(_of(row, mine, points))


def _of(row: Row, mine: Sequence[Record], points: Sequence[Point]) -> Iterator[str]:
    failed = next((one.failure for one in mine if one.failure), None)
    levels = [level for one in mine for level in one.levels]
    is_measured = any(level.metrics for level in levels) and (failed is None or failed.kind == FailureKind.BENCH_ERROR)
    if not row.meets_slo and is_measured:
        yield "misses SLO"
    elif not row.objective:
        yield "refused" if row.status == "refused" else str(failed.kind) if failed else row.status
    on_front = [point for point in points if point.number == row.number]
    if on_front:
        yield "front" if all(point.rounds > 1 for point in on_front) else f"front {ONCE}"
    if row.quality and row.quality.word in {"broken", "differs"}:
        yield "differs too much" if row.quality.word == "differs" and row.is_barred else row.quality.word
    if row.is_raced:
        yield "raced"
    yield from _of_levels(levels)
    if any(one.settings_unknown for one in mine):
        yield "settings unknown"
    if row.same_as is not None:
        yield f"twin {row.same_as}"
    if row.cached_from:
        yield "cached"
    if row.objective and row.measured < row.runs:
        yield f"{row.measured} of {row.runs} runs"


def _of_levels(levels: Sequence[Level]) -> Iterator[str]:
    if any(level.metrics and level.metrics.is_cut for level in levels):
        yield "cut"
    if any(level.load and level.load.is_crowded for level in levels):
        yield "crowded"
    if any(level.engine and level.engine.is_apart for level in levels):
        yield "clocks differ"


def legend(words: Sequence[str]) -> str:
    """One line on the flags that appear."""
    told = [f"{name}: {meaning}" for name, meaning in MEANINGS.items() if any(_is(name, word) for word in words)]
    return f"{'. '.join(told)}." if told else ""


def _is(name: str, word: str) -> bool:
    return name in word if name == ONCE else word == name or word.startswith(f"{name} ") or word.endswith(f" {name}")
