"""The tests give the same result whoever starts them: a background job, `nohup`, another user, another locale."""

import locale
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from support.places import ROOT

HOSTILE = {
    "COLUMNS": "20",
    "FORCE_COLOR": "1",
    "HOME": "/nonexistent",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "LC_ALL": "C",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONUTF8": "0",
    "TERM": "dumb",
    "TZ": "Pacific/Chatham",
    "XDG_STATE_HOME": "/nonexistent",
}
IGNORING = ("sh", "-c", "trap '' INT HUP TERM USR2 CHLD; umask 077; exec \"$@\"", "sh")


@pytest.mark.parametrize("name", ["INT", "HUP", "TERM", "USR2"])
def test_what_a_test_starts_hears_every_signal(name: str) -> None:
    assert subprocess.run(["sh", "-c", f"kill -{name} $$; sleep 1"], check=False).returncode < 0


def test_what_a_test_writes_can_be_read_by_others(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_every_test_has_the_same_environment() -> None:
    assert not {*HOSTILE} - {"HOME", "TERM", "TZ"} & {*os.environ}
    assert Path.home().is_dir()
    assert time.timezone == 0
    assert locale.getencoding() == "UTF-8"
    assert Console().size.width == 80


@pytest.mark.parametrize("workers", [0, 1], ids=["alone", "in-a-worker"])
def test_it_does_not_matter_who_starts_the_tests(workers: int, tmp_path: Path) -> None:
    inner = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "every or others", __file__]
    argv = [*IGNORING, *inner, f"--numprocesses={workers}", f"--basetemp={tmp_path}/inner"]
    done = subprocess.run(argv, cwd=ROOT, env={**os.environ, **HOSTILE}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout
