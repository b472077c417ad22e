"""The folder that a command writes to, before it runs."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.core.values import value

TIME = "${now:"


@value
class Folder:
    """`hydra.run.dir` or `hydra.sweep.dir`. `below`: how many folders it lies below the one named after the time."""

    path: Path
    below: int | None  # None: it has a name of its own

    @property
    def named(self) -> Path:
        """The folder that is named after the time."""
        return self.path if not self.below else self.path.parents[self.below - 1]

    def renamed(self, named: Path) -> Path:
        """The same folder below another one than `named`."""
        return named / self.path.relative_to(self.named)


def of(section: DictConfig) -> Folder | None:
    """The `dir` of hydra.run or hydra.sweep; None where it depends on what is known later only."""
    written: Any = OmegaConf.to_container(section, resolve=False)
    try:
        path = Path(str(section.dir))
    except OmegaConfBaseException:
        return None
    _, is_named_so, after = str(written["dir"]).rpartition(TIME)
    rest = after.partition("}")[2].partition("/")[2]
    return Folder(path=path, below=len(Path(rest).parts) if is_named_so else None)
