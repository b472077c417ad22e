"""What people name on the command line, as landscapes."""

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pipeline.core.errors import ConfigError
from pipeline.core.files import SweepDir
from pipeline.core.values import value
from pipeline.replay import sweeps, synthetic, tables
from pipeline.replay.landscape import Landscape
from pipeline.replay.tables import SUFFIXES, Options

SYNTHETIC = "synthetic"


@value
class Source:
    """Where a landscape comes from: a name of ours, a file, a folder."""

    kind: Literal["synthetic", "table", "sweep"]
    where: str


def found(words: Sequence[str]) -> list[Source]:
    """The landscapes that the words mean; without any word, all of ours.

    Raises:
        ConfigError: a word that means none.
    """
    sources = [one for word in words or [SYNTHETIC] for one in _found(word)]
    twice = [where for where, count in Counter(Path(one.where).stem for one in sources).items() if count > 1]
    if twice:
        raise ConfigError(f"Two landscapes are called {twice[0]}: rename one of the files.")
    return sources


def _found(word: str) -> Iterator[Source]:
    if word == SYNTHETIC or word.startswith(f"{SYNTHETIC}:"):
        yield from _synthetic(word.partition(":")[2])
        return
    path = Path(word)
    if path.is_file() and path.suffix in SUFFIXES:
        yield Source(kind="table", where=str(path))
    elif path.is_file():
        raise ConfigError(f"{word}: expected a file ending in {', '.join(SUFFIXES)}, or a folder.")
    elif path.is_dir():
        yield from _inside(path)
    else:
        raise ConfigError(
            f"{word}: no such file or folder. Expected a table ({', '.join(SUFFIXES)}), a folder of tables, the folder "
            f"of a sweep, or {SYNTHETIC}."
        )


def _synthetic(name: str) -> Iterator[Source]:
    known = synthetic.names()
    if name and name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(f"{SYNTHETIC}:{name}: there is no such landscape.{meant} Expected one of {', '.join(known)}.")
    yield from (Source(kind="synthetic", where=one) for one in ([name] if name else known))


def _inside(folder: Path) -> Iterator[Source]:
    if SweepDir(folder).records:
        yield Source(kind="sweep", where=str(folder))
        return
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if not files:
        raise ConfigError(f"{folder} holds neither trials (*/record.json) nor tables ({', '.join(SUFFIXES)}).")
    yield from (Source(kind="table", where=str(path)) for path in files)


def name_of(source: Source) -> str:
    """The name of its landscape."""
    return Path(source.where).resolve().name if source.kind == "sweep" else Path(source.where).stem


def opened(source: Source, options: Options) -> Landscape:
    """The landscape.

    Raises:
        ConfigError: it cannot be read, or holds nothing to search.
    """
    if source.kind == "synthetic":
        return synthetic.made(source.where, options)
    read = tables.read if source.kind == "table" else sweeps.read
    return read(Path(source.where), options)
