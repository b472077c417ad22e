"""A companion's temporary folder: gone with it, and after its owner's death gone at the next start of anything."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.core.files import save
from pipeline.machine import companion, identity
from pipeline.machine.companion import OWNER, Companion
from support.places import ROOT


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


KILLED = "import os; from pipeline.machine import companion; made = companion.scratch(); os.kill(os.getpid(), 9)"


def test_what_a_killed_command_had_in_use_is_removed_by_the_next_one(temporary: Path) -> None:
    with companion.scratch() as own:
        env = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", KILLED], env=env, check=False)
        assert len(list(temporary.iterdir())) == 2
        companion.tidy()
        assert list(temporary.iterdir()) == [Path(own)]
    assert list(temporary.iterdir()) == []


SLOW = """
import json, os, sys, time
said = b""
while not said.endswith(b"\\n"):
    time.sleep(0.0002)
    said += os.read(0, 4096)
print(json.dumps({"length": len(json.loads(said)["text"])}), flush=True)
"""


def test_a_long_command_arrives_whole_though_signals_come_meanwhile(tmp_path: Path) -> None:
    """A write to a full pipe ends with what was written when a signal comes, as after Ctrl-Z and `fg`."""
    (tmp_path / "slow.py").write_text(SLOW)
    one = Companion("slow", log=tmp_path / "log", env={"PYTHONPATH": str(tmp_path)})
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    try:
        one.send({"text": "x" * 1_000_000})
        answer = one.answer(timeout_s=60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        one.close()
    assert answer == {"length": 1_000_000}
