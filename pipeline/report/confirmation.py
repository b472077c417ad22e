"""Whether the winner beats the baseline, from repeated measurements: alternating rounds, and other traffic. Pure."""

from collections.abc import Iterator, Sequence

from pipeline.core import objectives
from pipeline.core.record import Phase, Record
from pipeline.core.statistics import Comparison, compare
from pipeline.core.values import value
from pipeline.report.ranking import Row, objective_names, samples


@value
class Confirmation:
    """The winner against the baseline."""

    winner: int
    baseline: int
    rounds: int  # in which both were measured
    lost: int  # measurements that have no counterpart: it failed, or was not run
    comparison: Comparison | None  # None: too little was measured
    held_out: str | None  # the other traffic
    held_out_change: float | None  # 0.1 is 10% better under it; one measurement each


def confirm(records: Sequence[Record], rows: Sequence[Row]) -> Confirmation | None:
    """What is shown of the winner; None where there is nothing to compare."""
    best = next((row for row in rows if row.rank == 1), None)
    base = next((row for row in rows if row.is_baseline and row.rank is not None), None)
    if best is None or base is None or best.number == base.number:
        return None
    ours, theirs = (_again(records, each.number, "confirm") for each in (best, base))
    scores = [(_score(one), _score(two)) for one, two in _rounds(ours, theirs)]
    whole = [(one, two) for one, two in scores if one is not None and two is not None]
    other = [next(iter(_again(records, each.number, "held_out")), None) for each in (best, base)]
    return Confirmation(
        winner=best.number,
        baseline=base.number,
        rounds=len(whole),
        lost=max(len(ours), len(theirs)) - len(whole),
        comparison=_compared(records, best, base, whole),
        held_out=next((one.config.traffic.name for one in other if one), None),
        held_out_change=_change(*other),
    )


def _compared(
    records: Sequence[Record], best: Row, base: Row, whole: Sequence[tuple[float, float]]
) -> Comparison | None:
    """The comparison by rounds, if any; else by the search's repeats, which favour the winner that they chose."""
    more = objectives.is_maximised(objective_names(records)[0])
    if whole:
        return compare([one for one, _ in whole], [two for _, two in whole], is_maximised=more, is_paired=True)
    groups = [[_score(one) for one in samples(_record(records, row), records)] for row in (best, base)]
    ours, theirs = ([score for score in group if score is not None] for group in groups)
    return compare(ours, theirs, is_maximised=more)


def _rounds(ours: Sequence[Record], theirs: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
    """Each of ours with the one of theirs that ran next to it."""
    left = list(theirs)
    for one in ours:
        if left:
            near = min(left, key=lambda other: abs(other.number - one.number))
            left.remove(near)
            yield one, near


def _again(records: Sequence[Record], number: int, phase: Phase) -> list[Record]:
    return [one for one in records if one.repeat_of == number and one.phase == phase]


def _record(records: Sequence[Record], row: Row) -> Record:
    return next(one for one in records if one.number == row.number)


def _score(record: Record) -> float | None:
    name = objective_names([record])[0]
    return (record.objective or {}).get(name)


def _change(ours: Record | None, theirs: Record | None) -> float | None:
    scores = [_score(one) if one else None for one in (ours, theirs)]
    if ours is None or scores[0] is None or not scores[1]:
        return None
    change = scores[0] / scores[1] - 1
    return change if objectives.is_maximised(objective_names([ours])[0]) else -change


def sentences(found: Confirmation | None, rows: Sequence[Row]) -> Iterator[str]:
    """The headline, and what to know of it."""
    if found is None:
        yield from _without_baseline(rows)
        return
    yield from _compared_words(found)
    if found.lost:
        yield f"{found.lost} of the rounds did not count: the winner or the baseline failed or was not run."
    if found.held_out_change is not None:
        change = f"{found.held_out_change:+.1%}, measured once each"
        yield f"Under traffic={found.held_out}, which the search did not use: {change}."


def _compared_words(found: Confirmation) -> Iterator[str]:
    again = "Set hydra.sweeper.confirm=3 to measure the winner and the baseline three more times."
    if found.comparison:
        how = f"{found.rounds} alternating rounds" if found.comparison.pairs else "the repeats of the search"
        yield f"Trial {found.winner} against the baseline, by {how}: {found.comparison}."
        yield f"Differences below {found.comparison.noise:.1%} could not have been shown (95% confidence)."
    else:
        how = "in one round only: a difference can be noise" if found.rounds else "once: a difference can be noise"
        yield f"Trial {found.winner} against the baseline was measured {how}. {again}"


def _without_baseline(rows: Sequence[Row]) -> Iterator[str]:
    ranked = [row for row in rows if row.rank is not None]
    if len(rows) < 2 or not ranked:
        return
    if ranked[0].is_baseline:
        yield "Nothing was better than the baseline."
    elif all(row.measured == 1 for row in ranked):
        yield "Each configuration was measured once: small differences can be noise."
    else:
        yield "No baseline with a result to compare with; ± is the 95% interval of a mean."
