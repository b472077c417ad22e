"""Configuration is parsed and composed once in a process: a command needs the same of it again for every trial."""

import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.config_source import ConfigLoadError, ConfigResult
from omegaconf import DictConfig, OmegaConf

HEADER = 512  # characters of a file that Hydra looks through for `# @package`
KEPT = 32  # trees, 100 KB each


class Answer(NamedTuple):
    """What a folder of configuration was asked while a tree was composed."""

    ask: Callable[[str], object]
    path: str
    answer: object

    def holds(self) -> bool:
        """Whether it would be the same now."""
        return self.ask(self.path) == self.answer


_kept: dict[tuple[object, ...], tuple[bytes, tuple[Answer, ...]]] = {}
_listening: list[list[Answer]] = []


def composed(overrides: tuple[str, ...]) -> DictConfig:
    """As hydra.compose, with Hydra's own section; a tree of the caller's own.

    To make OmegaConf's tree of a parsed file takes ten times as long as to read the tree from its pickle.
    """
    key = (overrides, Path.cwd(), str(GlobalHydra.instance().config_loader().get_search_path()))
    pickled, answers = _kept.pop(key, (b"", ()))
    if not pickled or not all(answer.holds() for answer in answers):
        with _heard() as heard:
            pickled = pickle.dumps(compose("config", overrides=list(overrides), return_hydra_config=True))
        answers = tuple(heard)
    _kept[key] = pickled, answers
    if len(_kept) > KEPT:
        del _kept[next(iter(_kept))]  # whose last use is the longest ago
    tree: DictConfig = pickle.loads(pickled)  # noqa: S301 - our own
    return tree


def install() -> None:
    """Let Hydra 1.4 read files our way: hydra/_internal/core_plugins/file_config_source.py.

    `load_config` parses; `is_config` and `is_group` look what there is.
    """
    FileConfigSource.load_config = _load_config  # type: ignore[method-assign]
    for name in ("is_config", "is_group"):
        setattr(FileConfigSource, name, _noted(getattr(FileConfigSource, name)))


@contextmanager
def _heard() -> Iterator[list[Answer]]:
    heard: list[Answer] = []
    _listening.append(heard)
    try:
        yield heard
    finally:
        _listening.pop()


def _noted(original: Callable[[FileConfigSource, str], object]) -> Callable[[FileConfigSource, str], object]:
    def ask(self: FileConfigSource, config_path: str) -> object:
        answer = original(self, config_path)
        _note(lambda path: original(self, path), config_path, answer)
        return answer

    return ask


def _note(ask: Callable[[str], object], path: str, answer: object) -> None:
    for heard in _listening:
        heard.append(Answer(ask, path, answer))


def _load_config(self: FileConfigSource, config_path: str) -> ConfigResult:
    """As Hydra's, a tree of the caller's own: Hydra takes the defaults list out of it."""
    path = Path(self.path, self._normalize_file_name(config_path)).resolve()
    text = _text(str(path))
    if text is None:
        raise ConfigLoadError(f"Config not found : {path}")
    _note(_text, str(path), text)
    return ConfigResult(
        config=pickle.loads(_tree(text, path)),  # noqa: S301 - our own
        path=f"{self.scheme()}://{self.path}",
        provider=self.provider,
        header=self._get_header_dict(text[:HEADER]),
    )


def _text(path: str) -> str | None:
    """Of a file; None where it is gone."""
    try:
        return Path(path).read_text("utf-8")
    except FileNotFoundError:
        return None


@lru_cache(maxsize=512)
def _tree(text: str, path: Path) -> bytes:
    """A file that was changed is another one. `path` is for messages about its YAML."""
    stream: Any = io.StringIO(text)
    stream.name = str(path)
    return pickle.dumps(OmegaConf.load(stream))
