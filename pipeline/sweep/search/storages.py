"""Where a study is kept, and how processes take turns at it: by a lock file, or on several hosts by the database."""

import base64
import hashlib
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url

from pipeline.core.errors import ConfigError
from pipeline.machine import locks

BUSY_S = 60.0  # to wait for the database while others write
AGAIN_S = 0.05  # between two looks at a lock that another process has
# Locks of a session: they end with its connection, and so with a process or a host that dies. (take, give back)
ADVISORY: Mapping[str, tuple[str, str]] = {
    "postgresql": ("SELECT pg_try_advisory_lock(:key)", "SELECT pg_advisory_unlock(:key)"),
    "mysql": ("SELECT GET_LOCK(CAST(:key AS CHAR), 0)", "SELECT RELEASE_LOCK(CAST(:key AS CHAR))"),
    "mariadb": ("SELECT GET_LOCK(CAST(:key AS CHAR), 0)", "SELECT RELEASE_LOCK(CAST(:key AS CHAR))"),
}

Turn = Callable[[], AbstractContextManager[None]]  # within it, no other process asks or tells


@dataclass(frozen=True, slots=True)
class Store:
    """Optuna's storage, and the turns of the processes that share it."""

    storage: BaseStorage
    turn: Turn


def in_memory() -> Store:
    """Of this process alone."""
    return Store(InMemoryStorage(), nullcontext)


def is_remote(url: str) -> bool:
    """Whether several hosts may share it without sharing a folder."""
    return _kind(url) in ADVISORY


def only(store: Store) -> str | None:
    """The name of the study in there, if it is one: a folder that was renamed has the name of its first place in it."""
    studies = store.storage.get_all_studies()
    return studies[0].study_name if len(studies) == 1 else None


def packed(text: str) -> str:
    """A long text for an attribute of a trial: MySQL takes 64 KiB."""
    return base64.b64encode(zlib.compress(text.encode())).decode("ascii")


def unpacked(text: str) -> str:
    """What was packed."""
    return zlib.decompress(base64.b64decode(text)).decode()


def check(url: str) -> None:
    """Check what can be said of a storage without opening it.

    Raises:
        ConfigError: there is no such kind of database, no driver for it, or no folder for its file.
    """
    is_journal = url.endswith(".log") and "://" not in url
    with _worded():
        where = url if is_journal else create_engine(_driven(url)).url.database
    if not (is_journal or _kind(url) == "sqlite") or not where or where == ":memory:":
        return
    file = Path(where).absolute()
    if not file.parent.is_dir() or file.is_dir():
        wrong = f"{file.parent} is no folder" if not file.parent.is_dir() else f"{file} is a folder"
        raise ConfigError(f"hydra.sweeper.storage={url}: {wrong}. Expected a file in a folder that is there.")


@contextmanager
def opened(url: str, name: str) -> Iterator[Store]:
    """A database by its SQLAlchemy URL, or a journal file by its path, ending in `.log`; in a turn of our own.

    `name`: of the turns.

    Raises:
        ConfigError: it cannot be opened.
    """
    with _worded():
        turn = _turn(url, name)
        with turn():  # the first process makes the tables
            yield Store(_storage(url), turn)


def _turn(url: str, name: str) -> Turn:
    if not is_remote(url):
        return partial(_on_this_machine, name)
    engine = create_engine(_driven(url), isolation_level="AUTOCOMMIT", pool_pre_ping=True)
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    return partial(_in_database, engine, key)


def _storage(url: str) -> BaseStorage:
    if url.endswith(".log") and "://" not in url:
        return JournalStorage(JournalFileBackend(url))
    wait = {"connect_args": {"timeout": BUSY_S}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    return RDBStorage(_driven(url), engine_kwargs=wait)


@contextmanager
def _worded() -> Iterator[None]:
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"hydra.sweeper.storage cannot be opened: {type(error).__name__}. Expected a URL of a database, e.g. "
            f"postgresql://host/name, with its driver installed, or the path of a journal ending in .log."
        ) from error


@contextmanager
def _on_this_machine(name: str) -> Iterator[None]:
    while (file := locks.take(name)) is None:
        time.sleep(AGAIN_S)
    try:
        yield
    finally:
        locks.give_back([file])


@contextmanager
def _in_database(engine: Engine, key: int) -> Iterator[None]:
    take, give_back = map(text, ADVISORY[engine.dialect.name])
    with engine.connect() as session:
        while not session.execute(take, {"key": key}).scalar():
            time.sleep(AGAIN_S)
        try:
            yield
        finally:
            session.execute(give_back, {"key": key})


def _kind(url: str) -> str:
    return url.partition("://")[0].partition("+")[0] if "://" in url else ""


def _driven(url: str) -> str:
    """With the driver that is our extra, where SQLAlchemy's usual one is not installed."""
    if url.startswith("postgresql://") and find_spec("psycopg") and not find_spec("psycopg2"):
        return make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    return url
