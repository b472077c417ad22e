"""No tracker: the record on disk is all."""

from pipeline import schema
from pipeline.files import RunDir
from pipeline.record import Record


class Off:
    """Publishes nothing."""

    def start(self, config: schema.Tracker, run_dir: RunDir) -> None:
        """Nothing to begin."""

    def wait_ready(self, *, timeout_s: float) -> None:
        """Always ready."""

    def publish(self, record: Record, config: schema.Tracker, run_dir: RunDir) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Nothing to end."""
