"""What a trial of a search that races is held against: a file in the sweep's folder, which all its trials can read."""

from pydantic import ValidationError

from pipeline.core import files, racing
from pipeline.core.files import SweepDir
from pipeline.core.racing import Incumbent
from pipeline.core.record import Record
from pipeline.core.values import load
from pipeline.trial.story import Place


def update(sweep: SweepDir, record: Record) -> None:
    """Note the trial if it is the best one so far. Raises OSError."""
    if (new := racing.better(_read(sweep), record)) is not None:
        files.save(sweep.incumbent, new)


def of(place: Place) -> Incumbent | None:
    """The best trial of the search so far, written by its sweeper; None where nothing races, as in a confirmation.

    Read when the levels begin: while the engine was loading, another trial may have become the best one.
    """
    if place.phase != "search" or place.repeat_of is not None:
        return None
    return _read(SweepDir(place.run_dir.path.parent))


def _read(sweep: SweepDir) -> Incumbent | None:
    try:
        return load(Incumbent, sweep.incumbent)
    except (OSError, ValidationError):
        return None
