"""The figures of the report as plotly's JSON: plain dicts, so that nothing heavy is imported. Pure.

Source of the fields: plotly.com/javascript/reference. Colours that depend on light or dark are set by the page.
"""

import math
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.core import objectives
from pipeline.core.record import Level, Record
from pipeline.report import labels
from pipeline.report.ranking import Row, by_engine, objective_names

Figure = dict[str, Any]
Trace = dict[str, Any]
COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6", "#ec4899", "#14b8a6", "#a3a316")
BASELINE, OTHERS = "#8a8f98", "#9db2d0"
LONG_S = 3 * 3600.0  # a sweep's time is told in hours from here on
TICKS = 14  # numbers beside each other that an axis has room for
LINE = 60  # characters, of names in hovers and legends
MANY = 150  # dots of a knob: more are drawn as boxes
CURVES = 5  # configurations beside the baseline whose levels are drawn
PARTS = {
    "wait": ("preflight", "model", "slots"),
    "load": ("deploy", "health", "settings"),
    "measure": ("warmup", "bench_start", "bench"),
    "end": ("teardown", "record", "tracker"),
}
SHADES = {"load": "#f59e0b", "measure": "#3b82f6", "wait": "#c4b5fd", "end": "#94a3b8"}


def label(row: Row) -> str:
    """How a configuration is named in plots, in lines of a readable length."""
    return "<br>".join(textwrap.wrap(_name(row), LINE, break_on_hyphens=False))


def _name(row: Row) -> str:
    return f"{row.number}: {' '.join(row.overrides) or 'defaults'}"


def pareto(records: Sequence[Record], rows: Sequence[Row], latency: str) -> Figure | None:
    """Throughput per GPU against a latency (`ttft` or `tpot`), each level of each configuration, and the front."""
    name, points = f"{latency}_p95_s", []
    by_number = {record.number: record for record in records}
    for row in rows:
        named = label(row)
        for level in by_number[row.number].levels:
            at = _point(by_number[row.number], level, name)
            if at:
                points.append((*at, f"{named}<br>{level.name}", row))
    if not points:
        return None
    traces = [
        _dots([one for one in points if one[3].rank != 1 and not one[3].is_baseline], "others", OTHERS),
        _dots([one for one in points if one[3].is_baseline], "baseline", BASELINE),
        _dots([one for one in points if one[3].rank == 1], "winner", COLOURS[0]),
        _line(list(_front([(x, y) for x, y, _, row in points if not row.is_barred])), "Pareto front"),
    ]
    shapes = [_limit(limit) for limit in _limits(records[0], latency)]
    config = records[0].config
    layout = axes(labels.metric(name, config), labels.metric("output_tokens_per_s_per_gpu", config))
    return {"data": [trace for trace in traces if trace["x"]], "layout": {**layout, "shapes": shapes}}


def _point(record: Record, level: Level, name: str) -> tuple[float, float] | None:
    x = objectives.score(name, level, record.config)
    y = objectives.score("output_tokens_per_s_per_gpu", level, record.config)
    return None if x is None or y is None or not level.metrics or not level.metrics.is_usable else (x, y)


