"""Turns records into ranked rows, one per configuration, however often it was measured. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.core import objectives
from pipeline.core.record import Level, Record, Stats
from pipeline.core.statistics import Interval, interval
from pipeline.core.values import value


@value
class Row:
    """One configuration in the ranking. Times in seconds, at the level that gave the objective in its first trial."""

    rank: int | None
    number: int
    overrides: tuple[str, ...]
    rewrites: tuple[str, ...]  # knobs that the engine runs with another value than asked, e.g. page_size=128→64
    same_as: int | None  # the trial whose measurement this row shows: both resolved alike
    is_baseline: bool
    status: str
    objective: tuple[float, ...] | None  # means over all that measured it in the search
    half_width: float | None  # of the 95% t-interval of the first objective's mean; None: measured once
    measured: int  # times that it was measured
    runs: int  # times that it was run
    is_optimal: bool  # with several objectives: nothing is better in all of them
    against_baseline: float | None  # relative difference of the first objective; 0.1 is 10% more
    best_level: str | None
    cached_from: str | None
    ttft_p95_s: float | None
    tpot_p95_s: float | None
    error_rate: float | None
    slo_attainment: float | None
    why: str | None


def rank(records: Sequence[Record]) -> tuple[Row, ...]:
    """Best first by the first objective, then the configurations without a result in their order."""
    firsts = originals(records)
    common, names = shared_overrides(firsts), objective_names(records)
    scored = [(means, record) for record in firsts if (means := _means(record, records, names))]
    scored.sort(key=lambda pair: pair[1].same_as is not None)  # of equals, first the one that was measured
    if names:
        scored.sort(key=lambda pair: pair[0][0].mean, reverse=objectives.is_maximised(names[0]))
    baselines = {record.number for record in firsts if is_baseline(record, firsts)}
    base = next((means[0].mean for means, record in scored if record.number in baselines), None)
    front = _front([tuple(each.mean for each in means) for means, _ in scored], names)
    rows = [
        replace(_row(record, records, means, base, common), rank=place, is_optimal=is_optimal)
        for place, ((means, record), is_optimal) in enumerate(zip(scored, front, strict=True), start=1)
    ]
    ranked = {row.number for row in rows}
    rows += [_row(record, records, (), None, common) for record in firsts if record.number not in ranked]
    return tuple(replace(row, is_baseline=row.number in baselines) for row in rows)


def originals(records: Sequence[Record]) -> list[Record]:
    """The first trial of each configuration."""
    there = {record.number for record in records}
    return [record for record in records if record.repeat_of is None or record.repeat_of not in there]


def samples(record: Record, records: Sequence[Record]) -> list[Record]:
    """All trials of the search that ran a configuration, its first one first."""
    again = [one for one in records if one.repeat_of == record.number and one.phase == "search"]
    return [record, *again]


def _means(record: Record, records: Sequence[Record], names: Sequence[str]) -> tuple[Interval, ...]:
    """The mean of each objective; empty for a configuration that was never measured."""
    scores = [seen for one in samples(record, records) if (seen := _scores(one, names))]
    found = (interval([seen[i] for seen in scores]) for i in range(len(names)))
    return tuple(each for each in found if each is not None)


def _front(scores: Sequence[tuple[float, ...]], names: Sequence[str]) -> list[bool]:
    """Which are on the Pareto front."""
    signs = [1 if objectives.is_maximised(name) else -1 for name in names]
    points = [tuple(sign * each for sign, each in zip(signs, seen, strict=True)) for seen in scores]
    return [not any(other != one and _covers(other, one) for other in points) for one in points]


def _covers(other: tuple[float, ...], one: tuple[float, ...]) -> bool:
    return all(theirs >= ours for theirs, ours in zip(other, one, strict=True))


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
    return objectives.names(records[0].config) if records else ()


def shared_overrides(records: Sequence[Record]) -> frozenset[str]:
    """The overrides that every trial has: they tell nothing apart."""
    if len(records) < 2:
        return frozenset()
    return frozenset.intersection(*(frozenset(record.overrides) for record in records))


def _row(
    record: Record, records: Sequence[Record], means: tuple[Interval, ...], base: float | None, common: frozenset[str]
) -> Row:
    level = _best_level(record)
    seen = level.metrics if level else None
    ends = [(each.high - each.low) / 2 for each in means[:1] if each.low is not None and each.high is not None]
    return Row(
        rank=None,
        number=record.number,
        overrides=tuple(word for word in record.overrides if word not in common),
        rewrites=rewritten(record),
        same_as=record.same_as,
        is_baseline=record.is_baseline,
        status=record.status,
        objective=tuple(each.mean for each in means) or None,
        half_width=ends[0] if ends else None,
        measured=means[0].count if means else 0,
        runs=len(samples(record, records)),
        is_optimal=False,
        against_baseline=means[0].mean / base - 1 if means and base else None,
        best_level=record.best_level,
        cached_from=record.cached_from,
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
