"""`report.html`: one file that needs nothing else, from the records of a sweep and the ends of their logs."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.core.files import SweepDir, write_atomically
from pipeline.core.places import TEMPLATES
from pipeline.core.record import Record
from pipeline.core.redact import Secrets
from pipeline.report import importance, plots, plots_search, search_story, sentences, table
from pipeline.report.ranking import Row
from pipeline.report.verdict import Verdict

SHOWN = 20  # rows that are there at first
SLICES = 8
TAIL_BYTES, TAIL_LINES = 16_000, 25
LOGS = 3  # of each kind of failure


def write(sweep: SweepDir, records: Sequence[Record], found: Verdict, command: str | None) -> None:
    """Write the page.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(sweep.report, render(sweep, records, found, command))


def render(sweep: SweepDir, records: Sequence[Record], found: Verdict, command: str | None) -> str:
    """The page. Everything that is data is escaped by the template."""
    secrets = Secrets(os.environ)
    groups, figures, missing = _figures(records, found.rows)
    told = {
        "title": sweep.path.name,
        "subject": _subject(records[0]),
        "headline": sentences.of(found) or ["One trial."],
        "facts": list(_facts(records, found)),
        "command": command,
        "titles": [*table.TITLES, *table.MORE],
        "texts": table.WORDS,
        "rows": [
            {"is_best": row.number == found.recommended, "cells": [*table.cells(row, found), *table.more(row)]}
            for row in found.rows
        ],
        "legend": table.legend(found),
        "shown": SHOWN,
        "sections": groups,
        "missing": missing,
        "failures": list(_failures(sweep, records)),
        "crashes": search_story.crashes(records),
        "proposals": search_story.proposals(records),
        "notes": list(_notes(records)),
        "environment": _environment(records),
    }
    return filled("report.html.j2", secrets.hide(told), secrets.hide(figures))


def filled(template: str, told: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """A page of `templates/report` that needs nothing else: plotly and the figures are inside."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES / "report"), autoescape=True, undefined=StrictUndefined)
    plotly = (resources.files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")
    return environment.get_template(template).render(
        **told,
        figures=Markup(json.dumps(figures).replace("<", "\\u003c")),  # noqa: S704 - no element ends in it
        plotly=Markup(plotly),  # noqa: S704
    )


def _subject(record: Record) -> str:
    config = record.config
    engine = f"{config.runtime.name} {record.engine_version or config.runtime.version or ''}".rstrip()
    return f"{config.model.name} on {engine}, {config.hardware.name}, traffic {config.traffic.name}"


def _facts(records: Sequence[Record], found: Verdict) -> Iterator[tuple[str, str]]:
    best = found.best
    if best and best.objective:
        scores = zip(found.names, best.objective, strict=True)
        yield from ((f"{name} in the search", f"{seen:.4g}") for name, seen in scores)
        if best.change is not None:
            yield "against the baseline", table.change(best, found)
    counts = Counter(record.status for record in records)
    yield "trials", ", ".join(f"{count} {status}" for status, count in counts.items())
    begin, end = min(record.started_at for record in records), max(record.ended_at for record in records)
    yield "minutes", f"{(end - begin).total_seconds() / 60:.1f}"


Groups = list[tuple[str, list[dict[str, Any]]]]


def _figures(records: Sequence[Record], rows: Sequence[Row]) -> tuple[Groups, dict[str, Any], list[str]]:
    """The sections with their plots, the plots by id, and what could not be drawn."""
    figures: dict[str, Any] = {}
    groups = []
    for title, found in _sections(records, rows):
        group = []
        for caption, figure, extra in found:
            if figure is not None:
                figures[f"f{len(figures)}"] = figure
                group.append({"id": f"f{len(figures) - 1}", "caption": caption, "wide": False, "height": None, **extra})
        groups.append((title, group))
    drawn = {title for title, group in groups if group}
    missing = [
        f"No knob importance: it needs {importance.LEAST} configurations with a result, and a knob with several values."
    ] * ("Which knobs matter" not in drawn)
    return groups, figures, missing


Plot = tuple[str, plots.Figure | None, Mapping[str, Any]]


def _sections(records: Sequence[Record], rows: Sequence[Row]) -> Iterator[tuple[str, list[Plot]]]:
    yield (
        "Throughput against latency",
        [
            ("every level of every configuration; up and left is better", plots.pareto(records, rows, "ttft"), {}),
            ("the same over the time per output token", plots.pareto(records, rows, "tpot"), {}),
        ],
    )
    over = [("output_tokens_per_s_per_gpu", "output tokens/s per GPU"), ("ttft_p95_s", "TTFT p95 (s)")]
    over.append(("tpot_p95_s", "TPOT p95 (s)"))
    yield (
        f"Over the load: the best {plots.CURVES} and the baseline",
        [(title, plots.curves(records, rows, name, title), {}) for name, title in over],
    )
    found = importance.of(records, rows)
    low = {"height": 90 + 26 * len(found)}
    yield "Which knobs matter", [("by Optuna's PED-ANOVA", plots.importances(found), {"wide": True, **low})]
    yield "Knob by knob", [(knob, figure, {}) for knob, figure in list(plots.slices(records, rows))[:SLICES]]
    yield "The search over time", [("", plots_search.best_so_far(records), {"wide": True})]
    time = plots.timeline(records)
    lanes = len(time["layout"]["yaxis"]["tickvals"]) if time else 0
    yield "Where the time went", [("", time, {"wide": True, "height": 130 + 30 * lanes})]


def _failures(sweep: SweepDir, records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Failures by kind and message, the ends of their logs with them."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record.failure:
            told = record.failure
            groups.setdefault((str(told.kind), told.step, told.message.splitlines()[0]), []).append(record)
    for (kind, step, message), found in groups.items():
        logs = ((record, _tail(sweep.trial(record.number).server_log)) for record in found[:LOGS])
        yield {
            "kind": f"{kind} in {step}",
            "trials": _trials([record.number for record in found]),
            "message": message,
            "hint": found[0].failure.hint if found[0].failure else "",
            "logs": [{"name": f"server.log of trial {r.number}", "text": text} for r, text in logs if text],
        }


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-TAIL_LINES:])
    except OSError:
        return ""


def _notes(records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    found: dict[str, list[int]] = {}
    for record in records:
        for note in record.notes:
            found.setdefault(note, []).append(record.number)
    yield from ((note, _trials(numbers)) for note, numbers in found.items())


def _trials(numbers: Sequence[int]) -> str:
    told = ", ".join(map(str, numbers[:20])) + (f" and {len(numbers) - 20} more" if len(numbers) > 20 else "")
    return f"trial{'s' * (len(numbers) > 1)} {told}"


def _environment(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Each fact; with several machines, all that were seen. An engine's version is by its own word where it says."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        said = {record.config.runtime.name: record.engine_version} if record.engine_version else {}
        for name, told in {**record.environment, **said}.items():
            found.setdefault(name, {})[told] = None
    return [(name, ", ".join(told)) for name, told in found.items()]
