"""The progress display while trials run: a live table on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.core.objectives import is_maximised
from pipeline.core.record import Record
from pipeline.core.words import visible

SHOWN = 12  # rows of ended trials that stay in sight
AGAIN_S = 10.0  # between two lines on how far the same step is
WORTH = 46  # columns of the step or result there: it says more than the overrides
NARROW = 100  # columns of a terminal on which the objective is named once, below the table


class Progress(Protocol):
    """The progress of one trial: hears what happens, never decides anything."""

    def begin(self, number: int, overrides: Sequence[str]) -> None:
        """A trial starts."""

    def step(self, name: str, detail: str = "") -> None:
        """The running trial has reached a step."""

    def ended(self, record: Record) -> None:
        """The trial has left its record."""

    def close(self) -> None:
        """Nothing more will come."""


class Display(Progress, Protocol):
    """The display for people: shows one trial itself, or several, each through its own Progress."""

    tells_failures: bool  # says why a trial failed as it ends

    def beside(self) -> Progress:
        """The progress of one of several trials that run at the same time."""


class Silent:
    """Shows nothing."""

    def begin(self, number: int, overrides: Sequence[str]) -> None:
        """Nothing."""

    def step(self, name: str, detail: str = "") -> None:
        """Nothing."""

    def ended(self, record: Record) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def make(total: int | None) -> Display:
    """The display for this stdout. `total`: trials to come, if known."""
    console = Console()
    return LiveTable(console, total) if console.is_terminal else Lines(total)


def score(record: Record) -> str:
    """`output_tokens_per_s_per_gpu 41.2 at D(64,16) x4`, or the failure's kind."""
    if record.objective is None:
        return f"{record.status}: {record.failure.kind if record.failure else 'no result'}"
    numbers = ", ".join(f"{name} {seen:.4g}" for name, seen in record.objective.items())
    told = f"{numbers} at {record.best_level}" if record.best_level else numbers
    return told if record.same_as is None else f"{told} (as trial {record.same_as})"


def brief(record: Record) -> str:
    """`41.2 at D(64,16) x4`, or the failure's kind."""
    if record.objective is None:
        return score(record)
    numbers = ", ".join(f"{seen:.4g}" for seen in record.objective.values())
    told = f"{numbers} at {record.best_level}" if record.best_level else numbers
    return told if record.same_as is None else f"{told} (as trial {record.same_as})"


def words(overrides: Sequence[str]) -> str:
    """The overrides, or `defaults`."""
    return " ".join(overrides) or "defaults"


class Lines:
    """One line per event, for logs; `is_beside` others, each line begins with the trial's number."""

    tells_failures = True

    def __init__(self, total: int | None, *, is_beside: bool = False) -> None:
        self.total = total
        self.is_beside = is_beside
        self.started = 0.0
        self.number = 0
        self.told: tuple[str, float] = ("", 0.0)  # what the last line was about, and when that was

    def beside(self) -> Progress:
        """Lines that tell whose they are."""
        return Lines(self.total, is_beside=True)

    def begin(self, number: int, overrides: Sequence[str]) -> None:
        """`trial 2/4: n_threads=2`."""
        self.started = time.monotonic()
        self.number = number
        count = f"{number + 1}/{self.total}" if self.total and number < self.total else str(number + 1)  # else: again
        self._say(f"trial {count}: {words(overrides)}")

    def step(self, name: str, detail: str = "") -> None:
        """Every level, and now and then how far a long step is; that a step begins is in the record alone."""
        now = time.monotonic()
        what = f"{name} {detail.partition(': ')[0]}" if name == "bench" else name
        if not detail:
            self.told = ("", 0.0)
        elif what != self.told[0] or now - self.told[1] >= AGAIN_S:
            self.told = (what, now)
            self._say(f"  {now - self.started:6.1f} s  {name} {detail}")

    def ended(self, record: Record) -> None:
        """The score, or why there is none."""
        self._say(f"  {time.monotonic() - self.started:6.1f} s  {score(record)}")
        if record.failure:
            self._say(f"  {record.failure.step}: {record.failure.message}\n  hint: {record.failure.hint}")

    def close(self) -> None:
        """Nothing to close."""

    def _say(self, text: str) -> None:
        mark = f"[{self.number}] " if self.is_beside else ""
        sys.stdout.write("".join(f"{mark}{line}\n" for line in visible(text).split("\n")))
        sys.stdout.flush()


class Row:
    """The row of a running trial in a LiveTable."""

    def __init__(self, table: "LiveTable") -> None:
        self.table = table
        self.number = 0
        self.what = ""
        self.at = ""
        self.started = 0.0

    def begin(self, number: int, overrides: Sequence[str]) -> None:
        """Show the row."""
        self.number, self.what, self.at, self.started = number, words(overrides), "", time.monotonic()
        self.table.show(self)

    def step(self, name: str, detail: str = "") -> None:
        """Change the row."""
        self.at = f"{name} {detail}".strip()

    def ended(self, record: Record) -> None:
        """Turn the row into a result."""
        self.table.settle(self, record)

    def close(self) -> None:
        """The table is closed as a whole."""

    def cells(self) -> tuple[str, str, str, str]:
        """As shown."""
        return str(self.number), self.what, self.at, f"{time.monotonic() - self.started:.0f}"


