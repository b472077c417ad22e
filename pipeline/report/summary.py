"""Ends a sweep: reads its records, prints the ranked table, saves ranking.csv and best.json."""

import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from rich.console import Console
from rich.text import Text

from pipeline.core import readable
from pipeline.core.errors import FailureKind
from pipeline.core.files import SweepDir, save, write_atomically
from pipeline.core.quality import Judgement
from pipeline.core.record import Record
from pipeline.core.values import plain, value
from pipeline.core.words import visible
from pipeline.report import best as deliver
from pipeline.report import command, evaluated, export, page, search_story, sentences, table, verdict
from pipeline.report.best import scripts
from pipeline.report.ranking import Row
from pipeline.report.verdict import Kind, Verdict


@value
class OfEngine:
    """The best configuration of one of several engines."""

    trial_id: str
    command: str
    verdict: Kind  # on this engine alone
    objective: dict[str, float]
    against_baseline: float | None  # of this engine


@value
class Best:
    """What is recommended, for other programs: how to run it again, what it measured, and how sure that is."""

    trial_id: str
    overrides: tuple[str, ...]
    command: str
    server_command: str  # as it is handed over in best/serve.sh
    verdict: Kind
    objective: dict[str, float]  # in the search; what to expect is in best/card.json
    best_level: str | None
    against_baseline: float | None  # relative difference of the first objective; 0.1 is 10% more
    against_baseline_low: float | None  # of its interval; None: measured once
    against_baseline_high: float | None
    rounds: int  # of the confirmation, which the difference is by; 0: it is the search's
    quality: Judgement | None = None  # of its answers against the baseline's; None: it is the baseline, or no guard
    engines: Mapping[str, OfEngine] = Field(default_factory=dict)  # by name, where there are several


@value
class Finding:
    """What a sweep's folder tells."""

    best: Best | None
    remains: tuple[str, ...]
    records: tuple[Record, ...]
    verdict: Verdict

    @property
    def exit_code(self) -> int:
        """1 where nothing is recommended."""
        return self.verdict.exit_code


def finish(folder: Path, *, has_page: bool | None = None, run: Path | None = None, is_told: bool = False) -> Finding:
    """Print the verdict on a sweep's folder and save what people take from it; what cannot be saved is told.

    `has_page`: with report.html and the summaries; None: where there are several trials. `run`: of this one alone; then
    nothing is saved beside runs of others. `is_told`: why trials failed has just been printed.
    """
    sweep = SweepDir(folder)
    every = read(sweep)
    records = every if run is None else [readable.read(Record, path) for path in sweep.records if path.parent == run]
    found = verdict.of(records)
    best = _best(records, found)
    if records:
        show(folder, records, found, best, is_told=is_told)
        if len(records) == len(every):
            _save(sweep, records, found, best, has_page=len(records) > 1 if has_page is None else has_page)
    return Finding(best=best, remains=_remains(records), records=tuple(records), verdict=found)


def again(folder: Path, found: Finding) -> None:
    """Write once more what evaluations are in: the report, and what is taken away."""
    sweep = SweepDir(folder)
    _deliver(sweep, found.records, found.verdict, found.best)
    with _telling(sweep.report):
        page.write(sweep, found.records, found.verdict, found.best.command if found.best else None)


def _save(sweep: SweepDir, records: Sequence[Record], found: Verdict, best: Best | None, *, has_page: bool) -> None:
    with _telling(sweep.ranking):
        write_atomically(sweep.ranking, to_csv(found))
    _deliver(sweep, records, found, best)
    if has_page:
        with _telling(sweep.summary_csv):
            export.write(sweep, records)
        with _telling(sweep.report):
            page.write(sweep, records, found, best.command if best else None)
            sys.stdout.write(f"Report: {sweep.report}\n")


def _deliver(sweep: SweepDir, records: Sequence[Record], found: Verdict, best: Best | None) -> None:
    with _telling(sweep.best_dir):
        if best:
            save(sweep.best, best)
            seen = evaluated.of(sweep.path, found)
            deliver.write(sweep.best_dir, _of(records, found.recommended), records, sentences.of(found), seen)
        else:  # of an earlier end of this sweep: nobody is to deploy it
            sweep.best.unlink(missing_ok=True)
            deliver.remove(sweep.best_dir)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """What goes wrong with a file is told, and costs nothing else: all of them can be made again from the records."""
    try:
        yield
    except OSError as error:
        sys.stderr.write(f"{path} cannot be written: {error.strerror or error}.\n")
    except Exception as error:  # noqa: BLE001 - see above
        sys.stderr.write(f"{path} cannot be created: {type(error).__name__}: {error}. Please report this.\n")


def read(sweep: SweepDir) -> list[Record]:
    """Every record that can be read, by trial number."""
    records = []
    for path in sweep.records:
        try:
            records.append(readable.read(Record, path))
        except (OSError, ValidationError) as error:
            text = f"{path} is skipped, because it cannot be read: {readable.why(path, error)}."
            Console(stderr=True, markup=False).print(text, style="red", soft_wrap=True)
    return sorted(records, key=lambda record: record.number)


