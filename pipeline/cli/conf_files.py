"""What the configuration offers, read from its files without Hydra: a shell waits for the answer.

Hydra composes in two seconds. This follows the same files as far as our own use of Hydra goes: the defaults of
config.yaml, options that choose other options (`override /model: ...`) or extend one (`- optuna`), and packages.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.core.places import CONF

Tree = dict[str, Any]
PACKAGE = re.compile(r"\A# @package (\S+)\n")
COMMENT = re.compile(r"(?m)^# (?!@package)(.+)")
VERSION = "runtime.version"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
HYDRA_GROUPS = ("hydra/launcher", "hydra/sweeper", "hydra/sweeper/sampler")
HYDRA_OPTIONS: Mapping[str, Sequence[str]] = {  # of Hydra itself and its plugins: they have no file of ours
    "hydra/launcher": ("basic",),
    "hydra/sweeper": ("basic",),
    "hydra/sweeper/sampler": ("tpe", "random", "cmaes", "nsgaii", "nsgaiii", "motpe", "grid", "gp", "qmc"),
}


class ConfFiles:
    """The configuration's folders: ours, then those that the command line names."""

    def __init__(self, more: Sequence[Path] = ()) -> None:
        self.folders = (CONF, *more)

    def groups(self) -> list[str]:
        """Every group that has options to choose from."""
        found = {path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"}
        return [*sorted(found), *HYDRA_GROUPS]

    def options(self, group: str) -> dict[str, str]:
        """The options of a group, each with the first sentence that its file says of it."""
        found = dict.fromkeys(HYDRA_OPTIONS.get(group, ()), "")
        for folder in self.folders:
            found |= {path.stem: _sentence(path) for path in sorted((folder / group).glob("*.yaml"))}
        return found

    def tree(self, chosen: Mapping[str, str]) -> Tree:
        """The composed configuration with these options, and perhaps a version of the engine, chosen."""
        made: Tree = {}
        _merge(made, _without_defaults(_load(CONF / "config.yaml")))  # its _self_ stands first
        for group, option in self._choices(chosen).items():
            _merge(made, self._placed(group, option))
        if VERSION in chosen:
            made.setdefault("runtime", {})["version"] = chosen[VERSION]
        return made

    def _choices(self, chosen: Mapping[str, str]) -> dict[str, str]:
        """The line's own, before an experiment's, before a runtime's, before the defaults."""
        first = {**dict(_choices(self._file("experiment", chosen.get("experiment", "")))), **chosen}
        choices = {**dict(_choices(_load(CONF / "config.yaml"))), **first}
        return {**choices, **dict(_choices(self._file("runtime", choices["runtime"]))), **first}

    def _placed(self, group: str, option: str) -> Tree:
        path = self._path(group, option)
        if path is None:
            return {}
        found = PACKAGE.match(path.read_text("utf-8"))
        package = found[1] if found else group.replace("/", ".")
        body = self._body(group, option)
        for name in reversed(package.split(".") if package != "_global_" else []):
            body = {name: body}
        return body

    def _body(self, group: str, option: str) -> Tree:
        own = self._file(group, option)
        made: Tree = {}
        for word in own.get("defaults") or []:
            if isinstance(word, str) and word != "_self_":
                _merge(made, self._body(group, word))
        _merge(made, _without_defaults(own))
        return made

    def _file(self, group: str, option: str) -> Tree:
        path = self._path(group, option)
        return _load(path) if path else {}

    def _path(self, group: str, option: str) -> Path | None:
        paths = (folder / group / f"{option}.yaml" for folder in self.folders)
        return next((path for path in paths if path.is_file()), None)


def _choices(data: Tree) -> Iterator[tuple[str, str]]:
    for entry in data.get("defaults") or []:
        if isinstance(entry, dict):
            for name, option in entry.items():
                yield name.removeprefix("override ").removeprefix("/"), str(option)


def _without_defaults(data: Tree) -> Tree:
    return {name: value for name, value in data.items() if name != "defaults"}


@cache
def _load(path: Path) -> Tree:
    try:
        data = yaml.load(path.read_text("utf-8"), LOADER)  # noqa: S506 - both are safe loaders
    except (OSError, yaml.YAMLError):
        return {}
    return data if isinstance(data, dict) else {}


def _merge(into: Tree, more: Tree) -> None:
    for name, value in more.items():
        if isinstance(value, dict):  # copied: what was loaded stays as it is
            below = into.get(name)
            into[name] = below if isinstance(below, dict) else {}
            _merge(into[name], value)
        else:
            into[name] = value


def _sentence(path: Path) -> str:
    found = COMMENT.search(path.read_text("utf-8"))
    return re.split(r"(?<=[a-z)])[.:;] ", found[1])[0].rstrip(".") if found else ""
