"""`python -m pipeline.recheck outputs/<sweep>/best`: measure a sweep's winner again; does it still do what it did?

Runs one trial by the command in the folder, into recheck/ beside it, and compares every metric of card.json. What is
expected of the objective is the 95% prediction interval of one more measurement; with one on the card, and of every
other metric at least, the tolerance. Where the sweep asked the quality guard's questions, they are asked again, and the
answers are held against those of the sweep's baseline.
"""

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from pipeline.core import files, metrics, objectives, readable
from pipeline.core.errors import Interrupted
from pipeline.core.files import RunDir
from pipeline.core.origin import Origin
from pipeline.core.record import Record
from pipeline.core.statistics import Interval
from pipeline.core.values import value
from pipeline.machine import entry, process, signals
from pipeline.report import command
from pipeline.report.best import answers
from pipeline.report.best.answers import Again, Answers
from pipeline.report.best.card import GOODPUT, SHOWN, Card
from pipeline.report.command import FILE

LEAST = 0.02  # share of the mean: a few measurements may lie close together by chance
MOST = 0.5  # share of the mean: of two measurements that lie apart, the interval would allow anything
ERRORS = 0.01  # one request of a hundred: none of none is no more to be had than any exact number
TOLERANCES = {"tolerance": 0.1, "latency-tolerance": 0.25}
JUDGED = (*SHOWN, *GOODPUT, "ttft_mean_s", "tpot_mean_s", "e2e_mean_s")
AS_EXPECTED, DIFFERENT, BAD_INPUT = 0, 1, 2
ASK = "quality.always=true"  # of a single trial, nobody is asked by itself


@value
class Tolerance:
    """Relative differences that are allowed. Single latencies scatter more than throughput does."""

    share: float
    latency: float

    def of(self, name: str) -> float:
        """For a metric."""
        return self.latency if name.endswith("_s") and not name.endswith("_per_s") else self.share


@value
class Line:
    """One metric, then and now."""

    name: str
    level: str | None  # None: an objective
    expected: Interval
    low: float
    high: float
    now: float | None  # None: it was not measured

    @property
    def verdict(self) -> Literal["as expected", "better", "worse", "missing"]:
        """In a word; a change for the better is no fault."""
        if self.now is None:
            return "missing"
        if self.low <= self.now <= self.high:
            return "as expected"
        return "better" if (self.now > self.high) == objectives.is_maximised(self.name) else "worse"

    @property
    def is_fault(self) -> bool:
        """Whether it makes the recheck fail."""
        return self.verdict in {"worse", "missing"}


def main(argv: Sequence[str] | None = None, prog: str = "python -m pipeline.recheck") -> int:
    """The command. 0: as expected or better; 1: worse, or not measured; 2: no such card; others: the trial's own."""
    given, more = _options(argv, prog)
    try:
        shares = [_share(f"--{name}", getattr(given, name.replace("-", "_"))) for name in TOLERANCES]
        card, told = _card(given.best), _answers(given.best)
        env, cwd, more = surroundings(card.origin, more, os.environ, Path.cwd())
        place = given.best.resolve().parent / "recheck" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"  # noqa: DTZ005
        folder = files.make_new(place) / "0"
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return BAD_INPUT
    own = [*card.overrides, *card.recheck, *([ASK] if told else []), *more, f"hydra.run.dir={folder}"]
    code = measure(own, env, cwd)
    if code > 128:  # stopped by a signal: there is nothing to compare
        return code
    try:
        record = readable.read(Record, RunDir(folder).record)
    except (OSError, ValidationError):
        return code or DIFFERENT
    again = answers.again(told, record) if told and record.config.quality.kind == "guard" else None
    lines = list(compare(card, record, Tolerance(share=shares[0], latency=shares[1])))
    return max(code, _show(lines, again))


def _card(folder: Path) -> Card:
    """The card in a folder.

    Raises:
        ValueError: there is none that can be read.
    """
    try:
        return readable.read(Card, folder / "card.json")
    except (OSError, ValidationError) as error:
        told = readable.why(folder / "card.json", error)
        raise ValueError(f"{folder}/card.json cannot be read: {told}. Expected the folder best/ of a sweep.") from error


def _answers(folder: Path) -> Answers | None:
    """What was answered in the sweep; None where there is nothing to compare with.

    Raises:
        ValueError: it cannot be read.
    """
    path = folder / answers.NAME
    try:
        found = readable.read(Answers, path)
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        told = readable.why(path, error)
        raise ValueError(f"{path} cannot be read: {told}. Remove it to compare without answers.") from error
    return found if found.can_be_compared else None


def _options(argv: Sequence[str] | None, prog: str) -> tuple[argparse.Namespace, list[str]]:
    """Ours; and those of the trial, e.g. --config-dir mine or tracker=none."""
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [-h] [--tolerance SHARE] [--latency-tolerance SHARE] BEST [NAME=VALUE ...]",
        description="Measure the best configuration of a sweep again and compare it with what the sweep measured. "
        "Runs one trial; it goes to the folder recheck/ beside best/. Every metric of the card is compared: "
        "throughput, TTFT, TPOT, errors, and goodput where there is an SLO. A change for the better is no fault. "
        "Where the sweep looked at answers, they are compared, too. "
        "Exit code 0: as expected or better; 1: something is worse or missing; 2: no card.json in the folder, or a "
        "tolerance that makes no sense; others: as the trial's.",
    )
    parser.add_argument("best", metavar="BEST", type=Path, help="folder best/ of a sweep; NAME=VALUE changes the trial")
    for (name, share), what in zip(TOLERANCES.items(), ("throughput and goodput", "latencies"), strict=True):
        parser.add_argument(
            f"--{name}",
            metavar="SHARE",
            default=str(share),
            help=f"relative difference allowed of {what}, e.g. 0.2 for 20%%; default: %(default)s. Where the card has "
            "several measurements, what their 95%% prediction interval allows is allowed too",
        )
    return parser.parse_known_args(argv)


