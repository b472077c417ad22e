"""Users without a home folder or a name, as in containers that run as a number: a fallback, and its name."""

import os
import pwd
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.machine import home
from support.places import ROOT

UID = 12345
NOBODY = f"""
import os, pwd
def unknown(uid): raise KeyError(f"getpwuid(): uid not found: {{uid}}")
pwd.getpwuid, os.getuid = unknown, lambda: {UID}
"""


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """We have no name; where temporary files go."""
    for name in ("HOME", *home.NAMES, *home.OWN, "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"servetune-{os.getuid()}"


def forbid(monkeypatch: pytest.MonkeyPatch, *paths: str) -> None:
    """Nothing can be written below them: tests may run as root, who may everything."""
    real = os.access
    below = tuple(map(str, paths))
    monkeypatch.setattr(
        os, "access", lambda path, mode: str(path) not in below and real(path, mode) if mode & os.W_OK else True
    )


def test_a_user_without_a_name_gets_a_folder_and_a_name(nobody: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.settle()
    told = capsys.readouterr().err
    assert told.startswith(f"User {os.getuid()} has no home folder: {nobody} is taken for HOME.")
    assert len(told.splitlines()) == 1
    assert (os.environ["HOME"], os.environ["USER"]) == (str(nobody), f"uid{os.getuid()}")
    assert stat.S_IMODE(nobody.stat().st_mode) == 0o700
    home.settle()  # as in what it starts
    assert capsys.readouterr().err == ""


def test_the_root_folder_is_nobodys_home(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    forbid(monkeypatch, "/")
    home.settle()
    assert os.environ["HOME"] == str(nobody)


def test_a_home_that_cannot_be_written_stays_the_home(
    nobody: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("HOME", str(own))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forbid(monkeypatch, str(own))
    home.settle()
    assert (os.environ["HOME"], os.environ["SERVETUNE_STATE_DIR"]) == (str(own), f"{nobody}/state")
    assert "SERVETUNE_CACHE_DIR" not in os.environ
    said = f"The home folder {own} cannot be written: {nobody} is taken for SERVETUNE_STATE_DIR."
    assert capsys.readouterr().err.startswith(said)


def test_a_home_is_left_as_it_is(
    tmp_path: Path, nobody: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "me")
    home.settle()
    assert (os.environ["HOME"], "USER" in os.environ, nobody.exists()) == (str(tmp_path), False, False)
    assert capsys.readouterr().err == ""


def test_a_home_that_is_not_there_is_not_made(
    tmp_path: Path, nobody: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing"
    monkeypatch.setenv("HOME", str(missing))
    home.settle()
    assert (os.environ["HOME"], missing.exists()) == (str(nobody), False)
    told = f"User {os.getuid()} has no home folder (HOME={missing} is not there): {nobody} is taken for HOME."
    assert capsys.readouterr().err.startswith(told)


@pytest.mark.parametrize("is_link", [True, False])
def test_a_folder_that_another_could_have_made_is_refused(
    nobody: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_link: bool
) -> None:
    if is_link:
        (tmp_path / "theirs").mkdir()
        nobody.symlink_to(tmp_path / "theirs")
    else:
        other = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: other)
        (tmp_path / f"servetune-{other}").mkdir()
    with pytest.raises(ConfigError, match="is another user's: set HOME"):
        home.settle()


@pytest.mark.parametrize(
    ("words", "code", "last"),
    [
        (["pipeline", "dry_run=true"], 0, "Nothing was started or written."),
        (["pipeline.doctor", "model=gguf", "model.path=no.gguf"], 1, "no.gguf"),
        (["pipeline.reap"], 0, "0 leases without an owner"),
        (["pipeline.replay", "no-such-table.csv"], 2, "no-such-table.csv"),
        (["pipeline.compare", "no-such-folder", "x"], 2, "no-such-folder does not exist. Expected the folder of"),
        (["pipeline.recheck", "no-such-folder"], 2, "no-such-folder/card.json cannot be read: No such file"),
    ],
)
def test_every_command_works_for_a_user_without_a_name(
    nobody: Path, tmp_path: Path, words: list[str], code: int, last: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(NOBODY.replace(str(UID), str(os.getuid())))
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "TMPDIR": str(tmp_path)}
    argv = [sys.executable, "-m", *words]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == code, done.stderr
    assert f"User {os.getuid()} has no home folder: {nobody} is taken for HOME." in done.stderr
    assert last in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
