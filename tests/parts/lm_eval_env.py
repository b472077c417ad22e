"""A real lm-eval in an environment of its own: made once, kept outside the tree, and found again by its version.

SERVETUNE_TEST_LM_EVAL names the interpreter of a ready one; else CI makes one with uv below XDG_CACHE_HOME or ~/.cache
(600 MB, half a minute). Other runs of the tests do without.
"""

import fcntl
import sys
from pathlib import Path

from parts import lacking
from parts.engine_env import SURROUNDINGS, Unmade, _run, _uv
from pipeline.engines import lm_eval

GIVEN = "SERVETUNE_TEST_LM_EVAL"


def python() -> Path:
    """Its interpreter; skips, or fails in CI, where there is none."""
    if given := SURROUNDINGS.get(GIVEN):
        return Path(given)
    if "CI" not in SURROUNDINGS:
        lacking(f"no real lm-eval: {GIVEN} names no interpreter, and only CI makes an environment")
    home = SURROUNDINGS.get("XDG_CACHE_HOME") or str(Path(SURROUNDINGS.get("HOME", "/tmp"), ".cache"))  # noqa: S108
    folder = Path(home, "servetune-tests", f"lm-eval-{lm_eval.VERSION}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _made(folder)
    except Unmade as error:
        lacking(f"no real lm-eval: {error} (or set {GIVEN} to the interpreter of an environment that has one)")


def _made(folder: Path) -> Path:
    program, ready = folder / "env" / "bin" / "python", folder / "ready"
    if not ready.exists():
        _run([_uv(), "venv", "--quiet", "--clear", "--python", sys.executable, str(folder / "env")])
        _run([_uv(), "pip", "install", "--quiet", "--python", str(program), f"lm_eval[api]=={lm_eval.VERSION}"])
        ready.touch()
    return program
