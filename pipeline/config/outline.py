"""What a command is going to run, as far as it is known before anything starts. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from pydantic import Field

from pipeline.config.folder import Folder
from pipeline.config.sides import Knobs
from pipeline.core.files import SweepDir
from pipeline.core.schema_hardware import Hardware
from pipeline.core.values import value


@value
class Outline:
    """What is going to run."""

    total: int | None  # trials, if that can be known
    is_dry: bool = False  # show, run nothing
    swept: tuple[str, ...] = ()  # the keys that differ from trial to trial
    uses_optuna: bool = False
    reuses: bool = False  # trials that differ in the load alone may share a server
    folder: Folder | None = None  # where it writes, where that is known now
    is_search: bool = False  # by `tuner`, which can be gone on with, and shared
    hardware: Hardware | None = None  # of the first trial, as far as it is known on this machine
    is_elsewhere: bool = False  # trials run on other machines
    warnings: tuple[str, ...] = ()  # of the first trial, to be told before it begins
    is_here: bool = True  # trials certainly run on this one
    is_cached: bool = False  # earlier results may answer
    knobs: Knobs = Field(default_factory=dict)  # of each engine, where there are several
    totals: Mapping[str, int | None] = Field(default_factory=dict)  # likewise: the trials of each
    learned: tuple[str, ...] = ()  # what a search learns from, for people

    def without(self, engines: Collection[str]) -> "Outline":
        """The same without the trials of some engines."""
        if not engines or self.total is None:
            return self
        left = sum(total or 0 for engine, total in self.totals.items() if engine not in engines)
        return replace(self, total=min(self.total, left))

    @property
    def has_begun(self) -> bool:
        """Whether the folder that the command names has a search already."""
        return self.is_search and self.folder is not None and SweepDir(self.folder.path).mark.exists()
