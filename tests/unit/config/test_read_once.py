"""A tree that was composed before is the one that Hydra would compose now."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from pipeline.config import read_once, spaces
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF

ENGINE = ("runtime=sglang", "model=llama31_8b", "hardware=h100", "page_size=64")


@pytest.fixture(autouse=True)
def inside() -> Iterator[None]:
    with initialize_config_dir(str(CONF)):
        yield


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls of Hydra's compose."""
    calls: list[Any] = []

    def compose(*args: Any, **kwargs: Any) -> DictConfig:
        calls.append(kwargs)
        return hydra.compose(*args, **kwargs)

    monkeypatch.setattr(read_once, "compose", compose)
    monkeypatch.setattr(read_once, "_kept", {})
    return calls


@pytest.fixture
def mine(tmp_path: Path) -> Callable[[str, str], tuple[str, ...]]:
    """Write an experiment into a folder of the user's; the overrides that choose it."""

    def write(name: str, text: str, folder: str = "conf") -> tuple[str, ...]:
        path = tmp_path / folder / "experiment" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# @package _global_\n{text}")
        return (f"hydra.searchpath=[file://{tmp_path}/first,file://{tmp_path}/conf]", f"experiment={name}")

    return write


@pytest.mark.parametrize("whole", [True, False])
def test_it_is_the_tree_that_hydra_composes(whole: bool, counted: list[Any]) -> None:
    expected = hydra.compose("config", overrides=list(ENGINE), return_hydra_config=whole)
    for _ in range(2):
        tree = spaces.composed(ENGINE, hydra=whole)
        assert OmegaConf.to_container(tree) == OmegaConf.to_container(expected)
        assert (OmegaConf.is_struct(tree), OmegaConf.is_readonly(tree)) == (OmegaConf.is_struct(expected), None)
        tree.model.name = "mine"  # a caller's own
    assert len(counted) == 1


def test_a_file_that_was_changed_is_read_again(
    counted: list[Any], mine: Callable[..., tuple[str, ...]], tmp_path: Path
) -> None:
    (tmp_path / "first").mkdir()
    words = mine("own", "timeouts: {deploy_s: 11}")
    assert [spaces.composed(words).timeouts.deploy_s for _ in range(2)] == [11, 11]
    mine("own", "timeouts: {deploy_s: 12}")
    assert spaces.composed(words).timeouts.deploy_s == 12
    mine("own", "timeouts: {deploy_s: 13}", "first")
    assert [spaces.composed(words).timeouts.deploy_s for _ in range(2)] == [
        13,
        13,
    ]  # another one of the name, before it
    (tmp_path / "first" / "experiment" / "own.yaml").unlink()
    assert spaces.composed(words).timeouts.deploy_s == 12
    assert len(counted) == 4
    (tmp_path / "conf" / "experiment" / "own.yaml").unlink()
    with pytest.raises(ConfigError, match="experiment=own"):
        spaces.composed(words)


def test_another_folder_is_another_tree(counted: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spaces.composed(ENGINE)
    monkeypatch.chdir(tmp_path)
    assert spaces.composed(ENGINE, hydra=True).hydra.runtime.cwd == str(tmp_path)


def test_a_mistake_in_a_file_is_told_with_its_place(mine: Callable[..., tuple[str, ...]], tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    words = mine("broken", "a: [1\nb: 2")
    for _ in range(2):
        with pytest.raises(Exception, match=f'in "{tmp_path}/conf/experiment/broken.yaml", line 3'):
            spaces.composed(words)


def test_no_more_are_kept_than_make_sense(counted: list[Any]) -> None:
    for number in range(read_once.KEPT + 2):
        spaces.composed([f"timeouts.deploy_s={number + 1}"])
    spaces.composed([f"timeouts.deploy_s={number + 1}"])
    assert len(read_once._kept) == read_once.KEPT
    assert len(counted) == read_once.KEPT + 2
