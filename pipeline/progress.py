"""What a person sees while trials run: a live table on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.metrics import is_maximised
from pipeline.record import Record

SHOWN = 12  # rows of ended trials that stay in sight


class Progress(Protocol):
    """Told what happens; never decides anything."""

    def begin(self, number: int, overrides: Sequence[str]) -> None:
        """A trial starts."""

    def step(self, name: str, detail: str = "") -> None:
        """The running trial has reached a step."""

    def ended(self, record: Record) -> None:
        """The trial has left its record."""

    def close(self) -> None:
        """Nothing more will come."""


def make(total: int | None) -> Progress:
    """The progress for this stdout. `total`: trials to come, if known."""
    console = Console()
    return LiveTable(console, total) if console.is_terminal else Lines(total)


def score(record: Record) -> str:
    """`output_tokens_per_s_per_gpu 41.2 at D(64,16) x4`, or the failure's kind."""
    if record.objective is None:
        return f"{record.status}: {record.failure.kind if record.failure else 'no result'}"
    numbers = ", ".join(f"{name} {seen:.4g}" for name, seen in record.objective.items())
    told = f"{numbers} at {record.best_level}" if record.best_level else numbers
    return told if record.same_as is None else f"{told} (as trial {record.same_as})"


def words(overrides: Sequence[str]) -> str:
    """The overrides, or `defaults`."""
    return " ".join(overrides) or "defaults"


class Lines:
    """One line per event, for logs."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.started = 0.0
        self.number = 0

    def begin(self, number: int, overrides: Sequence[str]) -> None:
        """`trial 2/4: n_threads=2`."""
        self.started = time.monotonic()
        self.number = number
        count = f"{number + 1}/{self.total}" if self.total else str(number + 1)
        self._say(f"trial {count}: {words(overrides)}")

    def step(self, name: str, detail: str = "") -> None:
        """Only levels: the other steps are in the record."""
        if detail:
            self._say(f"  {time.monotonic() - self.started:6.1f} s  {name} {detail}")

    def ended(self, record: Record) -> None:
        """The score, or why there is none."""
        self._say(f"  {time.monotonic() - self.started:6.1f} s  {score(record)}")
        if record.failure:
            self._say(f"  {record.failure.step}: {record.failure.message}\n  hint: {record.failure.hint}")

    def close(self) -> None:
        """Nothing to close."""

    def _say(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


class LiveTable:
    """Ended trials, the running one with its step and time, best so far, a bar with the time left."""

    def __init__(self, console: Console, total: int | None) -> None:
        self.total = total
        self.records: list[Record] = []
        self.shown: list[str] = []  # the overrides of each record, as they were announced
        self.begun = self.started = time.monotonic()
        self.running: tuple[int, str] | None = None
        self.at = ""
        self.live = Live(get_renderable=self._picture, console=console, refresh_per_second=4)
        self.is_open = False

    def begin(self, number: int, overrides: Sequence[str]) -> None:
        """Show the running row; the display opens with the first trial."""
        self.started = time.monotonic()
        self.running = (number, words(overrides))
        if not self.is_open:
            self.is_open = True
            self.live.start()

    def step(self, name: str, detail: str = "") -> None:
        """Change the running row."""
        self.at = f"{name} {detail}".strip()

    def ended(self, record: Record) -> None:
        """Turn the running row into a result."""
        self.records.append(record)
        self.shown.append(self.running[1] if self.running else words(record.overrides))
        self.running = None

    def close(self) -> None:
        """Leave the last picture on the screen."""
        if self.is_open:
            self.live.stop()
            self.is_open = False

    def _picture(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for title in ("trial", "overrides", "step or result", "seconds"):
            table.add_column(title, overflow="fold")
        for record, what in zip(self.records[-SHOWN:], self.shown[-SHOWN:], strict=True):
            style = "" if record.status == "ok" else "red"
            took = (record.ended_at - record.started_at).total_seconds()
            table.add_row(*map(Text, (str(record.number), what, score(record), f"{took:.0f}")), style=style)
        if self.running:
            number, what = self.running
            took = time.monotonic() - self.started
            table.add_row(*map(Text, (str(number), what, self.at, f"{took:.0f}")), style="bold")
        return Group(table, Text(self._summary()), *self._bar())

    def _summary(self) -> str:
        parts = [f"{len(self.records)}{f' of {self.total}' if self.total else ''} trials"]
        best = best_so_far(self.records)
        if best:
            parts.append(f"best so far: trial {best.number} ({score(best)})")
        if self.total and 0 < len(self.records) < self.total:
            each = (time.monotonic() - self.begun) / (len(self.records) + (0.5 if self.running else 0))
            parts.append(f"about {each * (self.total - len(self.records)):.0f} s to go")
        return "; ".join(parts)

    def _bar(self) -> list[ProgressBar]:
        return [ProgressBar(total=self.total, completed=len(self.records), width=60)] if self.total else []


def best_so_far(records: Sequence[Record]) -> Record | None:
    """The record with the best first objective."""
    name = next((name for record in records for name in record.objective or {}), "")
    scored = [record for record in records if record.objective and name in record.objective]
    pick = max if is_maximised(name) else min
    return pick(scored, key=lambda record: (record.objective or {})[name], default=None)