def _best(records: Sequence[Record], found: Verdict) -> Best | None:
    row = found.best
    if row is None:
        return None
    record = _of(records, row.number)
    return Best(
        trial_id=record.trial_id,
        overrides=record.overrides,
        command=command.line(record),
        server_command=scripts.server_line(record),
        verdict=found.kind,
        objective=dict(record.objective or {}),
        best_level=record.best_level,
        against_baseline=row.change,
        against_baseline_low=row.change_low,
        against_baseline_high=row.change_high,
        rounds=row.rounds,
        quality=row.quality,
        engines={name: best for name, one in found.engines.items() if (best := _of_engine(records, one))},
    )


def _of_engine(records: Sequence[Record], found: Verdict) -> OfEngine | None:
    row = found.best
    if row is None:
        return None
    record = _of(records, row.number)
    return OfEngine(
        trial_id=record.trial_id,
        command=command.line(record),
        verdict=found.kind,
        objective=dict(record.objective or {}),
        against_baseline=row.change,
    )


def _of(records: Sequence[Record], number: int | None) -> Record:
    return next(record for record in records if record.number == number)


def to_csv(found: Verdict) -> str:
    """The rows as CSV, one column per objective."""
    out = io.StringIO()
    writer: Any = None
    for row in found.rows:
        data = _flat(row, found.names)
        if writer is None:
            writer = csv.DictWriter(out, fieldnames=list(data), lineterminator="\n")
            writer.writeheader()
        writer.writerow(data)
    return out.getvalue()


def _flat(row: Row, names: Sequence[str]) -> dict[str, Any]:
    data = plain(row)
    scores = data.pop("objective") or [None] * len(names)
    words = {name: " ".join(getattr(row, name)) for name in ("overrides", "rewrites")}
    words["quality"] = str(row.quality or "")
    return {**data, **words, "flags": "; ".join(row.flags), **dict(zip(names, scores, strict=True))}


def show(folder: Path, records: Sequence[Record], found: Verdict, best: Best | None, *, is_told: bool = False) -> None:
    """Print the table, the failures with their hints, the verdict, and the best overrides ready to paste.

    `is_told`: the failures have just been printed.
    """
    console = Console(highlight=False, markup=False)
    _show_table(console, found)
    _show_failures(console, records, is_told=is_told)
    if not any(row.is_baseline for row in found.rows) and len(records) > 1:
        console.print(
            "No baseline in this sweep: set hydra.sweeper.baseline=true, or add the value null to each knob.",
            style="dim",
            soft_wrap=True,
        )
    for said in sentences.of(found) if len(found.rows) > 1 or not best else sentences.users(found):
        console.print(Text(visible(said), style="dim" if "noise" in said else "bold"), soft_wrap=True)
    if best:
        console.print(Text("\nBest: ") + Text(best.command, style="bold"), soft_wrap=True)
        console.print(f"Server: {best.server_command}", soft_wrap=True)
        for engine, one in best.engines.items():
            if one.trial_id != best.trial_id:
                console.print(Text(f"Best of {engine}: ") + Text(one.command), soft_wrap=True)
    console.print(f"Records: {folder}", soft_wrap=True)


def _show_table(console: Console, found: Verdict) -> None:
    """One line for each configuration; complete where it is not read on a terminal."""
    width = console.width if console.is_terminal else None
    title, *lines = table.lines(found, width)
    console.print(Text(title, style="bold"), soft_wrap=True)
    for row, line in zip(found.rows, lines, strict=True):
        style = "bold green" if row.number == found.recommended else "red" if row.rank is None else ""
        console.print(Text(line, style=style), soft_wrap=True)
    console.print(Text(table.legend(found, width), style="dim"), soft_wrap=True)


def _show_failures(console: Console, records: Sequence[Record], *, is_told: bool) -> None:
    """What to know of the trials; said once of all that it is true of."""
    trials: dict[tuple[str, str], list[int]] = {}
    for record in records:
        for said in _to_say(record, is_told=is_told):
            trials.setdefault(said, []).append(record.number)
    for (style, text), numbers in trials.items():
        who = f"Trial{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
        console.print(visible(f"{who}{text}"), style=style, soft_wrap=True)
    for told in search_story.crashes(records):
        console.print(told, style="yellow", soft_wrap=True)


def _to_say(record: Record, *, is_told: bool) -> Iterator[tuple[str, str]]:
    """(style, what follows the trial's number)."""
    if record.failure and not is_told:
        seen = record.failure.message.splitlines()[0]
        yield "red", f", {record.failure.step}: {seen}\n  hint: {record.failure.hint}"
    for level in record.levels:
        is_raced = level.failure is not None and level.failure.kind == FailureKind.RACED  # its flag says so
        if level.status != "ok" and level.failure and not record.failure and not is_raced:
            yield "", f", {level.name} {level.status}: {level.failure.message}"
    if record.advice and record.advice.short and record.repeat_of is None:
        yield "cyan", f": {record.advice.short}"
    for note in record.notes:
        yield "yellow", f": {note}"
    if record.tracker:
        yield "yellow", f", tracker: {record.tracker.message}"
    if record.teardown and not record.teardown.is_clean:
        error = [record.teardown.error] if record.teardown.error else []
        left = "; ".join([*record.teardown.remaining, *error])
        yield "bold red", f" LEFT BEHIND: {left}. Run: python -m pipeline.reap"


def _remains(records: Sequence[Record]) -> tuple[str, ...]:
    return tuple(r.trial_id for r in records if r.teardown and not r.teardown.is_clean)
