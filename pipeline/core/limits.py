"""The settings of the sweeper `tuner`: when it stops, what it measures again, where its study is stored."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from pipeline.core.errors import ConfigError
from pipeline.core.values import parse, value

BESIDE = ("sampler", "params")  # of hydra.sweeper: what is searched, and how


@value
class Limits:
    """When to stop starting trials, and what to measure again. None: no limit."""

    n_trials: int | None = Field(default=None, ge=1)  # deployed ones: not the answered, not the repeats
    timeout_s: float | None = Field(default=None, gt=0)
    gpu_hours: float | None = Field(default=None, gt=0)
    repeats: int = Field(default=1, ge=1)  # measurements of each configuration
    confirm: int = Field(default=0, ge=0)  # rounds that measure the winner and the baseline again
    held_out: str | None = None  # a traffic under which both are measured as well


@value
class Settings:
    """The sweeper's part of the configuration, except for the sampler and the search space."""

    storage: str | None = None
    study_name: str | None = None
    n_jobs: int | None = Field(default=None, ge=1)
    baseline: bool = True
    limits: Limits


def settings_of(sweeper: Mapping[str, Any]) -> Settings:
    """The settings in `hydra.sweeper`.

    Raises:
        ConfigError: one that cannot be used.
    """
    words = {name: word for name, word in sweeper.items() if name not in BESIDE and not name.startswith("_")}
    limits = {name: words.pop(name) for name in Limits.__dataclass_fields__ if name in words}
    try:
        return parse(Settings, {**words, "limits": limits})
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        name, seen, expected = found["loc"][-1], found["input"], found["msg"].removeprefix("Input ")
        raise ConfigError(f"hydra.sweeper.{name}={seen} {expected}.") from error
