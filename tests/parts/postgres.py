"""A PostgreSQL of the tests' own: one folder, one port of this machine, gone with all its traces.

Run as a program it is the guard: it waits until the tests that started it are gone, however they ended, and removes it.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from parts import lacking
from parts.guard import guarded, until_the_end
from parts.llama import lasting_ports
from pipeline.machine import process

PLACES = Path("/usr/lib/postgresql")  # Debian's: a folder for each version
USER = "postgres"  # the server refuses to run as root
START_S, STOP_S = 60.0, 20.0
SETTINGS = ("fsync=off", "dynamic_shared_memory_type=mmap", "listen_addresses=127.0.0.1")


@contextmanager
def running() -> Iterator[str]:
    """The URL of an empty database, until the end of the scope or of this process."""
    programs = _programs()
    root = Path(tempfile.mkdtemp(prefix="stpg", dir="/tmp"))
    (port,) = lasting_ports(1)
    with guarded(__file__, root):
        if os.geteuid() == 0:
            shutil.chown(root, USER)
        _run(programs / "initdb", "--auth=trust", f"--username={USER}", "--no-sync", str(root / "data"))
        settings = " ".join(f"-c {each}" for each in (*SETTINGS, f"port={port}", f"unix_socket_directories={root}"))
        start = ("--wait", f"--timeout={START_S:.0f}", f"--options={settings}", f"--log={root / 'log'}", "start")
        _run(programs / "pg_ctl", f"--pgdata={root / 'data'}", *start)
        yield f"postgresql://{USER}@127.0.0.1:{port}/{USER}"
    assert not root.exists()


def _programs() -> Path:
    found = sorted(PLACES.glob("*/bin/postgres"), key=lambda path: float(path.parent.parent.name))
    if not found:
        lacking(f"no PostgreSQL below {PLACES} (Debian: apt install postgresql)")
    return found[-1].parent


def _run(*words: str | Path) -> None:
    own = {"user": USER, "extra_groups": ()} if os.geteuid() == 0 else {}
    done = subprocess.run(words, cwd="/", capture_output=True, text=True, timeout=2 * START_S, check=False, **own)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr


def _remove(root: Path) -> None:
    with suppress(OSError, ValueError):
        pid = int((root / "data" / "postmaster.pid").read_text().split()[0])
        for number in (signal.SIGINT, signal.SIGQUIT):  # fast, then immediate
            os.kill(pid, number)
            if process.wait_until(lambda: not Path(f"/proc/{pid}").exists(), timeout_s=STOP_S):
                break
    shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    until_the_end()
    _remove(Path(sys.argv[1]))