def _front(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    best = -math.inf
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if y > best:
            best = y
            yield x, y


def _limits(record: Record, latency: str) -> list[float]:
    slo = record.config.slo
    found = [getattr(slo, f"{latency}_s"), slo.limits.get(f"{latency}_p95_s")]
    return [limit for limit in found if limit is not None]


def _limit(at: float) -> dict[str, Any]:
    text = {"text": "SLO", "font": {"color": "#ef4444"}}
    line = {"color": "#ef4444", "dash": "dash", "width": 1.5}
    return {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": line, "label": text}


def _dots(points: Sequence[tuple[float, float, str, Row]], name: str, colour: str) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [one[0] for one in points],
        "y": [one[1] for one in points],
        "text": [one[2] for one in points],
        "hovertemplate": "%{text}<br>%{x:.4g} s, %{y:.4g} tokens/s<extra></extra>",
        "marker": {"color": colour, "size": 6 if name == "others" else 9, "opacity": 0.6 if name == "others" else 1},
    }


def _line(points: Sequence[tuple[float, float]], name: str) -> Trace:
    line = {"color": "#10b981", "width": 1.5, "shape": "hv"}
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    return {"type": "scatter", "mode": "lines", "name": name, "x": xs, "y": ys, "line": line, "hoverinfo": "skip"}


def curves(records: Sequence[Record], rows: Sequence[Row], name: str, title: str) -> Figure | None:
    """A metric over the load, for the best few and the baseline."""
    load = labels.demand(records[0].config.traffic)
    by_number = {record.number: record for record in records}
    ranked = [row for row in rows if row.rank is not None]
    shown = [*ranked[:CURVES], *(row for row in ranked[CURVES:] if row.is_baseline)]
    traces = []
    for place, row in enumerate(shown):
        colour = BASELINE if row.is_baseline else COLOURS[place % len(COLOURS)]
        levels = by_number[row.number].levels
        for dash, scenario in zip(
            ("solid", "dot", "dash", "dashdot"), dict.fromkeys(each.scenario for each in levels), strict=False
        ):
            seen = [
                (level.demand, objectives.score(name, level, by_number[row.number].config))
                for level in levels
                if level.scenario == scenario
            ]
            known = sorted((x, y) for x, y in seen if y is not None)
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": textwrap.shorten(_name(row), LINE, placeholder=" …")
                    + (" (baseline)" if row.is_baseline else ""),
                    "x": [x for x, _ in known],
                    "y": [y for _, y in known],
                    "line": {"color": colour, "dash": dash},
                    "hovertemplate": f"{scenario}, %{{x}} {load}: %{{y:.4g}}<extra></extra>",
                    "showlegend": dash == "solid",
                }
            )
    if not any(trace["x"] for trace in traces):
        return None
    return {"data": traces, "layout": axes(load, title, x={"type": "log", "tickvals": _ticks(traces)})}


def _ticks(traces: Sequence[Trace]) -> list[float]:
    """Loads that were measured, but for those too close to the one before, as where a capacity ends."""
    there = sorted({x for trace in traces for x in trace["x"]})
    kept = there[:1]
    for load in there[1:]:
        if math.log(load / kept[-1]) >= math.log(there[-1] / there[0]) / TICKS:
            kept.append(load)
    return kept


def importances(found: Mapping[str, float]) -> Figure | None:
    """How much each knob matters; the largest on top."""
    if not found:
        return None
    names = sorted(found, key=lambda name: found[name])
    bar = {"type": "bar", "orientation": "h", "x": [found[name] for name in names], "y": names}
    marker = {"color": COLOURS[0]}
    layout = axes("share of the variation among good trials", "")
    return {"data": [{**bar, "marker": marker, "hovertemplate": "%{y}: %{x:.0%}<extra></extra>"}], "layout": layout}


def slices(records: Sequence[Record], rows: Sequence[Row]) -> Iterator[tuple[str, Figure]]:
    """The first objective over the values of each knob that was varied, of each engine alone."""
    engines = by_engine(records)
    for engine, some in engines.items():
        for knob, figure in _slices(some, rows):
            yield knob if len(engines) < 2 else f"{engine}.{knob}", figure


def _slices(records: Sequence[Record], rows: Sequence[Row]) -> Iterator[tuple[str, Figure]]:
    by_number = {record.number: record for record in records}
    ranked = [row for row in rows if row.objective is not None and row.number in by_number]
    title = next((labels.metric(name, records[0].config) for name in objective_names(records)), "")
    for knob in varied([by_number[row.number] for row in ranked]):
        points = [(_spelled(by_number[row.number].config.knobs[knob]), row) for row in ranked]
        numeric = all(isinstance(x, int | float) for x, _ in points)
        points.sort(key=lambda point: _order(point[0]))
        xs, ys = [x for x, _ in points], [row.objective[0] for _, row in points if row.objective]
        is_many = len(points) > MANY
        numeric = numeric and not is_many
        trace = _boxes(xs, ys) if is_many else _each(xs if numeric else [*map(str, xs)], ys, [row for _, row in points])
        yield knob, {"data": [trace], "layout": axes(knob, title, x={} if numeric else {"type": "category"})}


