"""`replay.html`: a replay's results as one file that needs nothing else. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.replay import shown
from pipeline.replay.compare import Against, Curve
from pipeline.replay.results import OnLandscape, Results
from pipeline.report import page, plots
from pipeline.report.plots import COLOURS, Figure, Trace

TEXTS = ("strategy", "against", "landscape", "kind", "source", "T5 is")
FACTS = (
    *("landscape", "kind", "source", "configurations", "knobs", "fail", "default", "within 5%", "noise"),
    *("whole trial", "of it start-up", "levels", "SLO"),
)
TESTS = ("landscape", "strategy", "against", "T5 is", "p", "difference of mean T5")


def render(found: Results, command: str) -> str:
    """The page."""
    figures: dict[str, Figure] = {"f0": curves(found.times, found.curves)}
    drawn = [{"id": "f0", "caption": "mean over landscapes and seeds, 95% interval", "wide": True, "height": 460}]
    if found.against:
        figures["f1"] = ratios(found.against)
        low = {"wide": True, "height": 120 + 30 * len(found.against)}
        drawn.append({"id": "f1", "caption": "restricted mean of T5 against the reference; left of 1 is faster", **low})
    told = {
        "title": "replay",
        "subject": command,
        "headline": [*shown.heading(found), *sentences(found)],
        "titles": shown.titles(found),
        "strategies": [shown.cells(one) for one in found.summaries],
        "against_titles": shown.AGAINST,
        "against": [shown.against(one) for one in found.against],
        "legend": shown.LEGEND,
        "plots": drawn,
        "facts_titles": FACTS,
        "facts": [facts(one) for one in found.landscapes],
        "landscapes": [(one.facts["name"], [shown.cells(each) for each in one.summaries]) for one in found.landscapes],
        "tests_titles": TESTS,
        "tests": [*_tests(found.against)],
        "texts": TEXTS,
    }
    return page.filled("replay.html.j2", told, figures)


def sentences(found: Results) -> Iterator[str]:
    """The comparisons in words."""
    for one in found.against:
        yield (
            f"{one.strategy} needs {one.t5_mean} of the time of {one.reference}: faster on {one.count('faster')} and "
            f"slower on {one.count('slower')} of {len(one.tests)} landscapes."
        )


def facts(one: OnLandscape) -> tuple[str, ...]:
    """A landscape's row."""
    told = one.facts
    return (
        *(str(told[name]) for name in ("name", "kind", "source", "configurations", "knobs")),
        *(f"{told[name]:.1%}" for name in ("crash_share", "default", "within_5_percent", "noise")),
        f"{told['whole_trial_s']:.0f} s",
        f"{told['startup_share']:.0%}",
        str(told["levels"]),
        "yes" if told["has_slo"] else "no",
    )


def _tests(found: Sequence[Against]) -> Iterator[tuple[str, ...]]:
    for one in found:
        for test in one.tests:
            apart = f"{test.difference:+.1f}"
            yield (test.landscape, one.strategy, one.reference, test.word, f"{test.p:.3f}", apart)


def curves(times: Sequence[float], found: Sequence[Curve]) -> Figure:
    """What is recommended, over time."""
    traces = [trace for at, one in enumerate(found) for trace in _band(times, one, COLOURS[at % len(COLOURS)])]
    return {"data": traces, "layout": plots.axes("whole trials", "true score of what is recommended / best")}


def _band(times: Sequence[float], one: Curve, colour: str) -> list[Trace]:
    """The mean, and the interval as an area around it."""
    x = [*times]
    group: dict[str, Any] = {"legendgroup": one.strategy, "type": "scatter", "mode": "lines"}
    area = {"x": [*x, *x[::-1]], "y": [*one.high, *one.low[::-1]], "fill": "toself", "fillcolor": f"{colour}33"}
    edge = {"line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
    line = {"x": x, "y": [*one.mean], "name": one.strategy, "line": {"color": colour, "width": 2}}
    return [{**group, **area, **edge}, {**group, **line, "hovertemplate": "%{x:.1f}: %{y:.3f}"}]


def ratios(found: Sequence[Against]) -> Figure:
    """A point with its interval for each comparison."""
    rows = [(f"{one.strategy} / {one.reference}", one.t5_mean) for one in found[::-1]]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [ratio.ratio for _, ratio in rows],
        "y": [name for name, _ in rows],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [ratio.high - ratio.ratio for _, ratio in rows],
            "arrayminus": [ratio.ratio - ratio.low for _, ratio in rows],
        },
        "marker": {"color": COLOURS[0], "size": 9},
        "hovertemplate": "%{y}: %{x:.2f}<extra></extra>",
    }
    one = {"type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper", "line": {"dash": "dash", "width": 1}}
    return {"data": [trace], "layout": {**plots.axes("ratio", "", x={"type": "log"}), "shapes": [one]}}
