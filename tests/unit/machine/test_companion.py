"""A companion's temporary folder: gone with it, and after its owner's death gone at the next start of anything."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.core.files import save
from pipeline.machine import companion, identity
from pipeline.machine.companion import OWNER, Companion


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def made(folder: Path, owner: identity.Identity | None) -> Path:
    folder.mkdir()
    (folder / "file").touch()
    if owner:
        save(folder / OWNER, owner)
    return folder


def dead() -> identity.Identity:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        return identity.of(child.pid)


def test_its_folder_lives_as_long_as_it_does(temporary: Path, tmp_path: Path) -> None:
    one = Companion("json.tool", log=tmp_path / "log", env={})
    try:
        companion.tidy()
        assert [path.name for path in temporary.glob("*/*")] == [OWNER]
    finally:
        one.close()
    assert list(temporary.iterdir()) == []


def test_only_folders_whose_owner_is_dead_are_removed(temporary: Path) -> None:
    orphan = made(temporary / "servetune-a", dead())
    kept = [
        made(temporary / "servetune-b", identity.of()),
        made(temporary / "servetune-c", None),
        made(temporary / "other", dead()),
    ]
    (temporary / "servetune-d").symlink_to(temporary / "other")
    (made(temporary / "servetune-e", None) / OWNER).write_text("{}")
    companion.tidy()
    assert not orphan.exists()
    assert all((folder / "file").exists() for folder in kept)
    assert (temporary / "servetune-e").exists()
