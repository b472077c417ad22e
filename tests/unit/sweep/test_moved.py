"""Folders of searches that were renamed, copied or damaged, or are of another search: what a command makes of them."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.files import SweepDir
from pipeline.core.values import to_json
from pipeline.sweep.search import agreement, damage, storages
from pipeline.sweep.search.space import Choice, Span
from support.cli import Result, pipeline
from support.places import TESTS

SEARCH = ("hydra/sweeper=tuner", "hydra.sweeper.confirm=0")
RATE = {"STUB_BENCH_RATE": "slots"}  # more slots are faster
Search = Callable[..., Result]


@pytest.fixture
def search(tiny_gguf: Path) -> Search:
    def go(folder: Path, *overrides: str, confirm: int = 0) -> Result:
        words = ("hydra/sweeper=tuner", f"hydra.sweeper.confirm={confirm}", *overrides)
        return pipeline(*words, folder=folder, gguf=tiny_gguf, sweep=True, env=RATE, timeout_s=240)

    return go


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path) -> Path:
    """A search that has ended, once for this file."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERVETUNE_TESTS", str(TESTS))
        for name in ("STATE", "CACHE", "SLOTS"):
            patch.setenv(f"SERVETUNE_{name}_DIR", str(root / name))
        done = pipeline(*SEARCH, "parallel=2,4", folder=root / "out", gguf=tiny_gguf, sweep=True, env=RATE)
    assert done.code == 0, done.err
    return done.folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """That search, in another place and by another name."""
    return Path(shutil.copytree(made, tmp_path / "elsewhere"))


def forget_name(folder: Path) -> None:
    """As marks were before they had the name of the study."""
    mark = folder / "search.json"
    data = json.loads(mark.read_text())
    mark.write_text(json.dumps({name: item for name, item in data.items() if name != "study"}))


def test_a_folder_of_another_name_goes_on(search: Search, folder: Path) -> None:
    before = [path.read_bytes() for path in sorted(folder.glob("*/record.json"))]
    again = search(folder, "parallel=2,4", confirm=1)
    assert again.code == 0, again.err
    assert [record.status for record in again.records] == ["ok"] * 5
    assert [record.phase for record in again.records][3:] == ["confirm"] * 2
    assert [path.read_bytes() for path in sorted(folder.glob("*/record.json"))][:3] == before


def test_the_copy_of_a_search_that_was_broken_off_leaves_the_original_alone(
    search: Search, folder: Path, tmp_path: Path
) -> None:
    """Trial 2 of an older servetune's search, as if its process had been killed."""
    forget_name(folder)
    with sqlite3.connect(folder / "study.db") as study:
        study.execute("UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE number = 2")
        study.execute("DELETE FROM trial_user_attributes WHERE key = 'result' AND trial_id = 3")
    study.close()
    (folder / "2" / "record.json").unlink()
    lease = folder / "2" / "lease.json"
    lease.write_text(json.dumps({**json.loads(lease.read_text()), "released": None, "run_dir": str(folder / "2")}))
    copy = shutil.copytree(folder, tmp_path / "copy")
    before = lease.read_bytes()
    again = search(copy, "parallel=2,4")
    assert again.code == 0, again.err
    assert [record.status for record in again.records] == ["ok"] * 3
    assert json.loads((copy / "attempts" / "2-0" / "lease.json").read_text())["released"]["remaining"] == []
    assert lease.read_bytes() == before


def test_another_search_is_told_by_the_overrides_that_differ(search: Search, folder: Path) -> None:
    kept = {path: path.read_bytes() for path in folder.glob("*.*")}
    result = search(folder, "parallel=2,4,8")
    assert (result.code, result.out) == (2, "")  # no table of what is not ours
    told = "It was started with parallel=2,4, where this command has parallel=2,4,8."
    assert result.err.startswith(f"error: This folder holds another search. {told} Repeat that command")
    assert len(result.err.splitlines()) == 1
    assert {path: path.read_bytes() for path in folder.glob("*.*") if path in kept} == kept


