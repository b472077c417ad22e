"""The command that runs a recorded trial again, as it can be pasted: with what it takes from outside its overrides."""

import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.core.origin import Origin
from pipeline.core.record import Record

FILE = "file://"


def line(record: Record) -> str:
    """The command on one line, from any folder. A secret is taken from the variable of the shell it is pasted into."""
    return pasted(record.origin, record.overrides)


def pasted(origin: Origin, overrides: Sequence[str]) -> str:
    """The same of what is known of a trial."""
    folder = [f"cd {shlex.quote(origin.folder)} &&"] if origin.folder else []
    return " ".join([*folder, *_settings(origin), *program(), shlex.join([*options(origin), *overrides])])


def options(origin: Origin) -> tuple[str, ...]:
    """The words that say where options lie."""
    return _own_folders(origin.searchpath)


def _own_folders(searchpath: Sequence[str]) -> tuple[str, ...]:
    if len(searchpath) == 1 and searchpath[0].startswith(FILE):
        return ("--config-dir", searchpath[0].removeprefix(FILE))
    return (override(searchpath),) if searchpath else ()


def override(searchpath: Sequence[str]) -> str:
    """The override that says the same."""
    quoted = (f"'{one}'" if "'" not in one else f'"{one}"' for one in searchpath)
    return f"hydra.searchpath=[{','.join(quoted)}]"


def _settings(origin: Origin) -> Iterator[str]:
    for name, text in origin.variables.items():
        yield f'{name}="${name}"' if text is None else f"{name}={shlex.quote(text)}"


def program() -> tuple[str, ...]:
    """This program, as a shell that has our PATH finds it: `servetune` where it was called so."""
    called = Path(sys.argv[0])
    if called.name == "servetune":
        return ("servetune",) if _is_found("servetune", called.parent) else (shlex.quote(str(called.absolute())),)
    own = Path(sys.executable)
    return ("python" if _is_found("python", own.parent) else shlex.quote(str(own)), "-m", "pipeline")


def _is_found(name: str, folder: Path) -> bool:
    found = shutil.which(name)
    try:
        return found is not None and Path(found).parent.samefile(folder)
    except OSError:
        return False
