"""The rows of a verdict as a table that fits a terminal. The report adds columns of its own. Pure."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from pipeline.core.words import visible
from pipeline.report import flags, narrow
from pipeline.report.ranking import Row
from pipeline.report.verdict import Verdict

TITLES = ("rank", "trial", "change", "search score", "flags", "overrides")
WORDS = ("flags", "overrides", "at level", "limited by")  # columns of words
MORE = ("at level", "TTFT p95", "TPOT p95", "errors", "SLO met", "limited by")  # in the report alone


def lines(verdict: Verdict, width: int | None) -> list[str]:
    """The table, title line first, a line for each row: as it is, or in short words where it is wider than `width`."""
    rows = [[*map(visible, cells(row, verdict))] for row in verdict.rows]
    whole = _lines([list(TITLES), *rows])
    if width is None or max(map(cell_len, whole)) <= width:
        return whole
    return [_cut(line, width) for line in _lines([list(narrow.HEADS), *narrow.cells(rows)])]


def _lines(found: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(cell_len(line[i]) for line in found) for i in range(len(TITLES) - 1)]
    return [_line(line, widths) for line in found]


def _line(line: Sequence[str], widths: Sequence[int]) -> str:
    *first, last = line
    sides = [
        cell + blank if title in WORDS else blank + cell
        for cell, size, title in zip(first, widths, TITLES, strict=False)
        for blank in [" " * (size - cell_len(cell))]
    ]
    return ("  ".join(sides) + "  " + last).rstrip()


def _cut(line: str, width: int) -> str:
    """No wider than the terminal, on which some letters take two columns."""
    return line if cell_len(line) <= width else set_cell_size(line, width - 1).rstrip() + "…"


def cells(row: Row, verdict: Verdict) -> list[str]:
    """The cells of one row, in the order of the titles."""
    return [
        str(row.rank or "-"),
        str(row.number),
        change(row, verdict),
        _scores(row),
        ", ".join(row.flags),
        _overrides(row),
    ]


def more(row: Row) -> list[str]:
    """The cells of the report's own columns."""
    shares = (_percent(row.error_rate), _percent(row.slo_attainment))
    times = (_milliseconds(row.ttft_p95_s), _milliseconds(row.tpot_p95_s))
    return [row.best_level or "", *times, *shares, row.limited_by]


def change(row: Row, verdict: Verdict) -> str:
    """`+12.1% ±3.2`, with what stands for the interval where there is none."""
    if row.number in verdict.baselines:
        return "baseline"
    if row.change is None:
        return ""
    if row.change_margin is None:
        return f"{row.change:+.1%} {flags.ONCE if row.rounds < 2 else f'({row.rounds} rounds)'}"
    return with_margin(row.change, row.change_margin)


def with_margin(change: float, margin: float) -> str:
    """`+12.1% ±3.2`."""
    return f"{change:+.1%} ±{100 * margin:.1f}" if margin < 10 else f"{change:+.1%} ±>999"


def legend(verdict: Verdict, width: int | None = None) -> str:
    """What score and flags mean, those that appear; and the short words of a narrow table."""
    rows = [cells(row, verdict) for row in verdict.rows]
    is_narrow = width is not None and max(map(cell_len, _lines([list(TITLES), *rows]))) > width
    if is_narrow:
        short = narrow.legend(rows, flags.MEANINGS)
        return f"score: {', '.join(verdict.names)}, of the search, before any confirmation. {short}".rstrip()
    words = [flag for row in verdict.rows for flag in row.flags]
    words += [flags.ONCE for row in verdict.rows if flags.ONCE in change(row, verdict)]
    score = f"search score: {', '.join(verdict.names)}, before any confirmation."
    score += " change: of the hypervolume." if len(verdict.names) > 1 else ""
    score += " change: against the baseline of the same engine." if verdict.engines else ""
    return f"{score} {flags.legend(words)}".rstrip()


def _scores(row: Row) -> str:
    """The means; with a half-width where there is one."""
    if not row.objective:
        return ""
    first, *others = (f"{seen:.4g}" for seen in row.objective)
    first += f" ±{row.half_width:.2g}" if row.half_width is not None else ""
    return ", ".join([first, *others])


def _overrides(row: Row) -> str:
    """What was asked; with an arrow where the engine runs something else."""
    arrows = {words.split("→", 1)[0]: words for words in row.rewrites}
    return " ".join(arrows.get(word, word) for word in row.overrides) or "defaults"


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.0f} ms"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"
