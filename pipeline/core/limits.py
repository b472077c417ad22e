"""The settings of the sweeper `tuner`: when it stops, what it measures again, where its study is stored."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from pipeline.core.errors import ConfigError
from pipeline.core.values import parse, value

BESIDE = ("sampler", "params")  # of hydra.sweeper: what is searched, and how
AUTO = "auto"  # as many rounds of confirmation as the test takes
SEARCH_SHARE = 0.7  # of the time and GPU hours; the rest is for the confirmation


@value
class Limits:
    """When to stop starting trials, and what to measure again. None: no limit."""

    n_trials: int | None = Field(default=None, ge=1)  # deployed ones: not the answered, not the repeats
    timeout_s: float | None = Field(default=None, gt=0)
    gpu_hours: float | None = Field(default=None, gt=0)
    repeats: int = Field(default=1, ge=1)  # measurements of each configuration
    confirm: int | None = Field(default=None, ge=0)  # rounds of a contender and the baseline; None: as many as it takes
    held_out: str | None = None  # a traffic under which both are measured as well

    @property
    def confirms(self) -> bool:
        """Whether anything is measured again at the end."""
        return self.confirm != 0 or self.held_out is not None

    @property
    def held_out_rounds(self) -> int | None:
        """Rounds under other traffic, as many as under the sweep's own; at least one."""
        return 0 if self.held_out is None else 1 if self.confirm == 0 else self.confirm


@value
class Settings:
    """The sweeper's part of the configuration, except for the sampler and the search space."""

    storage: str | None = None
    study_name: str | None = None
    n_jobs: int | None = Field(default=None, ge=1)
    baseline: bool = True
    racing: bool = True
    limits: Limits


def settings_of(sweeper: Mapping[str, Any]) -> Settings:
    """The settings in `hydra.sweeper`.

    Raises:
        ConfigError: one that cannot be used.
    """
    words = {name: word for name, word in sweeper.items() if name not in BESIDE and not name.startswith("_")}
    limits = {name: words.pop(name) for name in Limits.__dataclass_fields__ if name in words}
    if limits.get("confirm") == AUTO:
        limits["confirm"] = None
    try:
        return parse(Settings, {**words, "limits": limits})
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        name, seen, expected = found["loc"][-1], found["input"], found["msg"].removeprefix("Input ")
        if name == "confirm":
            expected = f"is neither {AUTO} nor a number of rounds (0: none)"
        raise ConfigError(f"hydra.sweeper.{name}={seen} {expected}.") from error