def _each(xs: Sequence[Any], ys: Sequence[float], rows: Sequence[Row]) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": xs,
        "y": ys,
        "text": [label(row) for row in rows],
        "hovertemplate": "%{text}<br>%{y:.4g}<extra></extra>",
        "marker": {"color": COLOURS[0], "opacity": 0.7, "size": 8},
    }


def _boxes(xs: Sequence[Any], ys: Sequence[float]) -> Trace:
    """So many dots lie over each other; boxes show the median and the middle half of each value."""
    made = {"type": "box", "x": [*map(str, xs)], "y": ys, "boxpoints": "outliers", "showlegend": False}
    return {**made, "marker": {"color": COLOURS[0], "size": 4}, "line": {"width": 1.5}}


def varied(records: Sequence[Record]) -> list[str]:
    """Knobs with several values."""
    values: dict[str, set[Any]] = defaultdict(set)
    for record in records:
        for knob, setting in record.config.knobs.items():
            values[knob].add(setting)
    return [knob for knob, seen in values.items() if len(seen) > 1]


def _order(setting: Any) -> tuple[int, float, str]:
    """The default first, then numbers, then words."""
    is_number = isinstance(setting, int | float)
    return (0 if setting == "default" else 1 if is_number else 2, setting if is_number else 0.0, str(setting))


def _spelled(setting: Any) -> Any:
    return "default" if setting is None else str(setting) if isinstance(setting, bool) else setting


def clock(records: Sequence[Record]) -> tuple[float, str]:
    """The unit of a sweep's time axis: its seconds and its name."""
    begin, end = min(record.started_at for record in records), max(record.ended_at for record in records)
    return (60.0, "minutes") if (end - begin).total_seconds() < LONG_S else (3600.0, "hours")


def timeline(records: Sequence[Record]) -> Figure | None:
    """What each trial spent its time on; trials that overlap are in different lanes, gaps are idle."""
    if not records:
        return None
    begin = min(record.started_at for record in records)
    bars: dict[str, list[tuple[float, float, int, str]]] = {part: [] for part in PARTS}
    lanes = _lanes(records)
    for record in records:
        at = (record.started_at - begin).total_seconds()
        for part, steps in PARTS.items():
            seconds = sum(step.seconds for step in record.steps if step.step in steps)
            if seconds:
                told = f"trial {record.number} ({record.status}): {part} {seconds:.1f} s"
                bars[part].append((at, seconds, lanes[record.number], told))
                at += seconds
    unit_s, unit = clock(records)
    traces = [_bars(part, found, unit_s) for part, found in bars.items() if found]
    count = max(lanes.values()) + 1
    y = {"tickvals": list(range(count)), "ticktext": [f"slot {i + 1}" for i in range(count)], "autorange": "reversed"}
    layout = axes(f"{unit} since the first trial began", "")
    return {
        "data": traces,
        "layout": {**layout, "barmode": "overlay", "yaxis": {**layout["yaxis"], **y}, "bargap": 0.3},
    }


def _bars(part: str, found: Sequence[tuple[float, float, int, str]], unit_s: float) -> Trace:
    return {
        "type": "bar",
        "orientation": "h",
        "name": part,
        "base": [at / unit_s for at, _, _, _ in found],
        "x": [seconds / unit_s for _, seconds, _, _ in found],
        "y": [lane for _, _, lane, _ in found],
        "text": [told for _, _, _, told in found],
        "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": SHADES[part]},
    }


def _lanes(records: Sequence[Record]) -> dict[int, int]:
    """The first lane that is free when a trial begins."""
    ends: list[Any] = []
    lanes = {}
    for record in sorted(records, key=lambda one: one.started_at):
        free = next((i for i, end in enumerate(ends) if end <= record.started_at), len(ends))
        ends[free : free + 1] = [record.ended_at]
        lanes[record.number] = free
    return lanes


def axes(x_title: str, y_title: str, *, x: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The layout that all figures have in common."""
    return {
        "xaxis": {"title": {"text": x_title}, "automargin": True, **(x or {})},
        "yaxis": {"title": {"text": y_title}, "automargin": True},
        "margin": {"l": 56, "r": 16, "t": 16, "b": 48},
        "legend": {"orientation": "h", "y": -0.25, "yanchor": "top", "font": {"size": 11}},
        "hovermode": "closest",
    }
