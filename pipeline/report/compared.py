"""One of several sweeps that are held beside each other: what it was, what it recommends, what that scored. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

from pipeline.core import capacity
from pipeline.core.record import Record
from pipeline.core.schema import Slo
from pipeline.core.schema_traffic import Traffic
from pipeline.core.statistics import Interval, interval
from pipeline.core.values import value
from pipeline.report import differences, labels, ranking, sentences, spent, subject, table, verdict
from pipeline.report.best import card
from pipeline.report.ranking import Row
from pipeline.report.verdict import Kind, Verdict


@value
class Source:
    """The records of a sweep's folder, and how many others cannot be read."""

    folder: str
    records: tuple[Record, ...]
    unreadable: int = 0


@value
class Score:
    """What one configuration measured."""

    trial: int
    engine: str | None  # None: the sweep has no other
    overrides: tuple[str, ...]  # the knobs that are set; none: every knob is left to the engine
    by: Literal["rounds", "search"]  # of the confirmation; the search's favour whom they choose
    samples: Mapping[str, tuple[float, ...]]  # by objective; 0: outside the SLO
    means: Mapping[str, Interval]
    level: str | None
    capacity: str | None  # users, each time that they were looked for
    cached_from: str | None  # the trial of another sweep that measured it

    @property
    def is_outside(self) -> bool:
        """Whether it missed the SLO, once or always."""
        return any(seen <= 0 for some in self.samples.values() for seen in some)


@value
class Sweep:
    """A sweep in short. Hours are those in which any of its trials ran."""

    letter: str
    folder: str
    models: tuple[str, ...]
    engines: tuple[str, ...]
    hardware: tuple[str, ...]
    gpus_per_trial: tuple[int, ...]
    traffic: tuple[str, ...]
    slo: tuple[str, ...]
    objectives: tuple[str, ...]
    measures: tuple[str, ...]  # the objectives in words
    trials: Mapping[str, int]  # by status
    configurations: int
    unreadable: int  # records that are left out
    began: datetime
    hours: float
    spent: Mapping[str, str]  # GPU-hours, or hours of the machine; the price of them
    kind: Kind
    verdict: tuple[str, ...]  # in sentences, the headline first
    change: str  # of the recommended one against this sweep's baseline
    recommended: Score | None
    baseline: Score | None  # of the engine that is recommended
    baselines: Mapping[str, Score | None]  # of each engine


def of(letter: str, seen: Source) -> Sweep:
    """What there is to know of it."""
    records, found = seen.records, verdict.of(seen.records)
    firsts = ranking.originals(records)
    configs = [one.config for one in firsts]
    return Sweep(
        letter=letter,
        folder=seen.folder,
        models=_each(_model(one) for one in firsts),
        engines=_engines(firsts),
        hardware=_each(_hardware(one) for one in firsts),
        gpus_per_trial=tuple(sorted({one.gpus for one in configs} - {0})),
        traffic=_each(_traffic(one.traffic) for one in configs),
        slo=_each(_slo(one.slo) for one in configs),
        objectives=found.names,
        measures=tuple(labels.metric(name, configs[0]) for name in found.names),
        trials=Counter(one.status for one in records),
        configurations=len(firsts),
        unreadable=seen.unreadable,
        began=min(one.started_at for one in records),
        hours=_hours(records),
        spent=dict(spent.facts(records)),
        kind=found.kind,
        verdict=tuple(sentences.of(found)) or ("One configuration: nothing to compare it with.",),
        change=table.change(found.best, found) if found.best else "",
        recommended=_score_of(found.best, found, records),
        baseline=_score_of(_base(found), found, records),
        baselines={engine: _score_of(_base(one), found, records) for engine, one in _by_engine(found, records)},
    )


def _by_engine(found: Verdict, records: Sequence[Record]) -> Iterable[tuple[str, Verdict]]:
    return found.engines.items() or [(engine, found) for engine in ranking.by_engine(records)]


def _base(found: Verdict) -> Row | None:
    return next((row for row in found.rows if row.number == found.baseline), None)


def _score_of(row: Row | None, found: Verdict, records: Sequence[Record]) -> Score | None:
    first = next((one for one in records if row and one.number == row.number), None)
    return score([first], records, found.names, row.capacity if row else None) if first else None


def score(
    firsts: Sequence[Record], records: Sequence[Record], names: Sequence[str], users: str | None = None
) -> Score | None:
    """Of one configuration, by its first trials: several where a sweep ran it without knowing that it did. None: none.

    By the rounds of the confirmation where there are any.
    """
    used = [one for first in firsts for one in card.measurements(first, records) if _has(one, names)]
    if not used:
        return None
    samples = {name: tuple((one.objective or {})[name] for one in used) for name in names}
    means = {name: interval(some) for name, some in samples.items()}
    return Score(
        trial=firsts[0].number,
        engine=firsts[0].config.runtime.name if len({one.config.runtime.name for one in records}) > 1 else None,
        overrides=_words(firsts[0]),
        by="search" if any(one.phase == "search" for one in used) else "rounds",
        samples=samples,
        means={name: mean for name, mean in means.items() if mean},
        level=used[0].best_level,
        capacity=users,
        cached_from=firsts[0].cached_from,
    )


def _has(record: Record, names: Sequence[str]) -> bool:
    return record.status == "ok" and (record.objective or {}).keys() >= {*names}


def _words(record: Record) -> tuple[str, ...]:
    """With an arrow where the engine runs something else than was asked."""
    arrows = {words.split("→", 1)[0]: words for words in ranking.rewritten(record)}
    return tuple(arrows.get(word, word) for word in differences.words(record.config))


def _each(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _engines(records: Sequence[Record]) -> tuple[str, ...]:
    """By their own word; a trial that failed before the engine said anything is asked only if all did."""
    told = [one for one in records if one.engine_version is not None or one.failure is None]
    return _each(subject.engine(one) for one in told or records)


def _model(record: Record) -> str:
    name, what = record.config.model.name, differences.source(record.config.model)
    return name if name == what else f"{name} ({what})"


def _hardware(record: Record) -> str:
    """`8 x h100`; of a CPU, which one."""
    hardware, seen = record.config.hardware, record.environment
    if not hardware.is_cpu:
        return f"{hardware.gpu_count} x {hardware.name}"
    cores = f", {seen['cpu_count']} cores" if "cpu_count" in seen else ""
    return f"{hardware.name}: {seen['cpu']}{cores}" if "cpu" in seen else hardware.name


def _traffic(traffic: Traffic) -> str:
    """`chat: N(200,100)/(120,60) x 1, 4, 16 users`, `... at 2, 4 requests/s (poisson)`."""
    users = ", ".join(f"{each:g}" for each in traffic.demands)
    if capacity.is_wanted(traffic):
        users = f"as many as fit, up to {traffic.most_demand:g}"
    load = f"at {users} requests/s ({traffic.arrival})" if traffic.is_open else f"x {users} users"
    return f"{traffic.name}: {', '.join(traffic.scenarios)} {load}"


def _slo(slo: Slo) -> str:
    if not slo.is_set:
        return "none"
    return labels.slo(slo) if slo.name == "none" else f"{slo.name}: {labels.slo(slo)}"


def _hours(records: Sequence[Record]) -> float:
    """The time in which any of them ran: a sweep that went on days later did not take days."""
    seconds, until = 0.0, None
    for one in sorted(records, key=lambda record: record.started_at):
        begin = one.started_at if until is None else max(one.started_at, until)
        seconds += max(0.0, (one.ended_at - begin).total_seconds())
        until = one.ended_at if until is None else max(until, one.ended_at)
    return seconds / 3600
