"""Sweeps beside each other, as a person reads them on a terminal or in a pipe. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pipeline.core.statistics import Comparison, Interval
from pipeline.core.words import visible
from pipeline.report import columns, flags, narrow, table
from pipeline.report.best import card
from pipeline.report.compared import Score, Sweep
from pipeline.report.comparison import Beside, Cell, Change, Configuration, Pair

STYLES = {"better": "green", "worse": "red"}
SHORT = {"better": "better", "worse": "worse", "no difference shown": "not shown"}
REST = 16  # columns for the words of a configuration, at least


class Line(NamedTuple):
    """A line, and how a terminal shows it."""

    text: str
    style: str = ""


def lines(found: Beside, width: int | None) -> list[Line]:
    """What the sweeps are, what differs, what both measured; at the end what is shown."""
    about = (_named(found), _common(found, width), _sweeps(found, width), _verdicts(found))
    shown = (_differences(found, width), _both(found, width), _shown(found))
    told = [list(part) for part in (*about, *shown)]
    return [Line(visible(text), style) for part in told if part for text, style in (*part, Line(""))][:-1]


def _letters(found: Beside) -> list[str]:
    return [sweep.letter for sweep in found.sweeps]


def _named(found: Beside) -> Iterator[Line]:
    yield from (Line(f"{sweep.letter}  {sweep.folder}", "bold") for sweep in found.sweeps)


def _common(found: Beside, width: int | None) -> Iterator[Line]:
    """What all sweeps were about."""
    rows = [row for row in _rows([dict(_subject(sweep)) for sweep in found.sweeps]) if len({*row[1:]}) == 1]
    if rows:
        yield Line("In common", "bold")
        yield from map(Line, columns.grid([row[:2] for row in rows], [""], width)[1:])


def _sweeps(found: Beside, width: int | None) -> Iterator[Line]:
    """What they were about each, and what came of it."""
    apart = [row for row in _rows([dict(_subject(sweep)) for sweep in found.sweeps]) if len({*row[1:]}) > 1]
    is_by_engine = any(len(sweep.baselines) > 1 for sweep in found.sweeps)
    rows = [*apart, *_rows([dict(_results(sweep, is_by_engine=is_by_engine)) for sweep in found.sweeps])]
    yield from map(Line, columns.grid(rows, _letters(found), width))


def _rows(facts: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """Those that any sweep has."""
    names = list(dict.fromkeys(name for some in facts for name, told in some.items() if told))
    names.sort(key=lambda name: name.startswith("baseline"))  # of several objectives, all of one before the other
    return [[name, *(some.get(name) or "-" for some in facts)] for name in names]


def _subject(sweep: Sweep) -> Iterator[tuple[str, str]]:
    yield "model", ", ".join(sweep.models)
    yield "engine", ", ".join(sweep.engines)
    yield "hardware", ", ".join(sweep.hardware)
    yield "GPUs per trial", ", ".join(map(str, sweep.gpus_per_trial))
    yield "traffic", "; ".join(sweep.traffic)
    yield "SLO", "; ".join(sweep.slo)
    yield "objective", ", ".join(sweep.measures)


def _results(sweep: Sweep, *, is_by_engine: bool) -> Iterator[tuple[str, str]]:
    yield "began", f"{sweep.began.astimezone():%Y-%m-%d %H:%M}"
    left_out = [f"{sweep.unreadable} unreadable"] if sweep.unreadable else []
    yield "trials", ", ".join([*(f"{count} {status}" for status, count in sweep.trials.items()), *left_out])
    yield "configurations", str(sweep.configurations)
    yield "time", _time(sweep.hours)
    yield from sweep.spent.items()
    yield from _of_score("recommended", sweep.recommended, sweep)
    for engine, seen in sweep.baselines.items() if is_by_engine else [(None, sweep.baseline)]:
        yield from _of_score("baseline", seen, sweep, engine)


def _of_score(who: str, seen: Score | None, sweep: Sweep, engine: str | None = None) -> Iterator[tuple[str, str]]:
    if seen is None:
        return
    of = f" of {engine}" if engine else ""
    yield f"{who}{of}", f"trial {seen.trial}: {_spelled(seen)}"
    its = "baseline" if who == "baseline" else "its"
    for words, mean in zip(sweep.measures, seen.means.values(), strict=True):
        yield f"{its} score{of}" + (f", {words}" if len(seen.means) > 1 else ""), _score(mean, seen)
    if who != "baseline" and sweep.change != "baseline":
        yield "over its baseline", sweep.change
    yield f"{its} users{of}", seen.capacity or ""


def _score(mean: Interval, seen: Score) -> str:
    """`120.1 [118, 122], 3 rounds`."""
    if mean.count == 1:
        how = flags.ONCE if seen.by == "rounds" else f"{flags.ONCE}, by the search"
        return f"{card.spelled(mean)} {how}"
    return f"{card.spelled(mean)}, {mean.count} {'rounds' if seen.by == 'rounds' else 'runs of the search'}"


def _time(hours: float) -> str:
    minutes = hours * 60
    return f"{minutes:.1f} min" if minutes < 60 else f"{minutes // 60:.0f} h {minutes % 60:.0f} min"


def _spelled(seen: Score) -> str:
    return f"{seen.engine}, {_words(seen.overrides)}" if seen.engine else _words(seen.overrides)


def _words(overrides: Sequence[str]) -> str:
    return " ".join(overrides) or "defaults"


def _verdicts(found: Beside) -> Iterator[Line]:
    yield from (Line(f"{sweep.letter}: {sweep.verdict[0]}") for sweep in found.sweeps)


def _differences(found: Beside, width: int | None) -> Iterator[Line]:
    if not found.differences:
        yield Line("The sweeps have the same settings, and ran on the same machine.")
        return
    letters = _letters(found)
    yield Line("Settings and machines that differ", "bold")
    yield from map(Line, columns.grid([[one.name, *one.values] for one in found.differences], letters, width))


def _both(found: Beside, width: int | None) -> Iterator[Line]:
    rows = found.configurations
    if not rows:
        return
    first, *others = found.sweeps[0].measures
    yield Line(f"{_title(found)}: {first}" + (" (--json has the other objectives)" if others else ""), "bold")
    letters, words = _letters(found), [_words(row.overrides) for row in rows]
    told, legend = _table(rows, letters, words, None), ""
    if width is not None and any(columns.cut(line, width) != line for line in told or ()):
        words, legend = narrow.overrides(words)
        told = _table(rows, letters, words, width)
    styles = [_style(row) for row in rows]
    if told is None:
        for row, word, style in zip(rows, words, styles, strict=True):
            yield from (Line(text, style) for text in _below(row, word, letters, width))
    else:
        yield from (Line(text, style) for text, style in zip(told, ["", *styles], strict=True))
    wider = "wider than one alone, so that all of them are right with 95%"
    together = f"The {found.together} intervals of this table are {wider}." if found.together > 1 else ""
    yield from (Line(said, "dim") for said in (legend, together) if said)


def _title(found: Beside) -> str:
    who = "both sweeps" if len(found.sweeps) == 2 else f"{found.sweeps[0].letter} and another sweep"
    return f"Configurations that {who} ran"


def _table(
    rows: Sequence[Configuration], letters: Sequence[str], words: Sequence[str], width: int | None
) -> list[str] | None:
    head = [*letters, *(f"{letter} against {letters[0]}" for letter in letters[1:]), "configuration"]
    told = [[*_numbers(row), word] for row, word in zip(rows, words, strict=True)]
    return columns.table([head, *told], width, REST)


def _below(row: Configuration, word: str, letters: Sequence[str], width: int | None) -> Iterator[str]:
    """A configuration on a line, then each sweep on one."""
    cells = _numbers(row)
    scores, changes = cells[: len(letters)], ["", *cells[len(letters) :]]
    yield columns.cut(word, width)
    for letter, score, change, cell in zip(letters, scores, changes, row.cells, strict=True):
        if cell:
            yield columns.cut(f"  {letter}  {score}  {change}".rstrip(), width)


def _numbers(row: Configuration) -> list[str]:
    return [*(_of_cell(cell) for cell in row.cells), *(_in_short(some[0]) if some else "" for some in row.changes)]


def _of_cell(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    if cell.ended or cell.score is None:
        return cell.ended or "-"
    mean = next(iter(cell.score.means.values()))
    if mean.low is None or mean.high is None:
        return f"{mean.mean:.4g}"
    return f"{mean.mean:.4g} ±{float(f'{(mean.high - mean.low) / 2:.2g}'):g}"


def _in_short(seen: Change) -> str:
    """`+12.1% ±3.2 better`, `-3.0% (once)`."""
    if seen.change is None:
        return ""
    if seen.margin is None:
        return f"{seen.change:+.1%} {flags.ONCE}"
    return f"{table.with_margin(seen.change, seen.margin)} {SHORT.get(seen.verdict, '')}".rstrip()


def _style(row: Configuration) -> str:
    words = {seen.verdict for some in row.changes for seen in some[:1]}
    return next((style for word, style in STYLES.items() if words & {"better", "worse"} == {word}), "")


def _shown(found: Beside) -> Iterator[Line]:
    """What can be said of each sweep against the first one."""
    for pair in found.pairs:
        if not pair.is_comparable:
            yield Line(_why_not(pair), "bold")
            continue
        yield from _of_pair(pair, found)
    seen = [change for pair in found.pairs for change in (*pair.recommended, *pair.baseline)]
    if any(change.low is not None for change in seen):
        yield Line(
            "95% intervals. Sweeps are not measured in turn: what else changed between them is part of a difference.",
            "dim",
        )
    if any(change.verdict == "once" for change in seen):
        yield Line(f"{flags.ONCE}: too few measurements to show a difference; it can be noise.", "dim")
    if any(change.verdict == "by the search" for change in seen):
        yield Line("(by the search): its scores favour the configuration that it chose, so they show nothing.", "dim")


def _why_not(pair: Pair) -> str:
    told = "; ".join(f"{one.name} ({' | '.join(one.values)})" for one in pair.obstacles)
    only_model = [one.name for one in pair.obstacles] == ["model"]
    more = " If it is one model in two formats: --any-model." if only_model else ""
    return f"The scores of {pair.sweep} and {pair.against} cannot be compared: they differ in {told}.{more}"


def _of_pair(pair: Pair, found: Beside) -> Iterator[Line]:
    who = f"{pair.sweep} against {pair.against}"
    sweeps = {sweep.letter: sweep for sweep in found.sweeps}
    ours, theirs = sweeps[pair.sweep], sweeps[pair.against]
    measures = dict(zip(ours.objectives, ours.measures, strict=True))
    winners = (pair.recommended, ours.recommended, theirs.recommended)
    bases = (pair.baseline, ours.baseline, theirs.baseline)
    is_by_engine = any(change.engine for change in pair.baseline)
    is_one = not is_by_engine and ours.recommended is not None and winners[1:] == bases[1:]
    parts = {"recommended by both, the baseline": bases} if is_one else {"recommended": winners, "baseline": bases}
    for name, (some, mine, other) in parts.items():
        for change in some:
            whose = f" of {change.engine}" if change.engine else _held(mine, other)
            what = f", {measures[change.objective]}" if len(measures) > 1 else ""
            text = f"{who}, {name}{whose}{what}: {told(change)}."
            yield Line(text, STYLES.get(change.verdict, "bold"))
    yield Line(
        f"{who}: {_count(pair.in_both, 'configuration')} in both, {pair.only_there} only in {pair.against}, "
        f"{pair.only_here} only in {pair.sweep}{_tally(pair, found)}."
    )


def _held(ours: Score | None, theirs: Score | None) -> str:
    """` (parallel=16 against parallel=8)`, where they are not the same."""
    if ours is None or theirs is None or _spelled(ours) == _spelled(theirs):
        return ""
    return f" ({_spelled(ours)} against {_spelled(theirs)})"


def _tally(pair: Pair, found: Beside) -> str:
    """`; of those in both 1 better, 2 no difference shown`."""
    at = next(at for at, sweep in enumerate(found.sweeps[1:]) if sweep.letter == pair.sweep)
    words = Counter[str](row.changes[at][0].verdict for row in found.configurations if row.changes[at])
    order = {"better": "better", "worse": "worse", "no difference shown": "no difference shown", "once": "(once)"}
    said = [f"{words[word]} {name}" for word, name in order.items() if words[word]]
    return f"; of those {', '.join(said)}" if said else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def told(change: Change) -> str:
    """`better by 12.1% [8.0%, 16.4%]`, `+3.0% (once)`, or why there is nothing to say."""
    if change.change is None or change.verdict == "none":
        return change.why or "nothing to compare"
    if change.verdict == "by the search":
        return f"{change.change:+.1%} (by the search)"
    is_shown = change.verdict in {"better", "worse", "no difference shown"}
    return str(
        Comparison(
            verdict=change.verdict if is_shown else "no difference shown",  # type: ignore[arg-type]
            change=change.change,
            low=change.low,
            high=change.high,
            pairs=0 if is_shown else 1,
        )
    )
