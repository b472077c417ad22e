"""What a trial of a search that races is held against: a file in the sweep's folder, which all its trials can read."""

from collections.abc import Collection, Sequence
from pathlib import Path

from pydantic import ValidationError

from pipeline.core import files, racing, sides
from pipeline.core.files import SweepDir
from pipeline.core.racing import Incumbent
from pipeline.core.record import Record
from pipeline.core.values import load
from pipeline.trial.story import Place


def update(sweep: SweepDir, record: Record, barred: Collection[int] = ()) -> None:
    """Note the trial if it is the best one so far. Raises OSError.

    `barred`: numbers of those that cannot win, for what they answer. One may be noted: it ended before the baseline.
    """
    mine = _path(sweep, record.overrides)
    best = _read(mine)
    if best is not None and best.number in barred:
        mine.unlink(missing_ok=True)
        best = None
    if record.number not in barred and (new := racing.better(best, record)) is not None:
        files.save(mine, new)


def of(place: Place) -> Incumbent | None:
    """The best trial of the search so far, written by its sweeper; None where nothing races, as in a confirmation.

    Read when the levels begin: while the engine was loading, another trial may have become the best one.
    """
    if place.phase != "search" or place.repeat_of is not None:
        return None
    return _read(_path(SweepDir(place.run_dir.path.parent), place.overrides))


def forget(sweep: SweepDir) -> None:
    """Nothing races any more, as it may have in an earlier command."""
    for path in sweep.incumbents:
        path.unlink(missing_ok=True)


def _path(sweep: SweepDir, overrides: Sequence[str]) -> Path:
    """Each engine has a best one of its own: the verdict is on all of them."""
    return sweep.incumbent(sides.of_words(overrides))


def _read(path: Path) -> Incumbent | None:
    try:
        return load(Incumbent, path)
    except (OSError, ValidationError):
        return None
