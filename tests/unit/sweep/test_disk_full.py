"""A disk that fills in mid-sweep: told on two lines, the table all the same, and the same command goes on."""

import os
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from pipeline.core import files
from pipeline.core.errors import DiskFull
from pipeline.core.files import SweepDir
from pipeline.sweep.search import damage
from support.cli import pipeline

FULL = """
import errno, os
import os.path
real, statvfs = os.fsync, os.statvfs
def is_full(): return os.path.isdir(os.environ.get("FULL_FROM", "/no/such/folder"))
def fsync(file):
    if is_full(): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    real(file)
def free(path):
    seen = statvfs(path)
    return os.statvfs_result((*seen[:4], 0, *seen[5:10])) if is_full() else seen
os.fsync, os.statvfs = fsync, free
"""


def test_the_same_command_goes_on_once_there_is_space(tmp_path: Path, tiny_gguf: Path) -> None:
    """From the first level of trial 1 on, no file of ours can be written; SQLite still has room in its pages."""
    (tmp_path / "sitecustomize.py").write_text(FULL)
    folder = tmp_path / "out"
    words = ("hydra/sweeper=tuner", "hydra.sweeper.confirm=0", "parallel=2,4", "traffic.concurrencies=[1]")
    env = {"PYTHONPATH": str(tmp_path), "FULL_FROM": str(folder / "1" / "bench")}
    done = pipeline(*words, folder=folder, gguf=tiny_gguf, sweep=True, env=env, timeout_s=90)
    assert done.code == 1, done.err
    assert f"error: The disk of {folder} is full: 0.0 MB free; a trial needs 67 MB." in done.err
    assert "hint: Free some space, then give the same command again" in done.err
    assert "Traceback" not in done.err
    assert "\nrank " in done.out
    assert "Best: " in done.out
    assert [record.number for record in done.records] == [0]
    again = pipeline(*words, folder=folder, gguf=tiny_gguf, sweep=True, timeout_s=90)
    assert again.code == 0, again.err
    assert [(record.number, record.status) for record in again.records] == [(0, "ok"), (1, "ok"), (2, "ok")]
    assert again.records[0] == done.records[0]
    assert [path.name for path in (folder / "attempts").iterdir()] == ["1-0"]


@pytest.mark.parametrize("sweep", [True, False], ids=["sweep", "single"])
def test_a_disk_that_is_full_from_the_start_is_told_before_a_folder_is_made(
    tmp_path: Path, tiny_gguf: Path, *, sweep: bool
) -> None:
    (tmp_path / "sitecustomize.py").write_text(FULL)
    env = {"PYTHONPATH": str(tmp_path), "FULL_FROM": str(tmp_path)}
    done = pipeline(folder=tmp_path / "out", gguf=tiny_gguf, sweep=sweep, env=env)
    assert (done.code, done.out) == (2, ""), done.err
    assert f"run here: The disk of {tmp_path} is full: 0.0 MB free; a trial needs 67 MB." in done.err
    assert not (tmp_path / "out").exists()


def test_a_database_without_space_is_a_full_disk(tmp_path: Path) -> None:
    error = OperationalError("INSERT", {}, Exception("database or disk is full"))
    with pytest.raises(DiskFull, match=f"The disk of {tmp_path} is full"), damage.worded(SweepDir(tmp_path), None):
        raise error


def test_a_user_out_of_space_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_file: int) -> None:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskFull, match=f"The disk of {tmp_path} is full: "):
        files.claim(files.RunDir(tmp_path))
