"""The verdict on a sweep: one value, made here alone. Table, `Best:`, files, report, tracker and exit code show it.

Contenders and what is shown of them come from the rounds of the confirmation; what the search measured only says who
they are. `core/rounds.py` decides, as it does while the sweep runs. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from pipeline.core import objectives, pareto, rounds, sequential
from pipeline.core.between import Match
from pipeline.core.record import Phase, Record
from pipeline.core.rounds import Contest, Decision, How, Rules, Sample
from pipeline.core.sequential import Finding
from pipeline.core.values import value
from pipeline.report import answered, beside, closest, flags, front, ranking
from pipeline.report.closest import Closest
from pipeline.report.front import Point
from pipeline.report.ranking import Row

Kind = Literal[
    "no result",
    "no SLO",  # measured, but nothing meets it
    "barred",  # measured, but none that answers as the baseline does
    "not kept",  # met the SLO in the search, but not when it was measured again
    "single",  # one configuration: nothing to compare
    "no baseline",
    "baseline",  # nothing was better in the search
    "once",  # better in the search, and not shown by rounds
    "confirmed",
    "no difference",  # of no contender it was shown that it is better
    "not held",  # better, but not under the other traffic
    # of several engines with a result:
    "engine shown",  # by rounds, the best of one is better than the best of each other
    "engine not shown",  # so many rounds did not show it: the one that leads is recommended
    "engine once",  # too few rounds: the one with the better search score is recommended
]


@value
class Verdict:
    """What a sweep has shown."""

    kind: Kind
    recommended: int | None  # the trial; None: there is nothing to recommend
    baseline: int | None  # the trial, if it has a result
    names: tuple[str, ...]  # of the objectives
    rows: tuple[Row, ...]  # the recommended one first
    contests: tuple[Contest, ...] = ()
    held_out: Contest | None = None
    other_traffic: str | None = None
    is_unfinished: bool = False  # rounds are missing: time ran out, or the sweep still runs
    front: tuple[Point, ...] = ()  # with several objectives
    closest: Closest | None = None
    engines: Mapping[str, "Verdict"] = Field(default_factory=dict)  # each alone, where there are several
    matches: tuple[Match, ...] = ()  # of the best of each engine

    @property
    def exit_code(self) -> int:
        """Of the command: 1 where nothing is recommended."""
        return 0 if self.recommended is not None else 1

    @property
    def best(self) -> Row | None:
        """The row of what is recommended."""
        return next((row for row in self.rows if row.number == self.recommended), None)

    @property
    def baselines(self) -> frozenset[int]:
        """The baselines of all engines."""
        found = [self.baseline, *(one.baseline for one in self.engines.values())]
        return frozenset(number for number in found if number is not None)

    @property
    def base_meets_slo(self) -> bool:
        """Whether the baseline has a result inside the SLO, so that a change from it means something."""
        return any(row.number == self.baseline and row.meets_slo for row in self.rows)

    def contest(self, number: int) -> Contest | None:
        """What the rounds have shown of a configuration."""
        return next((one for one in self.contests if one.contender == number), None)


def of(records: Sequence[Record]) -> Verdict:
    """The verdict on these trials; of several engines each has its own, beside the one on all of them."""
    parts = ranking.by_engine(records)
    if len(parts) < 2:
        return _alone(records)
    return _together(records, {engine: _alone(some, ranking.of_engine(some)) for engine, some in parts.items()})


def _together(records: Sequence[Record], engines: Mapping[str, Verdict]) -> Verdict:
    """The engines' best ones against each other."""
    names = ranking.objective_names(records)
    points = front.points(answered.fair(records)) if len(names) > 1 else ()
    found = ranking.in_order([row for one in engines.values() for row in one.rows], names)
    is_maximised = [objectives.is_maximised(name) for name in names]
    seen = [sample(one, is_maximised) for one in records if one.phase == "between" and one.status != "interrupted"]
    kind, recommended, matches = beside.judged(engines, seen, is_maximised, _planned(records, "between"))
    base = next((one.baseline for one in engines.values() if one.recommended == recommended), None)
    return Verdict(
        kind=kind,
        recommended=recommended,
        baseline=base,
        names=names,
        rows=_ranked(found, records, points, recommended),
        is_unfinished=matches.next is not None or any(one.is_unfinished for one in engines.values()),
        front=points,
        closest=closest.of(answered.fair(records)) if kind in {"no SLO", "not kept"} else None,
        engines=engines,
        matches=matches.played,
    )


