"""Publishes records. A tracker is a class with a few methods; conf/tracker/<name>.yaml names it."""

import importlib
from typing import Protocol, cast

from pipeline.core import schema
from pipeline.core.files import RunDir, SweepDir
from pipeline.core.record import Record
from pipeline.trackers.result import SweepResult


class Tracker(Protocol):
    """What every tracker does. Contract: tests/contract/test_trackers.py."""

    def outlook(self, config: schema.Tracker) -> str:
        """Where records will go, in words, by what is set here. Asks no server, starts nothing.

        Raises:
            TrackerFailed: they are to go somewhere, and it is not set where.
        """

    def start(self, config: schema.Tracker, run_dir: RunDir) -> None:
        """Begin what can be done before there is a record, and return at once. May be called again."""

    def wait_ready(self, *, timeout_s: float) -> None:
        """Wait until what `start` began no longer uses CPU time that a measurement needs. Never fails."""

    def publish(self, record: Record, config: schema.Tracker, run_dir: RunDir) -> str | None:
        """Publish a record and its files; blocks until done.

        Returns:
            where it was published: a run's URL or folder; None if nothing was published.

        Raises:
            TrackerFailed: it was not published, or only in part.
        """

    def publish_sweep(self, result: SweepResult, config: schema.Tracker, sweep: SweepDir) -> tuple[str, ...]:
        """Publish the end of a sweep whose trials are already published; blocks until done. May be called again.

        Returns:
            lines for the user that say where it was published.

        Raises:
            TrackerFailed: it was not published, or only in part.
        """

    def close(self) -> None:
        """End every process of the tracker. May be called again, and before anything was published."""


_loaded: dict[str, Tracker] = {}


def load(target: str) -> Tracker:
    """The tracker class at `target`, e.g. `pipeline.trackers.wandb.WandB`, as this process's one object of it.

    Raises:
        ImportError, AttributeError: there is no such class.
    """
    if target not in _loaded:
        module, _, name = target.rpartition(".")
        _loaded[target] = cast("Tracker", getattr(importlib.import_module(module), name)())
    return _loaded[target]


def close() -> None:
    """End the trackers of this process."""
    while _loaded:
        _loaded.popitem()[1].close()
