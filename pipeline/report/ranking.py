"""Turns records into rows, one per configuration, however often the search measured it. Decides nothing. Pure."""

from collections.abc import Sequence

from pipeline.core import advice, capacity, loads, objectives, pareto, sides
from pipeline.core.quality import Judgement
from pipeline.core.record import Level, Record, Stats
from pipeline.core.statistics import Interval, compare, interval
from pipeline.core.values import value


@value
class Row:
    """One configuration. Times in seconds, at the level that gave the objective in its first trial."""

    rank: int | None
    number: int
    overrides: tuple[str, ...]
    rewrites: tuple[str, ...]  # knobs that the engine runs with another value than asked, e.g. page_size=128→64
    same_as: int | None  # the trial whose measurement this row shows: both resolved alike
    is_baseline: bool
    status: str
    objective: tuple[float, ...] | None  # search scores: means over all that measured it in the search
    half_width: float | None  # of the 95% t-interval of the first objective's mean; None: measured once
    measured: int  # times that it was measured in the search
    runs: int  # times that it was run in the search
    meets_slo: bool  # true without an SLO
    change: float | None = None  # relative difference of the first objective from the baseline's; 0.1 is 10% more
    change_low: float | None = None
    change_high: float | None = None
    change_margin: float | None = None  # as printed behind ±; None: measured once
    rounds: int = 0  # of the confirmation, which the change is by; 0: it is the search's
    is_optimal: bool = False  # with several objectives: a level of it is on the Pareto front
    flags: tuple[str, ...] = ()
    is_raced: bool = False  # levels were left out, as another configuration was better: below the whole ones
    best_level: str | None
    capacity: str | None = None  # the most users, each time that they were looked for: `37 [32, 44], 35 [30, 44]`
    is_top: bool = False  # the best level is the one with the most load of those that were given
    quality: Judgement | None = None  # of its answers; None: it is the baseline, or was not asked
    cached_from: str | None
    ttft_p95_s: float | None
    tpot_p95_s: float | None
    error_rate: float | None
    slo_attainment: float | None
    limited_by: str = ""  # at that level, in a word or two: advice
    why: str | None

    @property
    def is_barred(self) -> bool:
        """Whether it cannot win, for what it answers."""
        return self.quality is not None and not self.quality.may_win

    @property
    def may_win(self) -> bool:
        """Whether it has a result that counts."""
        return self.objective is not None and self.meets_slo and not self.is_barred


def standings(records: Sequence[Record], common: frozenset[str] | None = None) -> list[Row]:
    """Best search score first, raced trials last; then those outside the SLO, then those without a result.

    `common`: the overrides that tell nothing apart; those of all these trials, if not given.
    """
    firsts = originals(records)
    common = shared_overrides(firsts) if common is None else common
    names = objective_names(records)
    baselines = {record.number for record in firsts if is_baseline(record, firsts)}
    rows = [_row(record, records, names, common, is_base=record.number in baselines) for record in firsts]
    return in_order(rows, names)


