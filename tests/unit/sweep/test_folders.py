"""The folder of a command: a new one, the one that was broken off, or a refusal."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.record import Record
from pipeline.core.values import load, to_json
from pipeline.machine import identity
from pipeline.machine.claims import Claim
from support import forked
from support.cli import command, stub_overrides
from support.places import ROOT

Start = Callable[..., "subprocess.Popen[str]"]
ENV = {"STUB_BENCH_RATE": "slots", "PYTHONPATH": str(ROOT)}
OF_THE_MACHINE = {"state", "cache", "slots"}  # tests/conftest.py
FOLDERS = ("hydra.sweep.dir=", "hydra.run.dir=")


@pytest.fixture
def words(tmp_path: Path, tiny_gguf: Path) -> Callable[..., list[str]]:
    def make(*overrides: str, sweep: bool = False) -> list[str]:
        own = [word for word in stub_overrides(tmp_path, tiny_gguf) if not word.startswith(FOLDERS)]
        return [*command(sweep=sweep), *own, *overrides]

    return make


def together(tmp_path: Path, *commands: list[str]) -> list[tuple[int, str, str]]:
    """Commands that start at once: exit code, output and errors of each."""
    started = [
        subprocess.Popen(
            each, cwd=tmp_path, env={**os.environ, **ENV}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for each in commands
    ]
    said = [one.communicate(timeout=240) for one in started]
    return [(one.returncode, *each) for one, each in zip(started, said, strict=True)]


def records(folder: Path) -> dict[str, list[Record]]:
    """By the name of the sweep's folder."""
    return {each.name: [load(Record, path) for path in sorted(each.glob("*/record.json"))] for each in folder.iterdir()}


def same_second(word: str) -> str:
    """A folder that is named after a time that does not pass meanwhile."""
    return f"{word}=outputs/${{now:%Y}}" + ("/0" if "run" in word else "")


def test_runs_of_the_same_second_have_folders_of_their_own(words: Callable[..., list[str]], tmp_path: Path) -> None:
    where = same_second("hydra.run.dir")
    done = together(tmp_path, *(words(f"parallel={slots}", where) for slots in (1, 2, 3)))
    assert [code for code, _, _ in done] == [0, 0, 0], done
    found = records(tmp_path / "outputs")
    assert [len(each) for each in found.values()] == [1, 1, 1]
    assert {each[0].sweep_id for each in found.values()} == set(found)
    assert sorted(each[0].config.knobs["parallel"] for each in found.values()) == [1, 2, 3]  # type: ignore[type-var]
    for slots, (_, out, _) in enumerate(done, start=1):
        assert f"parallel={slots}" in out
        assert not any(f"parallel={other}" in out for other in {1, 2, 3} - {slots})


def test_sweeps_of_the_same_second_have_folders_of_their_own(words: Callable[..., list[str]], tmp_path: Path) -> None:
    more = (same_second("hydra.sweep.dir"), "hydra/sweeper=tuner", "hydra.sweeper.confirm=0")
    done = together(tmp_path, *(words(f"parallel={pair}", *more, sweep=True) for pair in ("1,2", "3,4")))
    assert [code for code, _, _ in done] == [0, 0], done
    found = records(tmp_path / "outputs")
    picks = sorted([str(one.config.knobs["parallel"]) for one in each] for each in found.values())
    assert picks == [["None", "1", "2"], ["None", "3", "4"]]
    assert not [*tmp_path.glob("outputs/**/owners.json")]


@pytest.mark.parametrize("sweep", [False, True], ids=["run", "sweep"])
def test_a_folder_with_a_living_owner_is_refused(words: Callable[..., list[str]], tmp_path: Path, sweep: bool) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    us = identity.of()
    (folder / "owners.json").write_text(to_json(Claim(key="another", owners=(us,))))
    key = "hydra.sweep.dir" if sweep else "hydra.run.dir"
    tuner = ["hydra/sweeper=tuner"] if sweep else []
    done = forked.run(words("parallel=1,2" if sweep else "parallel=1", f"{key}={folder}", *tuner, sweep=sweep))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {folder} is in use by process {us.pid} on {us.host}" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["owners.json"]


def test_a_trial_does_not_begin_in_the_folder_of_a_living_sweep(
    words: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "owners.json").write_text(to_json(Claim(key="a", owners=(identity.of(),))))
    done = forked.run(words("parallel=1", f"hydra.run.dir={tmp_path}/7"))
    assert done.returncode == 2
    assert f"{tmp_path} is in use" in done.stderr


def test_a_single_run_writes_nothing_outside_of_its_folder(words: Callable[..., list[str]], tmp_path: Path) -> None:
    before = {*tmp_path.iterdir()}
    done = forked.run(words("parallel=1", f"hydra.run.dir={tmp_path}/mine", "tracker=wandb", "tracker.mode=offline"))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in {*tmp_path.iterdir()} - before if path.name not in OF_THE_MACHINE} == {"mine"}
    assert {"0", "best", "best.json", "ranking.csv", "wandb"} <= {path.name for path in (tmp_path / "mine").iterdir()}
    assert f"Records: {tmp_path}/mine\n" in done.stdout


def test_a_folder_with_a_trial_is_left_alone(words: Callable[..., list[str]], tmp_path: Path) -> None:
    own = tmp_path / "mine"
    assert forked.run(words("parallel=1", f"hydra.run.dir={own}")).returncode == 0
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    done = forked.run(words("parallel=2", f"hydra.run.dir={own}"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "already contains a trial" in done.stderr
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["study.db", "search.json", "owners.json", "best.json", "report.html", "0", "best"])
def test_what_lies_in_the_place_of_ours_is_named_before_the_sweep(
    words: Callable[..., list[str]], tmp_path: Path, name: str
) -> None:
    there = tmp_path / "out" / name
    there.parent.mkdir()
    if "." in name:
        there.mkdir()
    else:
        there.touch()
    argv = words("parallel=1,2", "hydra/sweeper=tuner", f"hydra.sweep.dir={there.parent}", sweep=True)
    done = forked.run(argv, env={**os.environ, **ENV})
    kinds = ("folder", "file") if "." in name else ("file", "folder")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {there} is a {kinds[0]}; a sweep has a {kinds[1]} of this name. Move it away, or set another "
        f"hydra.sweep.dir.\n"
    )
    assert list(there.parent.iterdir()) == [there]
