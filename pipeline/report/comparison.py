"""Several sweeps beside each other: whether their scores can be compared, and what is shown of them. Pure.

The first sweep is what the others are held against. Scores of two sweeps are two independent groups of measurements.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pipeline.core import objectives
from pipeline.core.record import Record
from pipeline.core.statistics import compare, paired
from pipeline.core.values import value
from pipeline.report import compared, differences, ranking
from pipeline.report.compared import Score, Source, Sweep
from pipeline.report.differences import KNOB, MODEL, Difference, Told

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Word = Literal[
    "better",
    "worse",
    "no difference shown",
    "once",  # too few measurements to show anything
    "by the search",  # what a search measured of the configuration that it chose is too good to show anything
    "none",  # there is nothing to compare, see `why`
]


@value
class Change:
    """Of one objective between two sweeps. 0.1 is 10% more of it, whether more is better or not."""

    objective: str
    verdict: Word
    change: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None  # as printed behind ±
    why: str | None = None
    engine: str | None = None  # whose baselines these are, where either sweep has several engines


@value
class Cell:
    """What one sweep has of a configuration: a score, or how its trial ended."""

    trial: int
    score: Score | None
    ended: str | None = None  # the kind of failure, or a word


@value
class Configuration:
    """One that several sweeps ran."""

    overrides: tuple[str, ...]
    cells: tuple[Cell | None, ...]  # of each sweep
    changes: tuple[tuple[Change, ...], ...]  # of each sweep but the first; empty where there is nothing to compare


@value
class Pair:
    """A sweep against the first one."""

    sweep: str
    against: str
    obstacles: tuple[Difference, ...]  # why scores cannot be compared; then all else is empty
    recommended: tuple[Change, ...] = ()
    baseline: tuple[Change, ...] = ()
    in_both: int = 0  # configurations that both ran
    only_here: int = 0
    only_there: int = 0  # in the first one

    @property
    def is_comparable(self) -> bool:
        """Whether the scores are scores of the same thing."""
        return not self.obstacles


@value
class Beside:
    """All of it."""

    sweeps: tuple[Sweep, ...]
    differences: tuple[Difference, ...]
    pairs: tuple[Pair, ...]
    configurations: tuple[Configuration, ...]  # the largest differences first
    together: int  # intervals of configurations, which are right with 95% all together

    @property
    def is_comparable(self) -> bool:
        """Whether every sweep can be compared with the first one."""
        return all(pair.is_comparable for pair in self.pairs)


Key = tuple[tuple[str, str], ...]
Groups = Mapping[Key, list[Record]]


def of(sources: Sequence[Source], *, any_model: bool = False) -> Beside:
    """Hold sweeps against the first one. `any_model`: their models may have different names."""
    sweeps = [compared.of(letter, seen) for letter, seen in zip(LETTERS, sources, strict=False)]
    told = [differences.told(seen.records) for seen in sources]
    subjects = [_subject(sweep, some) for sweep, some in zip(sweeps, told, strict=True)]
    walls = [differences.obstacles(subjects[0], one, any_model=any_model) for one in subjects]
    apart = frozenset[str]().union(*map(differences.varied, told))
    groups = [_groups(some, apart, any_model=any_model) for some in told]
    rows = list(_both(sources, groups, [not wall for wall in walls]))
    count = sum(_has_interval(cells[0], cell) for _, cells in rows for cell in cells[1:])
    names = ranking.objective_names(sources[0].records)
    configurations = [_configuration(words, cells, names, count) for words, cells in rows]
    return Beside(
        sweeps=tuple(sweeps),
        differences=differences.of(told),
        pairs=tuple(
            _pair(sweeps[0], sweep, wall, groups[0], mine)
            for sweep, wall, mine in list(zip(sweeps, walls, groups, strict=True))[1:]
        ),
        configurations=tuple(sorted(configurations, key=_weight)),
        together=count,
    )


def _subject(sweep: Sweep, told: Sequence[Told]) -> Mapping[str, str]:
    """The settings that stand for the sweep: of what it recommends, else of its baseline, else of the first trial."""
    numbers = [one.trial for one in (sweep.recommended, sweep.baseline) if one is not None]
    return next((one.settings for number in numbers for one in told if one.record.number == number), told[0].settings)


def _pair(first: Sweep, this: Sweep, wall: tuple[Difference, ...], there: Groups, here: Groups) -> Pair:
    if wall:
        return Pair(sweep=this.letter, against=first.letter, obstacles=wall)
    return Pair(
        sweep=this.letter,
        against=first.letter,
        obstacles=(),
        recommended=_of_chosen(this, first),
        baseline=_of_baselines(this, first),
        in_both=len(there.keys() & here.keys()),
        only_here=len(here.keys() - there.keys()),
        only_there=len(there.keys() - here.keys()),
    )


def _of_baselines(this: Sweep, first: Sweep) -> tuple[Change, ...]:
    """Of several engines, each one's: that of another engine is no measure of it."""
    letters = (first.letter, this.letter)
    several = len(this.baselines) > 1 or len(first.baselines) > 1
    shared = [engine for engine in first.baselines if engine in this.baselines]
    if not several or not shared:
        return changes(this.baseline, first.baseline, this.objectives, letters)
    found = {
        engine: changes(this.baselines[engine], first.baselines[engine], this.objectives, letters) for engine in shared
    }
    return tuple(replace(seen, engine=engine) for engine, some in found.items() for seen in some)


