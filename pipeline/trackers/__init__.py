"""Where records are published. A tracker is a class with one method; conf/tracker/<name>.yaml names it."""

import importlib
from typing import Protocol, cast

from pipeline import config
from pipeline.record import Record, RunDir


class Tracker(Protocol):
    """What every tracker does. Contract: tests/contract/test_trackers.py."""

    def publish(self, record: Record, config: config.Tracker, run_dir: RunDir) -> str | None:
        """Publish a record and its files; blocks until done and leaves no process behind.

        Returns:
            where it went, in words: a run's URL or folder; None if nothing was published.

        Raises:
            TrackerFailed: it was not, or not wholly, published.
        """


def load(target: str) -> Tracker:
    """The tracker class at `target`, e.g. `pipeline.trackers.wandb.WandB`, as an object.

    Raises:
        ImportError, AttributeError: there is no such class.
    """
    module, _, name = target.rpartition(".")
    return cast("Tracker", getattr(importlib.import_module(module), name)())
