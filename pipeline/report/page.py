"""`report.html`: one file that needs nothing else, from the records of a sweep and the ends of their logs."""

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.core import traffic_size
from pipeline.core.files import SweepDir, write_atomically
from pipeline.core.places import TEMPLATES
from pipeline.core.record import Record
from pipeline.core.redact import Secrets
from pipeline.core.schema_traffic import DATASET
from pipeline.report import (
    evaluated,
    importance,
    labels,
    level_table,
    plots,
    plots_search,
    ranking,
    search_story,
    sentences,
    spent,
    subject,
    table,
)
from pipeline.report.ranking import Row
from pipeline.report.verdict import Verdict

SHOWN = 20  # rows that are there at first
SLICES = 8
TAIL_BYTES, TAIL_LINES = 16_000, 25
LEFT = "=null"
LOGS = 3  # of each kind of failure
LEVEL = rf"(?:[DNU]\([^ ]*\)|{DATASET}) x\d+"


def write(sweep: SweepDir, records: Sequence[Record], found: Verdict, command: str | None) -> None:
    """Write the page.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(sweep.report, render(sweep, records, found, command))


def render(sweep: SweepDir, records: Sequence[Record], found: Verdict, command: str | None) -> str:
    """The page. Everything that is data is escaped by the template."""
    secrets = Secrets(os.environ)
    knobs = {name for record in records for name in record.config.knobs}
    rows = [_short(row, knobs) for row in found.rows]
    groups, figures, missing = _figures(records, rows)
    told = {
        "title": _title(records),
        "subject": list(_subject(sweep, records)),
        "headline": [_recommended(found, knobs), *(sentences.of(found) or ["One trial."]), *_advice(records, found)],
        "facts": list(_facts(records, found)),
        "command": command,
        **_table(rows, found),
        "legend": _legend(found, records[0]),
        "shown": SHOWN,
        "level_titles": level_table.TITLES,
        "level_texts": level_table.TEXTS,
        "levels": list(level_table.rows(records, found)),
        "evaluation_titles": evaluated.TITLES,
        "evaluations": evaluated.rows(evaluated.of(sweep.path, found)),
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


def _table(rows: Sequence[Row], found: Verdict) -> dict[str, Any]:
    """The ranking, without columns that nobody has anything in."""
    titles, cells = (*table.TITLES, *table.MORE), [[*table.cells(row, found), *table.more(row)] for row in rows]
    used = [at for at in range(len(titles)) if any(row[at] for row in cells)]
    kept = [[row[at] for at in used] for row in cells]
    return {
        "titles": [titles[at] for at in used],
        "texts": table.WORDS,
        "rows": [
            {"is_best": row.number == found.recommended, "cells": each} for row, each in zip(rows, kept, strict=True)
        ],
    }


def _title(records: Sequence[Record]) -> str:
    firsts = [some[0] for some in ranking.by_engine(records).values()]
    return f"{' and '.join(dict.fromkeys(map(subject.model, firsts)))} on {' and '.join(map(subject.engine, firsts))}"


def _subject(sweep: SweepDir, records: Sequence[Record]) -> Iterator[str]:
    """On what, under which load, inside which limits; where and when."""
    config = records[0].config
    count = f"{config.gpus} x " if config.gpus else ""
    users = sorted({level.demand for record in records for level in record.levels})
    load = f", {users[0]:g} to {users[-1]:g} {labels.demand(config.traffic)}" if users else ""
    limits = f", inside {labels.slo(config.slo)}" if config.slo.is_set else ""
    drawn = [line for line in config.traffic.scenarios if line != DATASET]
    scenarios = ", ".join([*drawn, *traffic_size.beyond(config.traffic)])
    yield f"{count}{config.hardware.name}; traffic {config.traffic.name}: {scenarios}{load}{limits}"
    begin = min(record.started_at for record in records)
    yield f"Sweep {sweep.path.name}, begun {begin:%Y-%m-%d %H:%M} UTC"


def _set(overrides: Sequence[str], knobs: Collection[str]) -> list[str]:
    """Without knobs that are left to the engine: with ten of them, nothing else would be seen."""
    return [word for word in overrides if not (word.endswith(LEFT) and word.removesuffix(LEFT) in knobs)]


def _short(row: Row, knobs: Collection[str]) -> Row:
    """The row with what is set alone; where nothing is, the table says defaults."""
    return replace(row, overrides=tuple(_set(row.overrides, knobs)))


def _recommended(found: Verdict, knobs: Collection[str]) -> str:
    """Which flags, first of all."""
    if found.best is None:
        return "Nothing is recommended."
    flags = " ".join(_set(found.best.overrides, knobs)) or "the defaults"
    return f"Recommended: {flags}" + (" (the baseline)" if found.best.number in found.baselines else "")


def _facts(records: Sequence[Record], found: Verdict) -> Iterator[tuple[str, str]]:
    best = found.best
    if best and best.objective:
        scores = zip(found.names, best.objective, strict=True)
        config = records[0].config
        how = f"in the search, {'once' if best.measured < 2 else f'{best.measured} times'}"
        yield from ((f"{labels.metric(name, config)} ({how})", f"{seen:.4g}") for name, seen in scores)
        if best.change is not None:
            yield f"against the baseline{_confirmed(best)}", table.change(best, found)
    counts = Counter(record.status for record in records)
    yield "trials", ", ".join(f"{count} {status}" for status, count in counts.items())
    begin, end = min(record.started_at for record in records), max(record.ended_at for record in records)
    unit_s, unit = plots.clock(records)
    yield unit, f"{(end - begin).total_seconds() / unit_s:.1f}"
    yield from spent.facts(records)


def _advice(records: Sequence[Record], found: Verdict) -> Iterator[str]:
    """What limits the recommended configuration."""
    best = found.best
    yield from (one.advice.text for one in records if best and one.number == best.number and one.advice)


def _legend(found: Verdict, record: Record) -> str:
    told = table.legend(found)
    for name in found.names:
        told = told.replace(name, labels.metric(name, record.config))
    return told


def _confirmed(row: Row) -> str:
    return f", by {row.rounds} round{'s' * (row.rounds != 1)}" if row.rounds else ""


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
    names = ("output_tokens_per_s_per_gpu", "ttft_p95_s", "tpot_p95_s")
    over = [(name, labels.metric(name, records[0].config)) for name in names]
    yield (
        f"Over the load: the best {plots.CURVES} and the baseline",
        [(title, plots.curves(records, rows, name, title), {}) for name, title in over],
    )
    found = importance.of(records, rows)
    low = {"height": 90 + 26 * len(found)}
    yield "Which knobs matter", [("by Optuna's PED-ANOVA", plots.importances(found), {"wide": True, **low})]
    slices = sorted(plots.slices(records, rows), key=lambda each: -found.get(each[0], 0.0))
    most = f": the {SLICES} that matter most of {len(slices)}" if len(slices) > SLICES else ""
    yield f"Knob by knob{most}", [(_of_knob(knob, figure), figure, {}) for knob, figure in slices[:SLICES]]
    yield "The search over time", [("", plots_search.best_so_far(records), {"wide": True})]
    time = plots.timeline(records)
    lanes = len(time["layout"]["yaxis"]["tickvals"]) if time else 0
    yield "Where the time went", [("", time, {"wide": True, "height": 130 + 30 * lanes})]


def _of_knob(knob: str, figure: plots.Figure) -> str:
    is_box = any(trace["type"] == "box" for trace in figure["data"])
    return f"{knob} (boxes: the middle half of the trials, and their median)" if is_box else knob


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


def _notes(records: Sequence[Record]) -> Iterator[tuple[str, str, list[str]]]:
    """Each kind of note once: its first one, whose it is, and those that differ from it in numbers and levels alone."""
    kinds: dict[str, dict[str, list[int]]] = {}
    for record in records:
        for note in record.notes:
            kind = re.sub(r"\d+(\.\d+)?", "#", re.sub(rf"{LEVEL}(?:, {LEVEL})*", "level", note))
            kinds.setdefault(kind, {}).setdefault(note, []).append(record.number)
    for found in kinds.values():
        first, *others = found
        numbers = sorted({number for each in found.values() for number in each})
        yield first, _trials(numbers), [f"{note} ({_trials(found[note])})" for note in others]


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