def _share(option: str, given: str) -> float:
    """A tolerance as a number.

    Raises:
        ValueError: it makes no sense.
    """
    try:
        share = float(given)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise ValueError(f"{option} {given}: expected a number above 0, at most 1; e.g. 0.1 allows 10%.")
    return share


def surroundings(
    origin: Origin, words: Sequence[str], environ: Mapping[str, str], here: Path
) -> tuple[dict[str, str], Path, list[str]]:
    """The trial's environment and working directory, and the words after its overrides; what is set here wins.

    Raises:
        ValueError: a folder with options, or a secret, is not here.
    """
    missing = [name for name, text in origin.variables.items() if text is None and name not in environ]
    if missing:
        raise ValueError(f"Set {', '.join(missing)}: the sweep's configuration reads it, and it is not written down.")
    usual = {name: text for name, text in origin.variables.items() if text is not None}
    own, others = _config_dir(words)
    places = [] if own else [Path(one.removeprefix(FILE)) for one in origin.searchpath if one.startswith(FILE)]
    for place in places:
        if not place.is_dir():
            raise ValueError(f"{place}, the folder with options of the sweep's, is not here: add --config-dir FOLDER.")
    told = ["--config-dir", str(here / own)] if own else command.options(origin)
    folder = Path(origin.folder) if origin.folder else here
    if not folder.is_dir():
        sys.stderr.write(f"{folder}, where the sweep's relative paths began, is not here: they begin in {here} now.\n")
        folder = here
    return {**usual, **environ}, folder, [*told, *others]


def _config_dir(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The folder of options that is given by hand; the other words."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    found, others = parser.parse_known_args(words)
    return found.config_dir, others


def measure(overrides: Sequence[str], env: Mapping[str, str], cwd: Path, *, log: Path | None = None) -> int:
    """The trial, in front of the user or to a log; its exit code.

    What stops us stops it, and is answered when it has torn down.
    """
    argv = [*process.python("pipeline"), *overrides]
    with (
        log.open("ab") if log else nullcontext() as out,
        subprocess.Popen(argv, env=env, cwd=cwd, stdout=out, stderr=out) as trial,
        signals.held(),
    ):
        try:
            with signals.heard():
                return trial.wait()
        except Interrupted as stop:
            trial.send_signal(stop.signum)  # a terminal has told it already; twice is as good as once
            code = trial.wait()
            signals.acknowledge()
            return code


def compare(card: Card, record: Record, allowed: Tolerance) -> Iterator[Line]:
    """The objectives, then the metrics of each level."""
    found = record.objective or {}
    for name, expected in card.objective.items():
        yield _line(name, None, expected, found.get(name), allowed)
    now = {level.name: metrics.flatten(level.metrics) for level in record.levels if level.metrics}
    for level, seen in card.levels.items():
        if card.recheck and level not in now:
            continue
        for name in (name for name in JUDGED if name in seen):
            yield _line(name, level, seen[name], now.get(level, {}).get(name), allowed)


def _line(name: str, level: str | None, expected: Interval, now: float | None, allowed: Tolerance) -> Line:
    size, asked = abs(expected.mean), allowed.of(name)
    half = size * asked
    if expected.low is not None and expected.high is not None:
        # From the interval of the mean, t*s/sqrt(n), to that of one more measurement, t*s*sqrt(1 + 1/n)
        wide = (expected.high - expected.low) / 2 * math.sqrt(expected.count + 1)
        least = LEAST if level is None else asked  # of many metrics, some lie outside of their intervals by chance
        half = min(max(wide, size * least), size * max(asked, MOST))
    if name == "error_rate":
        half = max(half, ERRORS)
    return Line(name=name, level=level, expected=expected, low=expected.mean - half, high=expected.mean + half, now=now)


def _show(lines: Sequence[Line], again: Again | None) -> int:
    """The objectives, and what is out of tolerance; the rest in a number; what it answers."""
    shown = [line for line in lines if line.level is None or line.verdict != "as expected"]
    faults = sum(line.is_fault for line in lines)
    console = Console(width=160)
    console.print(_table(shown))
    if len(lines) > len(shown):
        console.print(f"{len(lines) - len(shown)} other metrics are within their tolerance.")
    if again is not None:
        console.print(f"Answers against the sweep's baseline: {again}.", soft_wrap=True, markup=False)
    wrong = list(_wrong(lines, faults, again))
    console.print(f"Not as expected: {'; '.join(wrong)}." if wrong else "As expected.", soft_wrap=True)
    return DIFFERENT if wrong else AS_EXPECTED


def _wrong(lines: Sequence[Line], faults: int, again: Again | None) -> Iterator[str]:
    """What is not as expected."""
    if faults or not lines:
        how = f"{'is' if faults == 1 else 'are'} worse than the card promises, or missing"
        yield f"{faults} of {len(lines)} metrics {how}"
    if again is not None and again.is_fault:
        yield f"what it answers is {again.now.word}" if again.now.word == "broken" else "what it answers differs"


def _table(lines: Sequence[Line]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("metric", "expected", "tolerated", "seen", ""):
        table.add_column(title, justify="left" if title in {"metric", ""} else "right")
    for line in lines:
        name = line.name if line.level is None else f"{line.name} at {line.level}"
        band, now = f"{max(line.low, 0):.4g} to {line.high:.4g}", "-" if line.now is None else f"{line.now:.4g}"
        table.add_row(name, f"{line.expected.mean:.4g}", band, now, line.verdict)
    return table


if __name__ == "__main__":
    sys.exit(entry.run(main))
