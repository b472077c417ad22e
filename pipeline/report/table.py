"""The rows of a verdict as a table that fits a terminal. The report adds columns of its own. Pure."""

from collections.abc import Sequence

from pipeline.report import flags
from pipeline.report.ranking import Row
from pipeline.report.verdict import Verdict

TITLES = ("rank", "trial", "change", "search score", "flags", "overrides")
WORDS = ("flags", "overrides", "at level")  # columns of words
MORE = ("at level", "TTFT p95", "TPOT p95", "errors", "SLO met")  # in the report alone
LEAST = 12  # characters of overrides that are shown on any terminal


def lines(verdict: Verdict, width: int | None) -> list[str]:
    """The table, title line first; a line longer than `width` ends in an ellipsis."""
    found = [list(TITLES), *(cells(row, verdict) for row in verdict.rows)]
    widths = [max(len(line[i]) for line in found) for i in range(len(TITLES) - 1)]
    return [_line(line, widths, width) for line in found]


def _line(line: Sequence[str], widths: Sequence[int], width: int | None) -> str:
    *first, last = line
    sides = [
        cell.ljust(size) if title in WORDS else cell.rjust(size)
        for cell, size, title in zip(first, widths, TITLES, strict=False)
    ]
    begin = "  ".join(sides) + "  "
    room = len(last) if width is None else max(width - len(begin), LEAST)
    return (begin + (last if len(last) <= room else last[: room - 1] + "…")).rstrip()


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
    return [row.best_level or "", _milliseconds(row.ttft_p95_s), _milliseconds(row.tpot_p95_s), *shares]


def change(row: Row, verdict: Verdict) -> str:
    """`+12.1% ±3.2`, with what stands for the interval where there is none."""
    if row.number == verdict.baseline:
        return "baseline"
    if row.change is None:
        return ""
    if row.change_margin is None:
        return f"{row.change:+.1%} {flags.ONCE if row.rounds < 2 else f'({row.rounds} rounds)'}"
    margin = 100 * row.change_margin
    return f"{row.change:+.1%} ±{margin:.1f}" if margin < 1000 else f"{row.change:+.1%} ±>999"


def legend(verdict: Verdict) -> str:
    """What score and flags mean, those that appear."""
    words = [flag for row in verdict.rows for flag in row.flags]
    words += [flags.ONCE for row in verdict.rows if flags.ONCE in change(row, verdict)]
    score = f"search score: {', '.join(verdict.names)}, before any confirmation."
    score += " change: of the hypervolume." if len(verdict.names) > 1 else ""
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
