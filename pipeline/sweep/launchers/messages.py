"""The messages of a worker to the sweep, besides a trial's result: what the sweep displays."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from pipeline.core.record import Record
from pipeline.machine import signals


@dataclass(frozen=True)
class Ready:
    """The worker can be given trials."""


@dataclass(frozen=True)
class Step:
    """The trial has reached a step."""

    name: str
    detail: str


@dataclass(frozen=True)
class Ended:
    """The trial has left its record."""

    record: Record


@dataclass(frozen=True)
class Done:
    """The worker is free again."""

    result: Any


class Reporter:
    """The Progress of a trial in a worker: sends everything to the sweep, which shows it."""

    def __init__(self, answers: "Connection[Any, Any]") -> None:
        self.answers = answers

    def send(self, message: object) -> None:
        """Send a whole message, whatever signals come; without a sweep to hear it, nothing happens."""
        with signals.held(), suppress(OSError):
            self.answers.send(message)

    def begin(self, number: int, overrides: Sequence[str]) -> None:
        """The sweep has given us the trial: it knows."""

    def step(self, name: str, detail: str = "") -> None:
        """The running trial has reached a step."""
        self.send(Step(name, detail))

    def ended(self, record: Record) -> None:
        """The trial has left its record."""
        self.send(Ended(record))

    def close(self) -> None:
        """The end of the process closes the pipe."""