def _alone(records: Sequence[Record], common: frozenset[str] | None = None) -> Verdict:
    """The verdict on the trials of one engine."""
    names = ranking.objective_names(records)
    standing = answered.told(ranking.standings(records, common), records)
    base = _base(records, standing)
    points = front.points(answered.fair(records)) if len(names) > 1 else ()
    decision = _decision(records, standing, base, names)
    kind, recommended = _kind(records, standing, base, decision)
    changed = [_changed(row, base, decision.contests, records) for row in standing]
    rows = _ranked(changed, records, points, recommended)
    return Verdict(
        kind=kind,
        recommended=recommended,
        baseline=base.number if base else None,
        names=names,
        rows=rows,
        contests=decision.contests,
        held_out=decision.held_out,
        other_traffic=next((one.config.traffic.name for one in records if one.phase == "held_out"), None),
        is_unfinished=decision.next is not None,
        front=points,
        closest=closest.of(answered.fair(records)) if kind in {"no SLO", "not kept"} else None,
    )


def _base(records: Sequence[Record], standing: Sequence[Row]) -> Row | None:
    """The baseline, if it was measured: inside the SLO or not."""
    measured = {one.number for one in records if one.objective or any(level.metrics for level in one.levels)}
    bases = sorted((row for row in standing if row.is_baseline), key=lambda row: row.number)  # the one that was first
    return next((row for row in bases if row.objective or (row.number in measured and not row.meets_slo)), None)


def _decision(records: Sequence[Record], standing: Sequence[Row], base: Row | None, names: Sequence[str]) -> Decision:
    """What the rounds have decided, of those that were measured again; nothing without a baseline."""
    if base is None:
        return Decision()
    more = [objectives.is_maximised(name) for name in names]
    again_in = ("confirm", "held_out")
    seen = [sample(one, more) for one in records if one.phase in again_in and one.status != "interrupted"]
    again = {one.of for one in seen}
    rows = [row for row in standing if row.objective and not row.is_barred]
    contenders = [row.number for row in rows if row.number in again and row.number != base.number]
    planned = _planned(records, "confirm")
    if len(more) > 1:
        seen, contenders = rounds.in_turns(seen, base.number), contenders[: sequential.CONTENDERS]
        planned = pareto.ROUNDS if planned is None else planned
    is_maximised = len(more) > 1 or more[0]
    rules = Rules(planned=planned, held_out=_planned(records, "held_out"), is_maximised=is_maximised)
    return rounds.decide(seen, contenders, base.number, rules)


def _planned(records: Sequence[Record], phase: Phase) -> int | None:
    """The rounds that were asked for last; 0: none."""
    return next((one.rounds for one in reversed(records) if one.phase == phase), 0)


def sample(record: Record, is_maximised: Sequence[bool]) -> Sample:
    """A measurement as `core/rounds.py` takes it."""
    scores = tuple((record.objective or {}).get(name, 0.0) for name in objectives.names(record.config))
    score = front.volume(scores, is_maximised)
    return Sample(
        number=record.number,
        of=record.number if record.repeat_of is None else record.repeat_of,
        how=_how(record, score),
        score=score,
        place=record.place,
        phase=record.phase,
    )


def _how(record: Record, score: float) -> How:
    if record.status == "ok" and ranking.meets_slo(record) and score > 0:
        return "fine"
    is_measured = any(level.metrics for level in record.levels)
    return "outside" if is_measured and record.config.slo.is_set else "failed"