def _of_chosen(this: Sweep, first: Sweep) -> tuple[Change, ...]:
    """Of what both recommend. A search that chose among several has too good an opinion of its choice."""
    found = changes(this.recommended, first.recommended, this.objectives, (first.letter, this.letter))
    is_biased = any(
        one.recommended is not None and one.recommended.by == "search" and one.configurations > 1
        for one in (this, first)
    )
    return tuple(_without_interval(seen) if is_biased and seen.low is not None else seen for seen in found)


def _without_interval(seen: Change) -> Change:
    return Change(objective=seen.objective, verdict="by the search", change=seen.change)


def changes(
    ours: Score | None, theirs: Score | None, names: Sequence[str], letters: tuple[str, str], count: int = 1
) -> tuple[Change, ...]:
    """Of each objective. `letters`: of theirs and ours; `count`: of comparisons that are read together."""
    missing = [letter for letter, one in zip(letters, (theirs, ours), strict=True) if one is None]
    outside = [letter for letter, one in zip(letters, (theirs, ours), strict=True) if one and one.is_outside]
    if ours is None or theirs is None:
        who = f"{missing[0]} has" if len(missing) == 1 else "both have"
        return tuple(_none(name, f"{who} none with a result") for name in names)
    if outside:
        return tuple(_none(name, f"{' and '.join(outside)} missed the SLO") for name in names)
    if _is_one_measurement(ours, theirs):
        return tuple(_none(name, "one measurement, which the cache gave to both") for name in names)
    return tuple(_change(name, ours.samples[name], theirs.samples[name], count) for name in names)


def _is_one_measurement(ours: Score, theirs: Score) -> bool:
    return bool(ours.cached_from or theirs.cached_from) and ours.samples == theirs.samples


def _none(name: str, why: str) -> Change:
    return Change(objective=name, verdict="none", why=why)


def _change(name: str, ours: Sequence[float], theirs: Sequence[float], count: int) -> Change:
    """By the interval of the ratio where both were repeated, else by the means, which show nothing."""
    is_more = objectives.is_maximised(name)
    found = compare(ours, theirs, is_maximised=is_more, count=count)
    if found is None:
        ratio = math.log((sum(ours) / len(ours)) / (sum(theirs) / len(theirs)))
        once = paired([ratio if is_more else -ratio], None, is_maximised=is_more)
        return Change(objective=name, verdict="once", change=once.change if is_more else -once.change)
    low, high = (found.low, found.high) if is_more else (_negated(found.high), _negated(found.low))
    return Change(
        objective=name,
        verdict=found.verdict,
        change=found.change if is_more else -found.change,
        low=low,
        high=high,
        margin=found.margin,
    )


