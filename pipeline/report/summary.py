"""The end of a sweep: read its records, print the ranked table, save ranking.csv and best.json."""

import csv
import io
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.files import SweepDir, save, write_atomically
from pipeline.record import Record
from pipeline.report.ranking import Row, objective_names, rank
from pipeline.values import load, plain, value

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


def finish(folder: Path) -> Finding:
    """Print and save the ranking of a sweep's folder; one that cannot be saved is printed all the same."""
    sweep = SweepDir(folder)
    records = read(sweep)
    rows = rank(records)
    best = _best(records, rows)
    if records:
        show(folder, records, rows, best)
        try:
            write_atomically(sweep.ranking, to_csv(rows, objective_names(records)))
            if best:
                save(sweep.best, best)
        except OSError as error:
            sys.stderr.write(f"The ranking cannot be written to {folder}: {error.strerror or error}.\n")
    return Finding(best=best, remains=_remains(records))


def read(sweep: SweepDir) -> list[Record]:
    """Every record that can be read, by trial number."""
    records = []
    for path in sweep.records:
        try:
            records.append(load(Record, path))
        except (OSError, ValidationError) as error:
            text = f"{path} cannot be read and is left out: {error}"
            Console(stderr=True, markup=False).print(text, style="red", soft_wrap=True)
    return sorted(records, key=lambda record: record.number)


def _best(records: Sequence[Record], rows: Sequence[Row]) -> Best | None:
    if not rows or rows[0].rank is None:
        return None
    record = next(record for record in records if record.number == rows[0].number)
    return Best(
        trial_id=record.trial_id,
        overrides=record.overrides,
        command=shlex.join(["python", "-m", "pipeline", *record.overrides]),
        server_command=shlex.join(record.argv),
        objective=dict(record.objective or {}),
        best_level=record.best_level,
        against_baseline=rows[0].against_baseline,
    )


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
    console.print(_table(rows, objective_names(records)))
    _show_failures(console, records)
    if not any(row.is_baseline for row in rows) and len(records) > 1:
        console.print(
            "No baseline in this sweep: give each knob the value null as well, e.g. page_size=null,64.",
            style="dim",
        )
    if best:
        if len(rows) > 1:
            console.print(Text("Each trial was measured once: small differences can be noise.", style="dim"))
        console.print(Text("\nBest: ") + Text(best.command, style="bold"), soft_wrap=True)
        console.print(f"Server: {best.server_command}", soft_wrap=True)
    console.print(f"Records: {folder}", soft_wrap=True)


def _table(rows: Sequence[Row], objectives: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    has_slo = any(row.slo_attainment is not None for row in rows)
    titles = [
        "rank",
        "trial",
        "overrides",
        *objectives,
        "vs baseline",
        "at level",
        "TTFT p95",
        "TPOT p95",
        "errors",
    ]
    for title in [*titles, *(["SLO met"] if has_slo else [])]:
        is_text = title in {"overrides", "at level"}
        table.add_column(title, justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        style = "bold green" if row.rank == 1 else "red" if row.rank is None else ""
        table.add_row(*_cells(row, len(objectives)), *([_percent(row.slo_attainment)] if has_slo else []), style=style)
    return table


def _cells(row: Row, count: int) -> list[str]:
    scores = (
        [f"{seen:.4g}" for seen in row.objective] if row.objective else [row.why or row.status, *[""] * (count - 1)]
    )
    change = (
        "baseline" if row.is_baseline else f"{row.against_baseline:+.1%}" if row.against_baseline is not None else ""
    )
    return [
        str(row.rank or "-"),
        str(row.number),
        _overrides(row),
        *scores,
        change,
        (row.best_level or "") if row.same_as is None else f"as trial {row.same_as}",
        _milliseconds(row.ttft_p95_s),
        _milliseconds(row.tpot_p95_s),
        _percent(row.error_rate),
    ]


def _overrides(row: Row) -> str:
    """What was asked; with an arrow where the engine runs something else."""
    arrows = {words.split("→", 1)[0]: words for words in row.rewrites}
    return " ".join(arrows.get(word, word) for word in row.overrides) or "defaults"


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


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.0f} ms"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"