def _kind(
    records: Sequence[Record], standing: Sequence[Row], base: Row | None, decision: Decision
) -> tuple[Kind, int | None]:
    """How it ended, and whom that recommends."""
    fine = [row.number for row in standing if row.may_win]
    if not fine:
        if any(row.is_barred for row in standing):
            return "barred", None
        is_measured = any(level.metrics for record in records for level in record.levels)
        return ("no SLO" if is_measured and records[0].config.slo.is_set else "no result"), None
    if base is None or len(standing) == 1:
        return ("no baseline" if len(standing) > 1 else "single"), fine[0]
    if not decision.contests:
        return ("baseline" if fine[0] == base.number else "once"), fine[0]
    if decision.winner is not None:
        return _of_winner(decision), decision.winner
    return _of_none(decision, base.number if base.meets_slo else None)


def _of_winner(decision: Decision) -> Kind:
    return "once" if decision.contests[-1].finding.word == "once" else "confirmed"


def _early(decision: Decision) -> int | None:
    """The leader whose rounds ended before any look could be taken, if they do not speak against it."""
    first = decision.contests[0]
    seen = first.finding.comparison
    is_early = (
        len(decision.contests) == 1 and first.finding.word == "open" and first.finding.rounds < min(sequential.BOUNDS)
    )
    is_against = (seen is not None and seen.change <= 0) or bool(first.finding.lost)
    return first.contender if is_early and not is_against else None


def _of_none(decision: Decision, stays: int | None) -> tuple[Kind, int | None]:
    """No contender was shown to be better: the baseline, if it meets the SLO; else one that kept meeting it."""
    if decision.held_out is not None:
        return "not held", decision.contests[-1].contender if stays is None else stays
    if (early := _early(decision)) is not None:
        return "once", early
    last = decision.contests[-1]
    if last.finding.word == "void" and last.finding.void:  # the baseline no longer does what it did in the search
        return ("not kept", None) if last.finding.lost else ("once", last.contender)
    if stays is not None:
        return "no difference", stays
    kept = next((one.contender for one in decision.contests if not sequential.contradicts(one.finding)), None)
    return ("once", kept) if kept is not None else ("not kept", None)


def _ranked(
    standing: Sequence[Row], records: Sequence[Record], points: Sequence[Point], recommended: int | None
) -> tuple[Row, ...]:
    """The rows with rank and flags; the recommended one first, the others by their search score."""
    rows = sorted(standing, key=lambda row: row.number != recommended)
    fine = [row.number for row in rows if row.may_win]
    on_front = {point.number for point in points}
    found = []
    for row in rows:
        rank = fine.index(row.number) + 1 if row.number in fine else None
        ranked = replace(row, rank=rank, is_optimal=row.number in on_front)
        found.append(replace(ranked, flags=flags.of(ranked, records, points)))
    return tuple(found)


def _changed(row: Row, base: Row | None, contests: Iterable[Contest], records: Sequence[Record]) -> Row:
    """With its change against the baseline: by rounds where there are any, else the search's."""
    finding = next((one.finding for one in contests if one.contender == row.number), None)
    if finding and (finding.comparison or finding.only_ours or finding.lost):
        return _by_rounds(row, finding, is_maximised=_is_maximised(records))
    if (seen := ranking.searched(row, base, records)) is None:
        return row
    change, low, high = seen
    margin = None if low is None or high is None else max(change - low, high - change)
    return replace(row, change=change, change_low=low, change_high=high, change_margin=margin)


def _is_maximised(records: Sequence[Record]) -> bool:
    names = ranking.objective_names(records)
    return len(names) > 1 or objectives.is_maximised(names[0])


def _by_rounds(row: Row, finding: Finding, *, is_maximised: bool) -> Row:
    """Comparisons say how much better; a row, how much more."""
    seen = finding.comparison
    if seen is None:
        return replace(row, rounds=finding.rounds + finding.only_ours)
    ends = (seen.low, seen.high) if is_maximised else (_negated(seen.high), _negated(seen.low))
    return replace(
        row,
        change=seen.change if is_maximised else -seen.change,
        change_low=ends[0],
        change_high=ends[1],
        change_margin=seen.margin,
        rounds=finding.rounds,
    )


def _negated(end: float | None) -> float | None:
    return None if end is None else -end
