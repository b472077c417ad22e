"""The settings of the sweeper `tuner`: when it stops, what it measures again, where its study is stored."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from pipeline.core.errors import ConfigError
from pipeline.core.values import parse, switches, value

BESIDE = ("sampler", "params")  # of hydra.sweeper: what is searched, and how
SECTION = "hydra.sweeper"
AUTO = "auto"  # as many rounds of confirmation as the test takes
LARGEST = 2**63 - 1  # integer that engines, their wrappers and databases hold
LONGEST_S = 1e9  # no wait is meant to be longer than 30 years, and timers overflow
MOST_TRIALS = 1_000_000
SEARCH_SHARE = 0.7  # of the time and GPU hours; the rest is for the confirmation


@value
class Limits:
    """When to stop starting trials, and what to measure again. None: no limit."""

    n_trials: int | None = Field(default=None, ge=1, le=MOST_TRIALS)  # deployed ones: not the answered, not the repeats
    timeout_s: float | None = Field(default=None, gt=0, le=LONGEST_S)
    gpu_hours: float | None = Field(default=None, gt=0, le=LONGEST_S)
    repeats: int = Field(default=1, ge=1, le=MOST_TRIALS)  # measurements of each configuration
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

    def reached(self, folder: Path) -> str:
        """What to say of a search in this folder whose time was over before its trials were."""
        given = {"timeout_s": self.timeout_s, "gpu_hours": self.gpu_hours}
        told = " and ".join(f"hydra.sweeper.{name}={most:g}" for name, most in given.items() if most is not None)
        kept = f" ({1 - SEARCH_SHARE:.0%} of it is kept for the confirmation)" if self.confirms else ""
        return (
            f"Not every trial was run: the limit is {told}{kept}. The same command with a larger one and "
            f"hydra.sweep.dir={folder} goes on."
        )


@value
class Settings:
    """The sweeper's part of the configuration, except for the sampler and the search space."""

    storage: str | None = None
    study_name: str | None = None
    n_jobs: int | None = Field(default=None, ge=1)
    baseline: bool = True
    racing: bool = True
    learn_from: tuple[str, ...] = ()  # folders of earlier sweeps
    limits: Limits


def settings_of(sweeper: Mapping[str, Any]) -> Settings:
    """The settings in `hydra.sweeper`.

    Raises:
        ConfigError: one that cannot be used.
    """
    words = {name: word for name, word in sweeper.items() if name not in BESIDE and not name.startswith("_")}
    limits = {name: words.pop(name) for name in Limits.__dataclass_fields__ if name in words}
    words["learn_from"] = _listed(words.get("learn_from"))
    if limits.get("confirm") == AUTO:
        limits["confirm"] = None
    try:
        made = parse(Settings, {**words, "limits": limits})
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        name = next(part for part in reversed(found["loc"]) if isinstance(part, str))  # not the place in a list
        seen, expected = found["input"], found["msg"].removeprefix("Input ")
        if name == "confirm":
            expected = f"is neither {AUTO} nor a number of rounds (0: none)"
        raise ConfigError(f"hydra.sweeper.{name}={seen} {expected}.") from error
    if told := [*switches(words, made, SECTION), *switches(limits, made.limits, SECTION)]:
        raise ConfigError(f"{told[0]}.")
    return made


def _listed(given: Any) -> Any:
    """One folder, some, or none."""
    if given is None or isinstance(given, str):
        return (given,) if given else ()
    return tuple(given) if isinstance(given, Sequence) else given