def _negated(end: float | None) -> float | None:
    return None if end is None else -end


def _groups(told: Sequence[Told], apart: frozenset[str], *, any_model: bool) -> Groups:
    """The first trials of each configuration, by its knobs and what tells trials apart in any of the sweeps."""
    found: dict[Key, list[Record]] = {}
    names = {name for name in apart if not (any_model and name.startswith(MODEL))}
    for record, given in told:
        mine = {name: seen for name, seen in given.items() if name in names or name.startswith(KNOB)}
        key = tuple(sorted((mine | differences.must_be_alike(given, any_model=any_model)).items()))
        found.setdefault(key, []).append(record)
    return found


Both = tuple[tuple[str, ...], list[Cell | None]]


def _both(sources: Sequence[Source], groups: Sequence[Groups], comparable: Sequence[bool]) -> Iterator[Both]:
    """Overrides and cells of configurations that the first sweep and another one ran, unless none has a score."""
    names = ranking.objective_names(sources[0].records)
    keys = {key for some, is_fine in zip(groups, comparable, strict=True) if is_fine for key in some}
    shared = frozenset.intersection(*map(frozenset, keys)) if len(keys) > 1 else frozenset[tuple[str, str]]()
    for key in groups[0]:
        there = [some.get(key, []) if is_fine else [] for some, is_fine in zip(groups, comparable, strict=True)]
        if not any(there[1:]) or all(_is_twin(firsts) for firsts in there if firsts):
            continue  # what the engine runs a twin as has a row of its own
        cells = [_cell(firsts, seen.records, names) for firsts, seen in zip(there, sources, strict=True)]
        if any(cell and cell.score for cell in cells):
            yield tuple(_words(key, shared)), cells


def _words(key: Key, shared: frozenset[tuple[str, str]]) -> Iterator[str]:
    """The knobs, and of the other settings those that are not the same everywhere."""
    for name, seen in key:
        if (name, seen) not in shared and (shared or name.startswith(KNOB)):
            yield f"{name.removeprefix(KNOB)}={seen}"


def _has_interval(first: Cell | None, this: Cell | None) -> bool:
    scores = [cell.score for cell in (first, this) if cell and cell.score]
    return len(scores) == 2 and all(not one.is_outside and min(map(len, one.samples.values())) > 1 for one in scores)


def _configuration(
    words: tuple[str, ...], cells: Sequence[Cell | None], names: Sequence[str], count: int
) -> Configuration:
    found = []
    for letter, cell in zip(LETTERS[1:], cells[1:], strict=False):
        scores = (cell.score if cell else None, cells[0].score if cells[0] else None)
        found.append(changes(*scores, names, (LETTERS[0], letter), max(1, count)) if all(scores) else ())
    return Configuration(overrides=words, cells=tuple(cells), changes=tuple(found))


def _is_twin(firsts: Sequence[Record]) -> bool:
    return all(one.same_as is not None for one in firsts)


def _cell(firsts: Sequence[Record], records: Sequence[Record], names: Sequence[str]) -> Cell | None:
    if not firsts:
        return None
    found = compared.score(firsts, records, names)
    ended = None if found else _ended(firsts[0])
    if found and found.is_outside:
        ended = "missed the SLO"
    return Cell(trial=firsts[0].number, score=found, ended=ended)


def _ended(record: Record) -> str:
    return str(record.failure.kind) if record.failure else record.status


def _weight(row: Configuration) -> tuple[int, float]:
    """What only some can run or keep inside the SLO first, then what is shown, then the rest; the largest first."""
    ends = {cell.ended is None for cell in row.cells if cell}
    first = [seen for some in row.changes for seen in some[:1]]
    is_shown = any(seen.verdict in {"better", "worse"} for seen in first)
    size = max((abs(seen.change) for seen in first if seen.change is not None), default=0.0)
    return 0 if len(ends) > 1 else 1 if is_shown else 2, -size