class Patient(Live):
    """Draws no picture while the terminal has not taken the one before."""

    def refresh(self) -> None:
        """As Live's own."""
        if not getattr(sys.stdout, "is_behind", False):
            super().refresh()


class LiveTable:
    """Ended trials, the running ones with step and time, best so far, a bar with the time left."""

    tells_failures = False  # their kind alone

    def __init__(self, console: Console, total: int | None) -> None:
        self.total = total
        self.done: list[tuple[Record, str]] = []  # with the overrides as they were announced
        self.begun = time.monotonic()
        self.running: list[Row] = []
        self.row = Row(self)
        self.console = console
        self.live = Patient(get_renderable=self._picture, console=console, refresh_per_second=4)
        self.is_open = False

    def beside(self) -> Progress:
        """One more row."""
        return Row(self)

    def show(self, row: Row) -> None:
        """Add a running row; the display opens with the first."""
        self.running = [*self.running, row]
        if not self.is_open:
            self.is_open = True
            self.live.start()

    def settle(self, row: Row, record: Record) -> None:
        """A row's trial has left its record."""
        self.running = [other for other in self.running if other is not row]
        self.done.append((record, row.what or words(record.overrides)))

    def begin(self, number: int, overrides: Sequence[str]) -> None:
        """Show the running row."""
        self.row.begin(number, overrides)

    def step(self, name: str, detail: str = "") -> None:
        """Change the running row."""
        self.row.step(name, detail)

    def ended(self, record: Record) -> None:
        """Turn the running row into a result."""
        self.row.ended(record)

    def close(self) -> None:
        """Leave the last picture on the screen."""
        if self.is_open:
            self.live.stop()
            self.is_open = False

    def _picture(self) -> Group:
        """One line for each trial."""
        is_narrow = self.console.width < NARROW
        table = _columns(self.console.width)
        for record, what in self.done[-SHOWN:]:
            style = "" if record.status == "ok" else "red"
            took = (record.ended_at - record.started_at).total_seconds()
            told = brief(record) if is_narrow else score(record)
            table.add_row(*map(_cell, (str(record.number), what, told, f"{took:.0f}")), style=style)
        for row in self.running:
            cells = [each.removeprefix("bench ") if is_narrow else each for each in row.cells()]
            table.add_row(*map(_cell, cells), style="bold")
        return Group(table, Text(self._summary()), *self._bar())

    def _count(self) -> str:
        """`3 of 5 trials`; what is measured again to confirm is counted beside them."""
        again = sum(record.phase != "search" for record, _ in self.done)
        first = len(self.done) - again
        of = f" of {self.total}" if self.total and first <= self.total else ""
        return f"{first}{of} trials{f' and {again} to confirm' if again else ''}"

    def _summary(self) -> str:
        parts = [self._count()]
        best = best_so_far([record for record, _ in self.done])
        if best:
            parts.append(f"best so far: trial {best.number} ({score(best)})")
        if self.total and 0 < len(self.done) < self.total:
            each = (time.monotonic() - self.begun) / (len(self.done) + 0.5 * len(self.running))
            parts.append(f"about {each * (self.total - len(self.done)):.0f} s to go")
        return "; ".join(parts)

    def _bar(self) -> list[ProgressBar]:
        done = min(len(self.done), self.total or 0)
        return [ProgressBar(total=self.total, completed=done, width=60)] if self.total else []


def _columns(width: int) -> Table:
    table = Table(box=None, pad_edge=False)
    room = width - len("trial  " + "  " + "  seconds")  # for the overrides, and the step or result
    most = max(room - WORTH, room // 4) if width < NARROW else None
    table.add_column("trial", no_wrap=True)
    table.add_column("overrides", max_width=most)
    table.add_column("step or result")
    table.add_column("seconds", no_wrap=True)
    return table


def _cell(text: str) -> Text:
    """On one line, cut where the terminal is too narrow for it."""
    return Text(visible(text).replace("\n", " "), no_wrap=True, overflow="ellipsis")


def best_so_far(records: Sequence[Record]) -> Record | None:
    """The record with the best first objective, of those whose answers let them win."""
    name = next((name for record in records for name in record.objective or {}), "")
    fair = [record for record in records if record.quality is None or record.quality.may_win]
    scored = [record for record in fair if record.objective and name in record.objective]
    pick = max if is_maximised(name) else min
    return pick(scored, key=lambda record: (record.objective or {})[name], default=None)