def test_a_damaged_study_is_told_by_its_name_and_what_was_measured_is_taken_over(
    search: Search, folder: Path, tmp_path: Path
) -> None:
    (folder / "study.db").write_text("garbage")
    result = search(folder, "parallel=2,4")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {folder / 'study.db'} is damaged: ")
    assert len(result.err.splitlines()) == 1
    taken = search(tmp_path / "new", "parallel=2,4", "cache=read")  # as the message says
    assert [record.cached_from for record in taken.records] == [f"out/{number}" for number in range(3)]


def test_a_record_that_is_lost_is_named_before_another_one_wins(search: Search, folder: Path, tmp_path: Path) -> None:
    best = (folder / "best" / "overrides.txt").read_bytes()
    (folder / "2" / "record.json").write_text("{")
    again = search(folder, "parallel=2,4")
    assert again.code == 2
    assert f"error: {folder}/2/record.json cannot be read: it is damaged" in again.err
    assert (folder / "best" / "overrides.txt").read_bytes() == best
    other = search(tmp_path / "other", "parallel=2,4", "cache=read")
    assert [(record.status, bool(record.cached_from)) for record in other.records] == [
        ("ok", True), ("ok", True), ("ok", False),
    ]  # fmt: skip


def test_trials_that_a_search_does_not_know_are_not_failed(search: Search, folder: Path) -> None:
    (folder / "study.db").unlink()
    (folder / "search.json").unlink()
    result = search(folder, "parallel=2,4")
    assert (result.code, result.out) == (2, "")
    assert "holds trials that this search knows nothing of: study.db was removed, emptied" in result.err


LIST, SPAN = Choice(name="n", values=("null", "2")), Span(name="x", low=0.5, high=2.0)
WHOLE, STEPS = Span(name="k", low=1, high=9), Span(name="s", low=2, high=8, step=2)
LOG = Span(name="l", low=1e-5, high=1.0, is_log=True)


def told(*dimensions: Choice | Span, overrides: Sequence[str] = ()) -> dict[str, list[str]]:
    space = [to_json(one) for one in dimensions]
    return {"space": space, "directions": ["maximize"], "overrides": [*overrides]}


@pytest.mark.parametrize(
    ("had", "has", "expected"),
    [
        (told(LIST), told(SPAN), "started with n=null,2, where this command has 'x=interval(0.5,2)'."),
        (told(WHOLE, LIST), told(LIST), "started with 'k=int(interval(1,9))', which this command lacks."),
        (told(LIST), told(LIST, STEPS), "started without 's=range(2,10,2)'."),
        (told(LIST, LOG), told(LIST), "started with 'l=tag(log,interval(1e-05,1))', which this command lacks."),
        (told(LIST), told(LIST, overrides=["a b=c", "d=1"]), "started without 'a b=c' d=1."),
        (told(LIST, SPAN), told(SPAN, LIST), "come in another order than here (x n)."),
        (told(LIST), {**told(LIST), "directions": ["minimize"]}, "want maximize; those of this command minimize."),
        ({**told(LIST), "space": ['{"of": "old"}']}, told(LIST), "where this command has n=null,2."),
    ],
)
def test_what_differs_is_said_in_overrides(had: agreement.Told, has: agreement.Told, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        agreement.check(had, has)
    assert expected in str(caught.value)
    agreement.check(had, had)


def overwrite(study: Path) -> None:
    data = bytearray(study.read_bytes())
    data[8192::7] = b"\xab" * len(data[8192::7])
    study.write_bytes(data)


@pytest.mark.parametrize("harm", [overwrite, lambda study: study.write_bytes(study.read_bytes()[:50_000])])
def test_every_damage_of_a_study_is_one(folder: Path, harm: Callable[[Path], object]) -> None:
    harm(folder / "study.db")
    words = "/study.db is damaged: it is no database of a search that can be read. The records beside it are whole"
    with pytest.raises(ConfigError, match=words), damage.worded(SweepDir(folder), None):
        read(f"sqlite:///{folder}/study.db")


def read(url: str) -> object:
    with storages.opened(url, "test-damage") as store:
        return store.storage.get_all_trials(store.storage.get_study_id_from_name(str(storages.only(store))))
