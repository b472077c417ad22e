"""Overrides that Hydra can read, and that would not do what their writer means."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Override

from pipeline.config import open_loop, unknown
from pipeline.config.parse import ENVIRONMENTS
from pipeline.core.errors import ConfigError

OPTIONS = tuple(group.replace("/", ".") for group in unknown.OF_HYDRA)
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")


def check(given: Sequence[Override]) -> None:
    """Refuse what Hydra takes and does something else with.

    Raises:
        ConfigError: with what to write instead.
    """
    _check_texts(given)
    open_loop.check_words(given)
    for override in given:
        key, found = override.get_key_element(), override.value()
        if not key:
            raise ConfigError(f"{override.input_line}: expected key=value.")
        if key in OPTIONS and not isinstance(found, dict):
            wanted = f"{key.replace('.', '/')}={found}"
            raise ConfigError(f"{override.input_line}: an option is chosen with a slash: {wanted}")
        if key in FOLDERS and found == "":
            raise ConfigError(f"{key} is empty: write the name of a folder after the =.")
        if key == "dry_run" and not isinstance(found, bool):
            raise ConfigError(f"{override.input_line}: expected dry_run=true or dry_run=false.")
        if key in unknown.groups() and isinstance(found, list):
            raise ConfigError(
                f"{override.input_line}: expected one option; with -m, {key}={','.join(map(str, found))}."
            )
        for folder_ in found if key == "hydra.searchpath" and isinstance(found, list) else ():
            path = Path(str(folder_).removeprefix("file://"))
            if str(folder_).startswith("file://") and not path.is_dir():
                raise ConfigError(f"{path} is not a folder: --config-dir and hydra.searchpath need one with options.")


def _check_texts(given: Sequence[Override]) -> None:
    """A variable is set to what was typed: 1e3 is not 1000.0."""
    for override in given:
        key, typed = override.get_key_element().lstrip("+"), (override.input_line or "").partition("=")[2]
        number = None if override.is_sweep_override() else override.value()
        if key.rpartition(".")[0] in ENVIRONMENTS and type(number) in {int, float} and str(number) != typed:
            text = shlex.quote(f'+{key}="{typed}"')
            raise ConfigError(
                f"{override.input_line} would be set to {number}: quote it, so that it stays text: {text}"
            )


def refuse_sweeps(given: Sequence[Override], do: str = "add -m (--multirun) to sweep over them") -> None:
    """Refuse several values where there is one configuration. `do`: what to do about it.

    Raises:
        ConfigError: with the first override that has some.
    """
    swept = [override.input_line for override in given if override.is_sweep_override()]
    if swept:
        raise ConfigError(f"{swept[0]} has several values: {do}.")
