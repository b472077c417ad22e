"""Ends a sweep: reads its records, prints the ranked table, saves ranking.csv and best.json."""

import csv
import io
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from pipeline.core.files import SweepDir, save, write_atomically
from pipeline.core.record import Record
from pipeline.core.values import load, plain, value
from pipeline.report import best as deliver
from pipeline.report import confirmation, export, page, table
from pipeline.report.ranking import Row, objective_names, rank

PIPE_WIDTH = 160


@value
class Best:
    """The winner, for other programs: how to run it again and what it measured."""

    trial_id: str
    overrides: tuple[str, ...]
    command: str
    server_command: str
    objective: dict[str, float]
    best_level: str | None
    against_baseline: float | None


@value
class Finding:
    """What a sweep's folder tells."""

    best: Best | None
    remains: tuple[str, ...]
    records: tuple[Record, ...]


def finish(folder: Path, *, has_page: bool | None = None) -> Finding:
    """Print the ranking of a sweep's folder and save what people take from it; what cannot be saved is told.

    `has_page`: with report.html and the summaries; None: where there are several trials.
    """
    sweep = SweepDir(folder)
    records = read(sweep)
    rows = rank(records)
    best = _best(records, rows)
    if records:
        show(folder, records, rows, best)
        _save(sweep, records, rows, best, has_page=len(records) > 1 if has_page is None else has_page)
    return Finding(best=best, remains=_remains(records), records=tuple(records))


def _save(
    sweep: SweepDir, records: Sequence[Record], rows: Sequence[Row], best: Best | None, *, has_page: bool
) -> None:
    with _telling(sweep.ranking):
        write_atomically(sweep.ranking, to_csv(rows, objective_names(records)))
    if best:
        with _telling(sweep.best_dir):
            save(sweep.best, best)
            shown = confirmation.confirm(records, rows)
            verdict = str(shown.comparison) if shown and shown.comparison else None
            deliver.write(sweep.best_dir, _of(records, rows[0].number), records, verdict)
    if has_page:
        with _telling(sweep.summary_csv):
            export.write(sweep, records)
        with _telling(sweep.report):
            page.write(sweep, records, rows, best.command if best else None)
            sys.stdout.write(f"Report: {sweep.report}\n")


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
            records.append(load(Record, path))
        except (OSError, ValidationError) as error:
            text = f"{path} is skipped, because it cannot be read: {error}"
            Console(stderr=True, markup=False).print(text, style="red", soft_wrap=True)
    return sorted(records, key=lambda record: record.number)


def _best(records: Sequence[Record], rows: Sequence[Row]) -> Best | None:
    if not rows or rows[0].rank is None:
        return None
    record = _of(records, rows[0].number)
    return Best(
        trial_id=record.trial_id,
        overrides=record.overrides,
        command=shlex.join(["python", "-m", "pipeline", *record.overrides]),
        server_command=shlex.join(record.argv),
        objective=dict(record.objective or {}),
        best_level=record.best_level,
        against_baseline=rows[0].against_baseline,
    )


def _of(records: Sequence[Record], number: int) -> Record:
    return next(record for record in records if record.number == number)


def to_csv(rows: Sequence[Row], objectives: Sequence[str]) -> str:
    """The ranking as CSV, one column per objective."""
    out = io.StringIO()
    writer: Any = None
    for row in rows:
        data = plain(row)
        scores = data.pop("objective") or [None] * len(objectives)
        data = {
            **data,
            "overrides": " ".join(row.overrides),
            "rewrites": " ".join(row.rewrites),
            **dict(zip(objectives, scores, strict=True)),
        }
        if writer is None:
            writer = csv.DictWriter(out, fieldnames=list(data), lineterminator="\n")
            writer.writeheader()
        writer.writerow(data)
    return out.getvalue()


def show(folder: Path, records: Sequence[Record], rows: Sequence[Row], best: Best | None) -> None:
    """Print the table, the failures with their hints, and the best overrides ready to paste."""
    console = Console(width=None if Console().is_terminal else PIPE_WIDTH, highlight=False, markup=False)
    console.print(table.rich_table(rows, objective_names(records)))
    _show_failures(console, records)
    if not any(row.is_baseline for row in rows) and len(records) > 1:
        console.print(
            "No baseline in this sweep: add the value null to each knob, e.g. page_size=null,64.",
            style="dim",
        )
    if best:
        for said in confirmation.sentences(confirmation.confirm(records, rows), rows):
            console.print(Text(said, style="dim" if "noise" in said else "bold"), soft_wrap=True)
        console.print(Text("\nBest: ") + Text(best.command, style="bold"), soft_wrap=True)
        console.print(f"Server: {best.server_command}", soft_wrap=True)
    console.print(f"Records: {folder}", soft_wrap=True)


def _show_failures(console: Console, records: Sequence[Record]) -> None:
    """What to know of the trials; said once of all that it is true of."""
    trials: dict[tuple[str, str], list[int]] = {}
    for record in records:
        for said in _to_say(record):
            trials.setdefault(said, []).append(record.number)
    for (style, text), numbers in trials.items():
        who = f"Trial{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
        console.print(f"{who}{text}", style=style, soft_wrap=True)


def _to_say(record: Record) -> Iterator[tuple[str, str]]:
    """(style, what follows the trial's number)."""
    if record.failure:
        seen = record.failure.message.splitlines()[0]
        yield "red", f", {record.failure.step}: {seen}\n  hint: {record.failure.hint}"
    for level in record.levels:
        if level.status != "ok" and level.failure and not record.failure:
            yield "", f", {level.name} {level.status}: {level.failure.message}"
    for note in record.notes:
        yield "yellow", f": {note}"
    if record.tracker:
        yield "yellow", f", tracker: {record.tracker.message}"
    if record.teardown and not record.teardown.is_clean:
        left = "; ".join(record.teardown.remaining) or record.teardown.error
        yield "bold red", f" LEFT BEHIND: {left}. Run: python -m pipeline.reap"


def _remains(records: Sequence[Record]) -> tuple[str, ...]:
    return tuple(r.trial_id for r in records if r.teardown and not r.teardown.is_clean)
