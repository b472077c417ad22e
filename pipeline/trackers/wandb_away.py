"""Whether W&B is away for a sweep: known to all processes of one command, so that each does not wait for it anew.

And which runs began online and have not ended: their files lie in folders like those of the runs that are there.
"""

from contextlib import suppress

from pipeline.core.files import SweepDir
from pipeline.trackers import away


def is_marked(sweep: SweepDir) -> bool:
    """Whether W&B has not answered this command."""
    return away.is_marked(sweep.tracker_away)


def mark(sweep: SweepDir) -> bool:
    """W&B has not answered: write offline from now on. Whether we are the first one of the command to find that."""
    return away.mark(sweep.tracker_away)


def begin(sweep: SweepDir, run_id: str) -> None:
    """A run goes online."""
    sweep.tracker_unfinished.mkdir(parents=True, exist_ok=True)
    (sweep.tracker_unfinished / run_id).touch()


def end(sweep: SweepDir, run_id: str) -> None:
    """Everything of the run is in W&B, or in an offline run."""
    with suppress(OSError):
        (sweep.tracker_unfinished / run_id).unlink(missing_ok=True)
