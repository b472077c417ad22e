"""No tracker: the record on disk is all."""

from pipeline import config
from pipeline.record import Record, RunDir


class Off:
    """Publishes nothing."""

    def publish(self, record: Record, config: config.Tracker, run_dir: RunDir) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Nothing to end."""
