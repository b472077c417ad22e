"""What ails the place where a study is kept, in words."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.exceptions import StorageInternalError
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from pipeline.core import disk, readable
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.files import SweepDir
from pipeline.core.record import Record

# SQLite's words (sqlite3.c, sqlite3ErrStr) for SQLITE_CORRUPT, SQLITE_NOTADB; and of tables that are not Optuna's
DAMAGED = ("malformed", "not a database", "no such table", "no such column")
FULL, UNSURE = "disk is full", "disk I/O error"
UNWRITABLE = ("readonly database", "unable to open database file")


@contextmanager
def worded(sweep: SweepDir, url: str | None) -> Iterator[None]:
    """What the storage cannot do is told by the name of its file. `url`: None for the study in the sweep's own folder.

    Raises:
        ConfigError: it is damaged.
        DiskFull: it cannot grow.
        PipelineError: it cannot be written.
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, PipelineError) as error:
        told = "" if isinstance(error, PipelineError) and error.__cause__ is None else _chain(error)
        if (found := _explained(told, sweep, "hydra.sweeper.storage" if url else str(sweep.study))) is None:
            raise
        raise found from error


def _chain(error: BaseException | None) -> str:
    words = []
    while error is not None:
        words.append(str(error))
        error = error.__cause__ or error.__context__
    return " ".join(words)


def _explained(text: str, sweep: SweepDir, where: str) -> PipelineError | None:
    if FULL in text or (UNSURE in text and disk.is_full(sweep.path)):
        return disk.full(sweep.path)
    if any(words in text for words in DAMAGED):
        return ConfigError(f"{where} is damaged: it is no database of a search that can be read. {remedy(sweep.path)}")
    if any(words in text for words in UNWRITABLE):
        return PipelineError(
            f"{where} cannot be written.", hint="Make the file and its folder writable, or set another hydra.sweep.dir."
        )
    return None


def insist_readable(sweep: SweepDir) -> None:
    """Check that no record of the sweep is lost: the search would go on, and name the best of the others.

    Raises:
        ConfigError: with the file, and how its trial is measured again.
    """
    for path in sweep.records:
        try:
            readable.read(Record, path)
        except (OSError, ValidationError) as error:
            raise ConfigError(
                f"{path} cannot be read: {readable.why(path, error)}. To go on, put a copy of it in its place; or set "
                f"another hydra.sweep.dir beside this folder, with cache=read: it takes over what can be read, "
                f"and measures this one again."
            ) from error


def remedy(folder: Path) -> str:
    """What to do where there are records, and no study that knows them."""
    return (
        f"The records beside it are whole: servetune report {folder} ranks them. To go on, put a copy of the file in "
        f"its place; or set another hydra.sweep.dir beside this folder, with cache=read, which takes over what is "
        f"measured here."
    )
