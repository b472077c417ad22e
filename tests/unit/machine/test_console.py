"""stdout and stderr that cannot be written, with real descriptors: every command goes on to its end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.cli import pipeline
from support.places import ROOT

TALKS = """
import sys
from pipeline.machine import console
console.endure()
for stream in (sys.stdout, sys.stderr):
    print("3 \\u2192 4", file=stream, flush=True)
open(sys.argv[1], "w", encoding="utf-8").write("at the end")
"""
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def talk(mark: Path, redirected: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    argv = ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-c", TALKS, str(mark)]
    return subprocess.run(argv, cwd=ROOT, env={**os.environ, **env}, capture_output=True, check=False)


@pytest.mark.parametrize("redirected", [">/dev/full 2>/dev/full", ">&- 2>&-", ">&-", "2>&-"])
def test_words_that_nobody_can_read_cost_nothing(redirected: str, tmp_path: Path) -> None:
    done = talk(tmp_path / "mark", redirected)
    assert (done.returncode, (tmp_path / "mark").exists()) == (0, True), done.stderr


def test_letters_that_the_locale_lacks_are_replaced(tmp_path: Path) -> None:
    done = talk(tmp_path / "mark", "", **ASCII)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"3 ? 4\n", b"3 ? 4\n")


def test_a_sweep_leaves_the_same_files_in_any_locale(tmp_path: Path, tiny_gguf: Path) -> None:
    result = pipeline("parallel=3,4", folder=tmp_path / "out", gguf=tiny_gguf, sweep=True, env=ASCII)
    assert (result.code, result.err) == (0, "")
    assert "parallel=3?4" in result.out
    assert "parallel=3→4" in (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "→" in (tmp_path / "out" / "ranking.csv").read_text("utf-8")
