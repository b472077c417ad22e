"""A home folder for users without one: containers run as a number that has neither a name nor a folder.

Engines and libraries need one as much as we do: PyTorch's compiler, for one, asks for the user's name (getpass), and
Triton keeps its kernels in the home folder.
"""

import os
import pwd
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from pipeline.core.errors import ConfigError

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")  # where getpass.getuser looks: Python's library reference, getpass
OWN = {"SERVETUNE_STATE_DIR": (".local/state", "XDG_STATE_HOME"), "SERVETUNE_CACHE_DIR": (".cache", "XDG_CACHE_HOME")}


def settle() -> None:
    """Let this process and what it starts have a home, a user's name, and folders for state and cache; told once.

    Raises:
        ConfigError: there is none, and no temporary folder to take instead.
    """
    uid = os.getuid()
    if not _is_named(uid) and not any(os.environ.get(name) for name in NAMES):
        os.environ["USER"] = f"uid{uid}"
    home, given = _home(), os.environ.get("HOME", "")
    if home is None:
        os.environ["HOME"] = str(_fallback(uid))
        _tell(f"User {uid} has no home folder{_named(given)}: {os.environ['HOME']} is taken for HOME")
        home = _home() or Path("/")
    missing = [name for name, (below, base) in OWN.items() if not _is_given(name, base) and not _can_make(home / below)]
    if missing:
        place = _fallback(uid)
        for name in missing:
            os.environ[name] = str(place / name.split("_")[1].lower())
        _tell(f"The home folder {home} cannot be written: {place} is taken for {' and '.join(missing)}")


def _named(given: str) -> str:
    return f" (HOME={given} is not there)" if given and not Path(given).is_dir() else ""


def _tell(what: str) -> None:
    sys.stderr.write(f"{what}. It may not outlive this machine's next start: set another one, which does.\n")


def _is_named(uid: int) -> bool:
    with suppress(KeyError):
        return bool(pwd.getpwuid(uid))
    return False


def _home() -> Path | None:
    """The home folder; None where there is none: / is one for root only, others have it for want of any."""
    try:
        found = Path.home()
    except RuntimeError:
        return None
    is_one = found.is_absolute() and found.is_dir()  # none is made: a HOME that is not there is a mistake, or nobody's
    return None if not is_one or (found == Path("/") and not os.access(found, os.W_OK)) else found


def _is_given(name: str, base: str) -> bool:
    return bool(os.environ.get(name) or os.environ.get(base))


def _can_make(path: Path) -> bool:
    """Whether a folder is there, or can be made, and be written to."""
    there = next(one for one in (path, *path.parents) if one.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _fallback(uid: int) -> Path:
    try:
        path = Path(tempfile.gettempdir()) / f"servetune-{uid}"
        path.mkdir(mode=0o700, exist_ok=True)
        seen = path.lstat()
    except OSError as error:
        raise ConfigError(f"User {uid} has no home folder, and none can be made ({error}): set HOME.") from error
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != uid:
        raise ConfigError(f"User {uid} has no home folder, and {path} is another user's: set HOME.")
    return path
