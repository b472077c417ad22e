"""No tracker: records stay on disk only."""

from pipeline.core import schema
from pipeline.core.files import RunDir, SweepDir
from pipeline.core.record import Record
from pipeline.trackers.result import SweepResult


class Off:
    """Publishes nothing."""

    def outlook(self, config: schema.Tracker) -> str:
        """Nowhere."""
        return "records stay on this disk"

    def start(self, config: schema.Tracker, run_dir: RunDir) -> None:
        """Nothing to begin."""

    def wait_ready(self, *, timeout_s: float) -> None:
        """Always ready."""

    def publish(self, record: Record, config: schema.Tracker, run_dir: RunDir) -> None:
        """Do nothing."""

    def publish_sweep(self, result: SweepResult, config: schema.Tracker, sweep: SweepDir) -> tuple[str, ...]:
        """Do nothing; there is nothing to tell."""
        return ()

    def close(self) -> None:
        """Nothing to end."""
