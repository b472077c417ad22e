"""The figure of a search over time: how good the best configuration was, and when. Pure."""

from collections.abc import Sequence
from math import comb

from pipeline.core import objectives
from pipeline.core.record import Record
from pipeline.report import plots
from pipeline.report.plots import Figure, Trace
from pipeline.report.ranking import meets_slo, objective_names, originals

LEAST = 3  # results: fewer are no curve


def best_so_far(records: Sequence[Record]) -> Figure | None:
    """The best search score over the minutes of the sweep, beside what the same trials show in random order.

    None for several objectives, and where there is too little to show.
    """
    names = objective_names(records)
    tried = [one for one in originals(records) if one.phase == "search" and one.same_as is None and one.objective]
    whole = sorted((one for one in tried if not one.is_raced and meets_slo(one)), key=lambda one: one.ended_at)
    if len(names) != 1 or len(whole) < LEAST:
        return None
    name, begin = names[0], min(record.started_at for record in records)
    is_maximised = objectives.is_maximised(name)
    minutes = [(one.ended_at - begin).total_seconds() / 60 for one in whole]
    scores = [(one.objective or {})[name] for one in whole]
    best = [(max if is_maximised else min)(scores[: count + 1]) for count in range(len(scores))]
    random = expected(scores, is_maximised=is_maximised)
    raced = [one for one in tried if one.is_raced]
    traces = [
        _line(minutes, best, "best so far", plots.COLOURS[0]),
        _line(minutes, random, "the same trials in random order, expected", plots.BASELINE, dash="dot"),
        _dots(minutes, scores, whole, "trials", plots.OTHERS),
        _dots(
            [(one.ended_at - begin).total_seconds() / 60 for one in raced],
            [(one.objective or {})[name] for one in raced],
            raced,
            "raced: not measured at every level",
            plots.COLOURS[1],
        ),
    ]
    return {
        "data": [trace for trace in traces if trace["x"]],
        "layout": plots.axes("minutes since the first trial began", name),
    }


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


def _line(x: Sequence[float], y: Sequence[float], name: str, colour: str, dash: str = "solid") -> Trace:
    line = {"color": colour, "width": 2, "shape": "hv", "dash": dash}
    told = f"%{{x:.1f}} min: %{{y:.4g}}<extra>{name}</extra>"
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
        "hovertemplate": "%{text}<br>%{x:.1f} min: %{y:.4g}<extra></extra>",
        "marker": {"color": colour, "size": 7, "opacity": 0.7},
    }


def _why(record: Record) -> str:
    return f"trial {record.number}" + (f": {record.reason.words}" if record.reason else "")
