"""aiperf, in an environment of its own: 840 MB, in less than a minute. Found, or made where that is asked for.

SERVETUNE_TEST_AIPERF names its command; else it is looked for on PATH. `make generators` makes it below XDG_CACHE_HOME
or ~/.cache. CI does without: its tests skip there, too.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":  # make generators asks where it is
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipeline.bench.aiperf_command import PROGRAM, VERSION

GIVEN = "SERVETUNE_TEST_AIPERF"
STEP_S = 600
FOUND = os.environ.get(GIVEN) or shutil.which(PROGRAM)  # before tests get an environment of their own


def made(uv: str) -> Path:
    """The command of an environment that is made if there is none.

    Raises:
        subprocess.CalledProcessError: it cannot be made; uv has said why.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home, "servetune-tests", f"aiperf-{VERSION}")
    program = folder / "bin" / PROGRAM
    if not program.exists():
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        wanted = ["--python", str(folder), f"{PROGRAM}=={VERSION}"]
        subprocess.run([uv, "pip", "install", "--quiet", *wanted], check=True, timeout=STEP_S)
    return program


def uv() -> str:
    """The uv of `make setup`, or the one on PATH."""
    own = Path(__file__).resolve().parents[2] / ".uv" / "bin" / "uv"
    return str(own) if own.exists() else shutil.which("uv") or "uv"


if __name__ == "__main__":
    print(FOUND or made(uv()))
