"""Level by level: what the recommended configuration and the baseline measured, as the report's table. Pure."""

from collections.abc import Iterator, Sequence

from pipeline.core.record import Level, Record, Stats
from pipeline.report.verdict import Verdict

TITLES = (
    "trial", "level", "requests", "output tokens/s", "TTFT p50 / p95", "TPOT p50 / p95", "E2E p50 / p95", "errors",
    "SLO met", "waiting", "cache hits", "remarks",
)  # fmt: skip
TEXTS = ("trial", "level", "remarks")
MOST = 24  # levels of a trial


def rows(records: Sequence[Record], found: Verdict) -> Iterator[list[str]]:
    """The recommended one's levels, then those of the best of other engines, then the baseline's; as in the search."""
    who = {found.recommended: "recommended"}
    for engine, one in found.engines.items():
        who.setdefault(one.recommended, f"best of {engine}")
    who[found.baseline] = "baseline"
    by_number = {record.number: record for record in records if record.number in who}
    for number, word in who.items():
        record = by_number.get(-1 if number is None else number)
        for level in record.levels[:MOST] if record else ():
            yield [f"{number} ({word})", level.name, *_cells(level), _remarks(level, record)]


def _cells(level: Level) -> list[str]:
    seen = level.metrics
    if seen is None:
        return [""] * (len(TITLES) - 3)
    return [
        f"{seen.num_requests} of {seen.num_planned}" if seen.num_planned else str(seen.num_requests),
        f"{seen.output_tokens_per_s:.4g}",
        *(_ms(stats) for stats in (seen.ttft, seen.tpot)),
        "" if seen.e2e is None else f"{seen.e2e.p50:.2f} / {seen.e2e.p95:.2f} s",
        f"{seen.error_rate:.0%}",
        "" if seen.slo_attainment is None else f"{seen.slo_attainment:.0%}",
        *_engine(level),
    ]


def _engine(level: Level) -> tuple[str, str]:
    """Requests that waited at the engine, mean; the share of prompt tokens that its prefix cache had."""
    told = level.engine_metrics
    if told is None:
        return "", ""
    waiting, hits = told.waiting_mean, told.prefix_hit_rate
    return "" if waiting is None else f"{waiting:.1f}", "" if hits is None else f"{hits:.0%}"


def _ms(stats: Stats | None) -> str:
    if stats is None:
        return ""
    digits = 1 if stats.p50 < 0.1 else 0
    return f"{stats.p50 * 1000:.{digits}f} / {stats.p95 * 1000:.{digits}f} ms"


def _remarks(level: Level, record: Record | None) -> str:
    """What to know of it: that it gave the score, that it was left out and why, that it was cut or measured twice."""
    told = ["gives the score"] if record and level.name == record.best_level else []
    told += [level.failure.message] if level.failure else []
    if level.metrics and level.metrics.is_cut:
        told.append("cut: its time was up")
    elif level.metrics and not level.metrics.meets_slo and record and record.config.slo.is_set:
        told.append("misses the SLO")
    if level.metrics and level.metrics.is_saturated:
        told.append("the server does not keep up with the rate")
    told += [f"measured {level.times_measured} times"] if level.times_measured > 1 else []
    return "; ".join(told)
