"""Records -> ranked rows. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline import metrics
from pipeline.record import Level, Record, Stats
from pipeline.values import value


@value
class Row:
    """One trial in the ranking. Times in seconds, at the level that gave the objective."""

    rank: int | None
    number: int
    overrides: tuple[str, ...]
    rewrites: tuple[str, ...]  # knobs that the engine runs with another value than asked, e.g. page_size=128→64
    same_as: int | None  # the trial whose measurement this row shows: both resolved alike
    is_baseline: bool
    status: str
    objective: tuple[float, ...] | None
    against_baseline: float | None  # relative difference of the first objective; 0.1 is 10% more
    best_level: str | None
    ttft_p95_s: float | None
    tpot_p95_s: float | None
    error_rate: float | None
    slo_attainment: float | None
    why: str | None


def rank(records: Sequence[Record]) -> tuple[Row, ...]:
    """Best first by the first objective, then the trials without a result in their order."""
    common = shared_overrides(records)
    names = objective_names(records)
    scored = [(seen, record) for record in records if (seen := _scores(record, names))]
    scored.sort(key=lambda pair: pair[1].same_as is not None)  # of equals, first the one that was measured
    if names:
        scored.sort(key=lambda pair: pair[0][0], reverse=metrics.is_maximised(names[0]))
    baselines = {record.number for record in records if is_baseline(record, records)}
    base = next((seen[0] for seen, record in scored if record.number in baselines), None)
    rows = [_row(record, place, seen, base, common) for place, (seen, record) in enumerate(scored, start=1)]
    rows += [_row(record, None, None, None, common) for record in records if not _scores(record, names)]
    return tuple(replace(row, is_baseline=row.number in baselines) for row in rows)


def is_baseline(record: Record, records: Sequence[Record]) -> bool:
    """Whether every knob is left to the engine, or at least every knob that the sweep varies (not a fixed tp_size)."""
    knobs = record.config.knobs
    varied = {name for name in knobs if any(other.config.knobs.get(name) != knobs[name] for other in records)}
    return record.is_baseline or (bool(varied) and all(knobs[name] is None for name in varied))


def _scores(record: Record, names: Sequence[str]) -> tuple[float, ...] | None:
    """The objectives' values in their order; None for a trial that has none, or others."""
    found = record.objective or {}
    return tuple(found[name] for name in names) if names and found.keys() >= {*names} else None


def objective_names(records: Sequence[Record]) -> tuple[str, ...]:
    """The objectives of the sweep."""
    return metrics.objective_names(records[0].config) if records else ()


def shared_overrides(records: Sequence[Record]) -> frozenset[str]:
    """The overrides that every trial has: they tell nothing apart."""
    if len(records) < 2:
        return frozenset()
    return frozenset.intersection(*(frozenset(record.overrides) for record in records))


def _row(
    record: Record, place: int | None, score: tuple[float, ...] | None, base: float | None, common: frozenset[str]
) -> Row:
    level = _best_level(record)
    seen = level.metrics if level else None
    return Row(
        rank=place,
        number=record.number,
        overrides=tuple(word for word in record.overrides if word not in common),
        rewrites=rewritten(record),
        same_as=record.same_as,
        is_baseline=record.is_baseline,
        status=record.status,
        objective=score,
        against_baseline=score[0] / base - 1 if score and base else None,
        best_level=record.best_level,
        ttft_p95_s=_p95(seen.ttft) if seen else None,
        tpot_p95_s=_p95(seen.tpot) if seen else None,
        error_rate=seen.error_rate if seen else None,
        slo_attainment=seen.slo_attainment if seen else None,
        why=_why(record),
    )


def _why(record: Record) -> str | None:
    if record.failure is None:
        return None
    kind = record.failure.kind
    return f"refused: {kind}" if record.status == "refused" else f"{kind} in {record.failure.step}"


def rewritten(record: Record) -> tuple[str, ...]:
    """Knobs that the engine runs with another value than asked: by its own word, else as foreseen."""
    told = {item.knob: f"{item.knob}={item.asked}→{item.got}" for item in record.rewrites}
    foreseen = record.verdict.knobs if record.verdict else {}
    for knob, asked in record.config.knobs.items():
        if asked is not None and foreseen.get(knob, asked) != asked:
            told.setdefault(knob, f"{knob}={asked}→{foreseen[knob]}")
    return tuple(told.values())


def _best_level(record: Record) -> Level | None:
    return next((level for level in record.levels if level.name == record.best_level), None)


def _p95(stats: Stats | None) -> float | None:
    return stats.p95 if stats else None
