"""Folders that belong to one process, or to several that want the same."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.values import to_json
from pipeline.machine import claims, identity
from pipeline.machine.claims import Claim


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "owners.json"


@pytest.fixture
def other() -> Iterator[identity.Identity]:
    """Another process that lives."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield identity.of(child.pid)
        child.communicate()


def write(path: Path, who: identity.Identity, key: str | None = None) -> None:
    path.write_text(to_json(Claim(key=key, owners=(who,))))


def test_a_folder_is_ours_until_we_give_it_back(path: Path) -> None:
    claims.take(path)
    assert [one.pid for one in claims.owners_of(path)] == [os.getpid()]
    claims.take(path)  # again does no harm
    claims.give_back(path)
    assert [*path.parent.iterdir()] == []


def test_a_living_owner_is_named(path: Path, other: identity.Identity) -> None:
    write(path, other)
    before = path.read_text()
    with pytest.raises(ConfigError, match=f"in use by process {other.pid} on {other.host}: wait"):
        claims.take(path)
    assert path.read_text() == before


@pytest.mark.parametrize(("theirs", "ours"), [("a", "b"), ("a", None), (None, "b")])
def test_whoever_wants_something_else_is_refused(
    path: Path, other: identity.Identity, theirs: str | None, ours: str | None
) -> None:
    write(path, other, theirs)
    with pytest.raises(ConfigError, match="is in use"):
        claims.take(path, ours)


def test_whoever_wants_the_same_joins(path: Path, other: identity.Identity) -> None:
    write(path, other, "a")
    claims.take(path, "a")
    assert {one.pid for one in claims.owners_of(path)} == {other.pid, os.getpid()}
    claims.give_back(path)
    assert claims.owners_of(path) == [other]


def test_an_owner_that_has_ended_does_not_count(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        write(path, identity.of(child.pid))
        child.communicate()
    claims.take(path)
    assert [one.pid for one in claims.owners_of(path)] == [os.getpid()]


def test_an_owner_on_another_machine_is_taken_to_live(path: Path, other: identity.Identity) -> None:
    elsewhere = identity.Identity(pid=1, start_ticks=1, boot_id="x", pid_namespace="y", host=f"not-{other.host}")
    write(path, elsewhere)
    with pytest.raises(ConfigError, match=f"process 1 on {elsewhere.host}"):
        claims.take(path)


def test_a_damaged_file_stops_nobody(path: Path) -> None:
    path.write_text("{")
    claims.take(path)
    assert [one.pid for one in claims.owners_of(path)] == [os.getpid()]


def test_of_many_at_once_one_has_it(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.machine import claims\n"
        "try: claims.take(Path(sys.argv[1])); print('mine', flush=True); input()\n"
        "except Exception as error: print('refused', flush=True)"
    )
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    said = [one.stdout.readline() for one in crowd if one.stdout]
    for one in crowd:
        one.communicate("\n")
    assert sorted(said) == ["mine\n"] + ["refused\n"] * 3
