"""The ranking as a table: the same words in the terminal and in report.html. Pure."""

from collections.abc import Sequence

from rich.table import Table

from pipeline.report.ranking import Row

TEXTS = ("overrides", "at level")  # columns of words


def titles(rows: Sequence[Row], objectives: Sequence[str]) -> list[str]:
    """The titles of the columns."""
    ends = ["SLO met"] if _has_slo(rows) else []
    return [
        "rank",
        "trial",
        "overrides",
        *objectives,
        "vs baseline",
        "at level",
        "TTFT p95",
        "TPOT p95",
        "errors",
        *ends,
    ]


def cells(row: Row, rows: Sequence[Row], objectives: Sequence[str]) -> list[str]:
    """The cells of one row."""
    scores = _scores(row) if row.objective else [row.why or row.status, *[""] * (len(objectives) - 1)]
    change = (
        "baseline" if row.is_baseline else f"{row.against_baseline:+.1%}" if row.against_baseline is not None else ""
    )
    return [
        str(row.rank or "-"),
        str(row.number),
        _overrides(row),
        *scores,
        change,
        _level(row),
        _milliseconds(row.ttft_p95_s),
        _milliseconds(row.tpot_p95_s),
        _percent(row.error_rate),
        *([_percent(row.slo_attainment)] if _has_slo(rows) else []),
    ]


def rich_table(rows: Sequence[Row], objectives: Sequence[str]) -> Table:
    """The table for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles(rows, objectives):
        table.add_column(title, justify="left" if title in TEXTS else "right", overflow="fold")
    for row in rows:
        style = "bold green" if row.rank == 1 else "red" if row.rank is None else ""
        table.add_row(*cells(row, rows, objectives), style=style)
    return table


def _has_slo(rows: Sequence[Row]) -> bool:
    return any(row.slo_attainment is not None for row in rows)


def _scores(row: Row) -> list[str]:
    """The means; with a half-width where there is one, with how often where some runs failed, * on the Pareto front."""
    first, *others = (f"{seen:.4g}" for seen in row.objective or ())
    first += f" ±{row.half_width:.2g}" if row.half_width is not None else ""
    first += f" ({row.measured} of {row.runs} runs)" if row.measured < row.runs else ""
    return [first + (" *" if row.is_optimal and others else ""), *others]


def _overrides(row: Row) -> str:
    """What was asked; with an arrow where the engine runs something else."""
    arrows = {words.split("→", 1)[0]: words for words in row.rewrites}
    return " ".join(arrows.get(word, word) for word in row.overrides) or "defaults"


def _level(row: Row) -> str:
    if row.same_as is not None:
        return f"as trial {row.same_as}"
    return (row.best_level or "") + (" (cached)" if row.cached_from else "")


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.0f} ms"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"
