"""Many releases in one file, and what one changes against another."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.engines import changes, history
from pipeline.engines.flags import Catalogue, Flag


def flag(name: str, **rest: Any) -> Flag:
    told = {"names": (f"--{name}",), "dest": name, "kind": "int", **rest}
    return Flag(**told)


def release(version: str, *flags: Flag) -> Catalogue:
    return Catalogue(engine="e", version=version, source=f"e-{version} sha256:0", abbreviations=True, flags=flags)


RELEASES = (
    release("0.9", flag("a"), flag("b", choices=("1", "2"), default=1)),
    release("0.10", flag("a"), flag("b", choices=("1", "3"), default=3)),
    release("0.11", flag("b", choices=("1", "2"), default=1), flag("c", many=True, off="--no-c", deprecated="gone")),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The file, with the releases added one after the other, not in their order."""
    (tmp_path / "e").mkdir()
    for found in (RELEASES[2], RELEASES[0], RELEASES[1]):
        (tmp_path / "e" / "history.jsonl").write_text(history.merged("e", [found], tmp_path))
    return tmp_path


@pytest.mark.parametrize("expected", RELEASES, ids=lambda expected: expected.version)
def test_each_release_is_read_as_it_was_written(folder: Path, expected: Catalogue) -> None:
    assert history.read("e", expected.version, folder) == expected


def test_a_flag_is_written_once_with_the_releases_that_have_it(folder: Path) -> None:
    lines = (folder / "e" / "history.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 4
    assert lines[1].endswith('"in": ["0.9..0.10"]}')
    assert '"in": ["0.9", "0.11"]}' in "\n".join(lines)


def test_a_release_that_is_written_again_replaces_what_was_said(folder: Path) -> None:
    again = release("0.10", flag("z"))
    (folder / "e" / "history.jsonl").write_text(history.merged("e", [again], folder))
    assert history.read("e", "0.10", folder) == again
    assert history.read("e", "0.9", folder) == RELEASES[0]


def test_a_release_that_is_not_there_is_no_catalogue(folder: Path) -> None:
    with pytest.raises(KeyError):
        history.read("e", "0.12", folder)


def test_changes_are_told_flag_by_flag() -> None:
    assert changes.between(RELEASES[0], RELEASES[1]) == ("~ --b: default 1 is 3; choice gone: 2; choice new: 3",)
    assert changes.between(RELEASES[0], RELEASES[2]) == ("+ --c (int) deprecated", "- --a")
    assert changes.between(RELEASES[0], RELEASES[0]) == ()


def test_a_renamed_flag_with_an_alias_and_another_kind_is_one_change() -> None:
    old, new = (
        release("1", flag("old")),
        release("2", flag("new", names=("--new", "--old"), kind="text", choices=("x",))),
    )
    assert changes.between(old, new) == ("~ --new: kind int is text; name new: --new; choices open are x",)
