"""The configurations of a sweep that cannot win, for what they answer: by its records, of all processes."""

from collections.abc import Collection
from pathlib import Path

from pydantic import ValidationError

from pipeline.core import readable
from pipeline.core.files import SweepDir
from pipeline.core.record import Record
from pipeline.report import answered
from pipeline.sweep.search import outcome
from pipeline.sweep.search.outcome import Outcome
from pipeline.trial import incumbent

Written = tuple[int, int]  # when a file was written (ns), and its inode: a new one each time


class Barred:
    """Reads each record once after it was written, and keeps those of trials that the quality guard has asked."""

    def __init__(self) -> None:
        self.read: dict[Path, tuple[Written, Record | None]] = {}

    def of(self, sweep: SweepDir) -> Collection[int]:
        """Their numbers, as far as their trials have ended."""
        found = [self._record(path) for path in sweep.records]
        return answered.barred([one for one in found if one is not None]).keys()

    def _record(self, path: Path) -> Record | None:
        """As it is now: a trial that was broken off runs again in the same folder, perhaps in another process."""
        try:
            there = path.stat()
        except OSError:  # moved aside meanwhile
            return None
        written = (there.st_mtime_ns, there.st_ino)
        if path not in self.read or self.read[path][0] != written:
            self.read[path] = (written, _asked(path))
        return self.read[path][1]

    def told(self, sweep: SweepDir, record: Record) -> Outcome:
        """The outcome of a trial; of such a configuration, it is outside of a limit as far as can be."""
        found = outcome.of(record)
        return outcome.barred(found) if record.asked is not None and record.number in self.of(sweep) else found

    def race(self, sweep: SweepDir, record: Record) -> None:
        """Note the trial if it is the best one so far of those that may win. Raises OSError."""
        incumbent.update(sweep, record, self.of(sweep) if record.asked is not None else ())


def _asked(path: Path) -> Record | None:
    try:
        record = readable.read(Record, path)
    except (OSError, ValidationError):  # of another version, or damaged: the verdict will not count it either
        return None
    return record if record.asked is not None else None
