"""What the quality guard says of each configuration that was asked, from the records of a sweep. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pipeline.core import quality
from pipeline.core.quality import Judgement
from pipeline.core.record import Record
from pipeline.report import ranking
from pipeline.report.ranking import Row


def of(records: Sequence[Record]) -> Mapping[int, Judgement]:
    """By the number of a configuration's first trial; each against the baseline of its engine, which has none."""
    return {number: found for part in ranking.by_engine(records).values() for number, found in _alone(part).items()}


def barred(records: Sequence[Record]) -> Mapping[int, Judgement]:
    """The configurations that cannot win, whatever they measured."""
    return {number: found for number, found in of(records).items() if not found.may_win}


def fair(records: Sequence[Record]) -> list[Record]:
    """The trials of all others."""
    out = barred(records).keys()
    return [one for one in records if not {one.number, one.repeat_of} & out]


def told(rows: Sequence[Row], records: Sequence[Record]) -> list[Row]:
    """Rows with what was found out of their answers, in their new order; of those that were not asked, that."""
    judged, base = of(records), reference(records)
    missing = quality.judge(None, base.asked, base.config.quality) if base else None
    own = _of(base) if base else None
    found = [
        row if row.number == own or not row.objective else replace(row, quality=judged.get(row.number, missing))
        for row in rows
    ]
    return ranking.in_order(found, ranking.objective_names(records))


def at_end(record: Record, earlier: Iterable[Record]) -> Judgement | None:
    """What can be said of the answers of a trial that has just ended.

    None: nobody asked, it is the baseline, or the baseline has no answers yet. Only what is known to be the baseline
    counts: of the first few trials, another one may look like it.
    """
    mine = ranking.engine(record)
    known = [one for one in earlier if _has_answers(one) and _is_said_to_be(one) and ranking.engine(one) == mine]
    base = min(known, key=lambda one: one.number, default=None)
    if record.asked is None or base is None or _of(base) == _of(record):
        return None
    return quality.judge(record.asked, base.asked, record.config.quality)


def reference(records: Sequence[Record]) -> Record | None:
    """The trial of the baseline whose answers all others of its engine are held against."""
    asked = _asked(records)
    bases = [number for number, record in asked.items() if _is_baseline(record, records)]
    return asked[min(bases)] if bases else None


def _alone(records: Sequence[Record]) -> Mapping[int, Judgement]:
    base = reference(records)
    theirs = base.asked if base else None
    own = _of(base) if base else None
    found = {
        number: quality.judge(record.asked, theirs, record.config.quality)
        for number, record in _asked(records).items()
        if number != own
    }
    # Of a twin nobody asks anew, even where the trial whose result it shows is asked later
    twins = [(one.number, one.same_as) for one in records if one.same_as is not None]
    return found | {number: found[first] for number, first in twins if first in found}


def answers_of(number: int, records: Sequence[Record]) -> Record | None:
    """The trial with the answers of a configuration; None where nobody has asked it."""
    return _asked(records).get(number)


def _asked(records: Sequence[Record]) -> Mapping[int, Record]:
    """For each configuration the first of its trials that has answers, else the first that was asked."""
    found: dict[int, Record] = {}
    for record in (one for one in records if one.asked is not None):
        number = _of(record)
        if number not in found or not _has_answers(found[number]):
            found[number] = record
    return found


def _of(record: Record) -> int:
    return record.number if record.repeat_of is None else record.repeat_of


def _has_answers(record: Record) -> bool:
    return record.asked is not None and bool(record.asked.answers)


def _is_baseline(record: Record, records: Sequence[Record]) -> bool:
    return ranking.is_baseline(record, records) or _is_said_to_be(record)


def _is_said_to_be(record: Record) -> bool:
    return record.is_baseline or (record.reason is not None and record.reason.by == "baseline")
