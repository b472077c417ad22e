"""`python -m pipeline.recheck outputs/<sweep>/best`: measure a sweep's winner again; does it still do what it did?

Runs one trial by the command in the folder, into recheck/ beside it, and compares with card.json. With several
measurements on the card, what is expected is the 95% prediction interval of one more; with one, the tolerance.
"""

import argparse
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from pipeline.core import metrics, objectives
from pipeline.core.errors import Interrupted
from pipeline.core.files import RunDir
from pipeline.core.record import Record
from pipeline.core.statistics import Interval
from pipeline.core.values import load, value
from pipeline.machine import entry, process, signals
from pipeline.report.best.card import SHOWN, Card

LEAST = 0.02  # share of the mean: a few measurements may lie close together by chance
AS_EXPECTED, DIFFERENT, BAD_INPUT = 0, 1, 2


@value
class Line:
    """One metric, then and now."""

    name: str
    expected: Interval
    low: float
    high: float
    now: float | None  # None: it was not measured
    is_judged: bool  # the objectives decide

    @property
    def verdict(self) -> str:
        """In a word; a change for the better is no fault."""
        if self.now is None:
            return "missing"
        if self.low <= self.now <= self.high:
            return "as expected"
        return "better" if (self.now > self.high) == objectives.is_maximised(self.name.split(" ")[0]) else "worse"


def main(argv: Sequence[str] | None = None, prog: str = "python -m pipeline.recheck") -> int:
    """The command. 0: as expected or better; 1: worse, or not measured; 2: no such card; others: the trial's own."""
    given, more = _options(argv, prog)
    try:
        card = load(Card, given.best / "card.json")
    except (OSError, ValidationError) as error:
        told = str(error).splitlines()[0]
        sys.stderr.write(
            f"error: {given.best}/card.json cannot be read ({told}). Expected the folder best/ of a sweep.\n"
        )
        return BAD_INPUT
    folder = given.best.parent / "recheck" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}" / "0"  # noqa: DTZ005 - for people
    own = [*card.overrides, *more, f"hydra.run.dir={folder}"]
    code = _measure(own)
    if code > 128:  # stopped by a signal: there is nothing to compare
        return code
    try:
        record = load(Record, RunDir(folder).record)
    except (OSError, ValidationError):
        return code or DIFFERENT
    return max(code, _show(list(compare(card, record, given.tolerance))))


def _options(argv: Sequence[str] | None, prog: str) -> tuple[argparse.Namespace, list[str]]:
    """Ours; and those of the trial, e.g. --config-dir mine or tracker=none."""
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [-h] [--tolerance SHARE] BEST [NAME=VALUE ...]",
        description="Measure the best configuration of a sweep again and compare it with what the sweep measured. "
        "Runs one trial; it goes to the folder recheck/ beside best/. A result is as expected if it lies in the 95% "
        "prediction interval of the sweep's measurements or, if the sweep measured only once, within the tolerance. "
        "Exit code 0: as expected or better; 1: worse or missing; 2: no card.json in the folder; "
        "others: as the trial's.",
    )
    parser.add_argument("best", metavar="BEST", type=Path, help="folder best/ of a sweep; NAME=VALUE changes the trial")
    parser.add_argument(
        "--tolerance",
        metavar="SHARE",
        type=float,
        default=0.1,
        help="relative difference allowed where the sweep measured once; default: %(default)s",
    )
    return parser.parse_known_args(argv)


def _measure(overrides: Sequence[str]) -> int:
    """The trial, in front of the user; its exit code. What stops us stops it, and is answered when it has torn down."""
    with subprocess.Popen([*process.python("pipeline"), *overrides]) as trial, signals.held():
        try:
            with signals.heard():
                return trial.wait()
        except Interrupted as stop:
            trial.send_signal(stop.signum)  # a terminal has told it already; twice is as good as once
            code = trial.wait()
            signals.acknowledge()
            return code


def compare(card: Card, record: Record, tolerance: float) -> Iterator[Line]:
    """The objectives, then the metrics of each level that people look at."""
    found = record.objective or {}
    for name, expected in card.objective.items():
        yield _line(name, expected, found.get(name), tolerance, is_judged=True)
    now = {level.name: metrics.flatten(level.metrics) for level in record.levels if level.metrics}
    for level, seen in card.levels.items():
        for name in (name for name in SHOWN if name in seen and seen[name].mean):
            yield _line(f"{name} at {level}", seen[name], now.get(level, {}).get(name), tolerance, is_judged=False)


def _line(name: str, expected: Interval, now: float | None, tolerance: float, *, is_judged: bool) -> Line:
    half = abs(expected.mean) * tolerance
    if expected.low is not None and expected.high is not None:
        # From the interval of the mean, t*s/sqrt(n), to that of one more measurement, t*s*sqrt(1 + 1/n)
        wide = (expected.high - expected.low) / 2 * math.sqrt(expected.count + 1)
        half = max(wide, abs(expected.mean) * LEAST)
    ends = {"low": expected.mean - half, "high": expected.mean + half}
    return Line(name=name, expected=expected, now=now, is_judged=is_judged, **ends)


def _show(lines: Sequence[Line]) -> int:
    table = Table(box=None, pad_edge=False)
    for title in ("metric", "then", "expected", "now", ""):
        table.add_column(title, justify="left" if title in {"metric", ""} else "right")
    for line in lines:
        band, now = f"{line.low:.4g} to {line.high:.4g}", "-" if line.now is None else f"{line.now:.4g}"
        table.add_row(line.name, f"{line.expected.mean:.4g}", band, now, line.verdict)
    judged = [line.verdict for line in lines if line.is_judged]
    is_well = bool(judged) and not {"worse", "missing"} & {*judged}
    console = Console(width=160)
    console.print(table)
    console.print("As expected." if is_well else "Not as expected: the objective is outside of what the card promises.")
    return AS_EXPECTED if is_well else DIFFERENT


if __name__ == "__main__":
    sys.exit(entry.run(main))
