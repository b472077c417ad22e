"""Finds what a composed tree took from outside of its overrides: search path, environment, working directory."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from omegaconf import DictConfig, OmegaConf

from pipeline.core.origin import Origin
from pipeline.core.redact import SECRET_NAME
from pipeline.core.schema import Config
from pipeline.core.values import plain

VARIABLE = re.compile(r"\$\{oc\.env:\s*([A-Za-z_]\w*)")  # OmegaConf's resolver: omegaconf.readthedocs.io, oc.env
GIVEN = ("command-line", "hydra.searchpath")  # Hydra's providers of folders that a user named: config_loader_impl.py
LOGIN = re.compile(r"://[^/@\s]+@")  # a URL with a password in it
WORDS = re.compile(r"[^\s,\[\]{}'\"=:]+")


def of(tree: DictConfig, hydra: HydraConf, config: Config, overrides: Sequence[str]) -> Origin:
    """What the trial of a tree took, by this process's environment and files."""
    cwd = Path(str(hydra.runtime.cwd))
    return Origin(
        searchpath=tuple(_searchpath(hydra, cwd)),
        variables={name: _told(name, os.environ[name]) for name in _variables(tree) if name in os.environ},
        folder=str(cwd) if _is_relative(overrides, plain(config), cwd) else None,
        program=sys.executable or None,
    )


def _searchpath(hydra: HydraConf, cwd: Path) -> Iterator[str]:
    for source in hydra.runtime.config_sources:
        if str(source.provider).startswith(GIVEN):
            is_folder = source.schema == "file"
            yield f"{source.schema}://{cwd / source.path if is_folder else source.path}"


def _variables(tree: DictConfig) -> Iterator[str]:
    """The variables that values name, in the order in which they do; Hydra's own part aside."""
    written: Any = OmegaConf.to_container(tree, resolve=False)
    found = {name for text in _texts({**written, "hydra": None}) for name in VARIABLE.findall(text)}
    yield from sorted(found)


def _told(name: str, text: str) -> str | None:
    is_secret = SECRET_NAME.search(name) or LOGIN.search(text) or not text.isprintable()
    return None if is_secret else text


def _is_relative(overrides: Sequence[str], config: Mapping[str, Any], cwd: Path) -> bool:
    """Whether a path that was given begins in the working directory."""
    groups = {name for name, section in config.items() if isinstance(section, dict)}
    values = [text for name, _, text in (word.partition("=") for word in overrides) if name not in groups]
    given = (word for text in values for word in WORDS.findall(text))
    written = (text for text in _texts(config) if "/" in text or Path(text).suffix)
    return any(_is_there(word, cwd) for word in (*given, *written))


def _is_there(word: str, cwd: Path) -> bool:
    try:
        return not Path(word).is_absolute() and bool(Path(word).name) and os.path.lexists(cwd / word)
    except ValueError:  # a null byte
        return False


def _texts(item: Any) -> Iterator[str]:
    if isinstance(item, str):
        yield item
    elif isinstance(item, dict):
        for inner in item.values():
            yield from _texts(inner)
    elif isinstance(item, list):
        for inner in item:
            yield from _texts(inner)
