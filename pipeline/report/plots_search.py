"""The figure of a search over time: how good the best configuration was, and when. Pure."""

from collections.abc import Sequence
from datetime import datetime
from math import comb

from pipeline.core import objectives
from pipeline.core.record import Record
from pipeline.report import answered, labels, plots
from pipeline.report.plots import Figure, Trace
from pipeline.report.ranking import meets_slo, objective_names, originals

LEAST = 3  # results: fewer are no curve


def best_so_far(records: Sequence[Record]) -> Figure | None:
    """The best search score over the time of the sweep; where all combinations were run, beside random search's.

    None for several objectives, and where there is too little to show.
    """
    names = objective_names(records)
    tried = [one for one in originals(records) if one.phase == "search" and one.same_as is None and one.objective]
    out = answered.barred(records)
    fair = [one for one in tried if one.number not in out and not one.is_raced and meets_slo(one)]
    whole = sorted(fair, key=lambda one: one.ended_at)
    if len(names) != 1 or len(whole) < LEAST:
        return None
    name, begin = names[0], min(record.started_at for record in records)
    is_maximised = objectives.is_maximised(name)
    unit_s, unit = plots.clock(records)
    times, scores = _places(whole, name, begin, unit_s)
    best = [(max if is_maximised else min)(scores[: count + 1]) for count in range(len(scores))]
    # Trials that were chosen by what earlier ones showed say nothing of what random ones would have
    random = expected(scores, is_maximised=is_maximised) if _is_grid(tried) else []
    raced = [one for one in tried if one.is_raced and one.number not in out]
    barred = [one for one in tried if one.number in out]
    traces = [
        _line(times, best, "best so far", plots.COLOURS[0]),
        _line(times[: len(random)], random, "random search, expected", plots.BASELINE, dash="dot"),
        _dots(times, scores, whole, "trials", plots.OTHERS),
        _dots(*_places(raced, name, begin, unit_s), raced, "raced: not measured at every level", plots.COLOURS[1]),
        _dots(*_places(barred, name, begin, unit_s), barred, "cannot win, for what it answers", plots.COLOURS[3]),
    ]
    return {
        "data": [trace for trace in traces if trace["x"]],
        "layout": plots.axes(f"{unit} since the first trial began", labels.metric(name, records[0].config)),
    }


def _places(of: Sequence[Record], name: str, begin: datetime, unit_s: float) -> tuple[list[float], list[float]]:
    """When they ended, and what they scored."""
    times = [(one.ended_at - begin).total_seconds() / unit_s for one in of]
    return times, [(one.objective or {})[name] for one in of]


def _is_grid(tried: Sequence[Record]) -> bool:
    return all(one.reason is not None and one.reason.by in {"baseline", "order"} for one in tried)


def expected(scores: Sequence[float], *, is_maximised: bool) -> list[float]:
    """The expected best of the first 1, 2, ... of these scores in random order.

    The i-th worst of n is the best of k with probability C(i - 1, k - 1) / C(n, k).
    """
    ranked = sorted(scores, reverse=not is_maximised)
    count = len(ranked)
    return [
        sum(score * comb(place, drawn - 1) for place, score in enumerate(ranked)) / comb(count, drawn)
        for drawn in range(1, count + 1)
    ]


def _line(x: Sequence[float], y: Sequence[float], name: str, colour: str, *, dash: str = "solid") -> Trace:
    line = {"color": colour, "width": 2, "shape": "hv", "dash": dash}
    told = f"%{{x:.1f}}: %{{y:.4g}}<extra>{name}</extra>"
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": [*x], "y": [*y], "line": line, "hovertemplate": told
    }  # fmt: skip


def _dots(x: Sequence[float], y: Sequence[float], of: Sequence[Record], name: str, colour: str) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [*x],
        "y": [*y],
        "text": [_why(record) for record in of],
        "hovertemplate": "%{text}<br>%{x:.1f}: %{y:.4g}<extra></extra>",
        "marker": {"color": colour, "size": 7, "opacity": 0.7},
    }


def _why(record: Record) -> str:
    return f"trial {record.number}" + (f": {record.reason.words}" if record.reason else "")
