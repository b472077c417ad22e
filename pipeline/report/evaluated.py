"""What lm-eval found out about a sweep's winner and its baseline: from `evals/evals.json`, for people."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from pipeline.core import readable
from pipeline.core.evaluation import FOLDER, Change, Evaluated
from pipeline.report.verdict import Verdict

FILE = "evals.json"
TITLES = ("task", "recommended", "baseline", "difference", "95% interval", "items", "shown")


def of(sweep: Path, found: Verdict) -> tuple[Change, ...]:
    """Of the two that the verdict names; nothing where others were evaluated, or nobody was."""
    try:
        seen = readable.read(Evaluated, sweep / FOLDER / FILE)
    except (OSError, ValidationError):
        return ()
    return seen.changes if (seen.winner, seen.baseline) == (found.recommended, found.baseline) else ()


def lines(seen: Evaluated) -> Iterator[str]:
    """In sentences."""
    yield f"Evaluations of trial {seen.winner} against the baseline, trial {seen.baseline}:"
    yield from (f"  {one}" for one in seen.changes)
    if worse := [one.name for one in seen.changes if one.verdict == "worse"]:
        yield f"Worse than the baseline: {', '.join(worse)}. Decide whether the speed is worth it."


def rows(changes: Sequence[Change]) -> list[list[str]]:
    """As a table."""
    return [
        [
            one.name,
            f"{one.winner:.3f}",
            f"{one.baseline:.3f}",
            f"{one.difference:+.3f}",
            one.interval,
            f"{one.items}{'' if one.is_paired else ', not in pairs'}",
            one.verdict,
        ]
        for one in changes
    ]