def in_order(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Rows in the order of `standings`."""
    more = [objectives.is_maximised(name) for name in names]
    found = sorted(rows, key=lambda row: row.same_as is not None)  # of equals, first the one that was measured
    return sorted(
        found,
        key=lambda row: (
            row.objective is None,
            row.is_barred,
            not row.meets_slo,
            row.is_raced,
            -worth(row.objective, more),
        ),
    )


def by_engine(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The trials of each engine."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(engine(record), []).append(record)
    return found


def engine(record: Record) -> str:
    """The option of the group runtime that a trial chose."""
    return sides.of_words(record.overrides) or record.config.runtime.name


def worth(scores: tuple[float, ...] | None, more: Sequence[bool]) -> float:
    """What configurations are ordered by: the objective; of several, the hypervolume of their point."""
    if not scores:
        return 0.0
    return pareto.volume(scores, more) if len(more) > 1 else scores[0] if more[0] else -scores[0]


def originals(records: Sequence[Record]) -> list[Record]:
    """The first trial of each configuration."""
    there = {record.number for record in records}
    return [record for record in records if record.repeat_of is None or record.repeat_of not in there]


def samples(record: Record, records: Sequence[Record]) -> list[Record]:
    """All trials of the search that ran a configuration, its first one first."""
    again = [one for one in records if one.repeat_of == record.number and one.phase == "search"]
    return [record, *again]


def meets_slo(record: Record) -> bool:
    """Whether a trial has a result inside the SLO; any result, where there is no SLO."""
    return bool(record.objective) and (record.best_level is not None or not record.config.slo.is_set)


def searched(row: Row, base: Row | None, records: Sequence[Record]) -> tuple[float, float | None, float | None] | None:
    """The change by the search alone, with its interval where both were repeated; of several objectives, the volume's.

    None where there is none to tell.
    """
    names = objective_names(records)
    if base is None or not row.objective or not base.objective or not base.meets_slo or not row.meets_slo:
        return None
    if base.objective[0] <= 0 or row.number == base.number:
        return None
    more = [objectives.is_maximised(name) for name in names]
    if len(names) > 1:
        ours, theirs = (pareto.volume(scores, more) for scores in (row.objective, base.objective))
        return (ours / theirs - 1, None, None) if ours and theirs else None
    found = [[seen[0] for one in _again(each, records) if (seen := _scores(one, names))] for each in (row, base)]
    shown = compare(*found, is_maximised=more[0])
    ends = (None, None) if shown is None else (shown.low, shown.high)
    low, high = ends if more[0] else (_negative(ends[1]), _negative(ends[0]))
    return row.objective[0] / base.objective[0] - 1, low, high


def _negative(end: float | None) -> float | None:
    return None if end is None else -end


def _again(row: Row, records: Sequence[Record]) -> list[Record]:
    return samples(next(one for one in records if one.number == row.number), records)


def _means(record: Record, records: Sequence[Record], names: Sequence[str]) -> tuple[Interval, ...]:
    """The mean of each objective; empty for a configuration that was never measured."""
    scores = [seen for one in samples(record, records) if (seen := _scores(one, names))]
    found = (interval([seen[i] for seen in scores]) for i in range(len(names)))
    return tuple(each for each in found if each is not None)


def is_baseline(record: Record, records: Sequence[Record]) -> bool:
    """Whether every knob is left to the engine, or at least every knob that the sweep varies (not a fixed tp_size).

    Of servers that are there already, whether it is the first.
    """
    if len({other.config.backend.url for other in records}) > 1:  # of servers that are there, the first
        return record.config.backend.url == records[0].config.backend.url
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


def of_engine(records: Sequence[Record]) -> frozenset[str]:
    """The overrides that all trials of an engine have, but for its name."""
    shared = frozenset.intersection(*(frozenset(record.overrides) for record in originals(records)))
    return shared - {word for word in shared if word.startswith(f"{sides.RUNTIME}=")}


def _row(
    record: Record, records: Sequence[Record], names: Sequence[str], common: frozenset[str], *, is_base: bool
) -> Row:
    means = _means(record, records, names)
    level = _best_level(record)
    seen = level.metrics if level else None
    ends = [(each.high - each.low) / 2 for each in means[:1] if each.low is not None and each.high is not None]
    return Row(
        rank=None,
        number=record.number,
        overrides=tuple(word for word in record.overrides if word not in common),
        rewrites=rewritten(record),
        same_as=record.same_as,
        is_baseline=is_base,
        status=record.status,
        objective=tuple(each.mean for each in means) or None,
        half_width=ends[0] if ends else None,
        measured=means[0].count if means else 0,
        runs=len(samples(record, records)),
        meets_slo=meets_slo(record) or not record.config.slo.is_set,
        is_raced=record.is_raced,
        best_level=record.best_level,
        capacity=_capacity(record, records),
        is_top=level is not None and _is_top(level, record),
        cached_from=record.cached_from,
        ttft_p95_s=_p95(seen.ttft) if seen else None,
        tpot_p95_s=_p95(seen.tpot) if seen else None,
        error_rate=seen.error_rate if seen else None,
        slo_attainment=seen.slo_attainment if seen else None,
        limited_by=advice.WORDS[record.advice.limit] if record.advice else "",
        why=_why(record),
    )


def _is_top(level: Level, record: Record) -> bool:
    traffic, name = record.config.traffic, objectives.names(record.config)[0]
    is_last = level.demand == capacity.most(traffic)
    return is_last and len(record.config.objective) == 1 and objectives.grows(name)


def _capacity(record: Record, records: Sequence[Record]) -> str | None:
    """At the best level's scenario; of the trial, and of its rounds under the same traffic."""
    own = [one for one in records if one.repeat_of == record.number and one.phase != "held_out"]
    scenario = loads.scenario_of(record.best_level) if record.best_level else record.config.traffic.scenarios[0]
    found = [
        seen for one in (record, *own) for seen in capacity.of(one.levels, one.config) if seen.scenario == scenario
    ]
    return ", ".join(f"{seen.users:g} {seen.interval}" for seen in found) or None


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
