"""stdout and stderr that cannot be written, with real descriptors: every command goes on to its end."""

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.machine import console, process
from pipeline.machine.progress import LiveTable
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


MUCH = """
import sys
from pipeline.machine import console
console.endure()
for number in range(20000):
    print(f"line {number}")
open(sys.argv[1], "w", encoding="utf-8").write("at the end")
print("the table")
"""


def test_a_reader_that_reads_nothing_holds_nobody_up_and_gets_all_in_the_end(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with subprocess.Popen([sys.executable, "-c", MUCH, str(mark)], cwd=ROOT, stdout=subprocess.PIPE) as talking:
        assert process.wait_until(mark.exists, timeout_s=180)  # while nobody has read a word
        assert talking.stdout is not None
        said = talking.stdout.read().decode().splitlines()
    assert said == [*(f"line {number}" for number in range(20000)), "the table"]
    assert talking.returncode == 0


def test_a_reader_that_leaves_while_words_wait_ends_the_waiting(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with subprocess.Popen([sys.executable, "-c", MUCH, str(mark)], cwd=ROOT, stdout=subprocess.PIPE) as talking:
        assert process.wait_until(mark.exists, timeout_s=180)
        assert talking.stdout is not None
        talking.stdout.close()
        assert talking.wait(timeout=240) == 0


def test_a_terminal_that_another_program_made_non_blocking_loses_nothing() -> None:
    near, far = os.pipe()
    os.set_blocking(far, False)
    with os.fdopen(near, "rb") as reader, os.fdopen(far, "w") as writer:
        stream = console.Enduring(writer)
        words = "".join(f"line {number}\n" for number in range(20000))
        stream.write(words)
        assert stream.is_behind
        told = b""
        while stream.waiting:
            told += os.read(reader.fileno(), 1 << 16)
            stream.flush()
        writer.close()
        assert (told + reader.read()).decode() == words


def test_control_characters_pass_if_a_display_uses_them() -> None:
    out = StringIO()
    console.Enduring(out).write("\r\x1b[2K\x1b[1A\x1b[1;31mred\x1b[0m\x1b[?25l \x1b[2J \x1b]0;t\x07 50%\r60%\n")
    shown = "\r\x1b[2K\x1b[1A\x1b[1;31mred\x1b[0m\x1b[?25l \\x1b[2J \\x1b]0;t\\x07 50%\\r60%\n"
    assert out.getvalue() == shown


def test_a_picture_waits_for_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = os.pipe()
    with os.fdopen(near, "rb"), os.fdopen(far, "w") as writer:
        stream = console.Enduring(writer)
        stream.write("x" * (1 << 20))
        monkeypatch.setattr(sys, "stdout", stream)
        before = len(stream.waiting)
        table = LiveTable(Console(force_terminal=True, width=80), 1)
        table.live.refresh()
        assert len(stream.waiting) == before


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_any_letter_of_an_override_costs_no_trial(encoding: str, tmp_path: Path, tiny_gguf: Path) -> None:
    name = 'model.name="\u2192\u65e5\u672c",plain'
    env = {"PYTHONIOENCODING": encoding}
    result = pipeline(name, folder=tmp_path / "out", gguf=tiny_gguf, sweep=True, env=env)
    assert (result.code, result.err) == (0, "")
    assert [record.status for record in result.records] == ["ok", "ok"]
    assert [line.split()[0] for line in result.out.splitlines() if line.endswith(("plain", "?", '"'))]
    assert "Best: " in result.out


def test_letters_that_the_locale_lacks_are_replaced(tmp_path: Path) -> None:
    done = talk(tmp_path / "mark", "", **ASCII)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"3 ? 4\n", b"3 ? 4\n")


def test_a_sweep_leaves_the_same_files_in_any_locale(tmp_path: Path, tiny_gguf: Path) -> None:
    result = pipeline("parallel=3,4", folder=tmp_path / "out", gguf=tiny_gguf, sweep=True, env=ASCII)
    assert (result.code, result.err) == (0, "")
    assert "parallel=3?4" in result.out
    assert "parallel=3→4" in (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "→" in (tmp_path / "out" / "ranking.csv").read_text("utf-8")
