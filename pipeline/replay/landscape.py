"""What a search is replayed on: a space of which every configuration's result, time and failure is known. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError
from pipeline.sweep.search.space import Params, Space, spelled

Numbers = NDArray[np.float64]
Picks = tuple[str, ...]  # a value for each dimension, as an override spells it
DEFAULT_QUANTILE = 0.6  # where the engine's defaults are not known: they are decent, seldom good


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape:
    """Rows are configurations; what is no row is refused, as by the rules. More is better; nan: it fails."""

    name: str
    kind: Literal["table", "sweep", "synthetic"]
    source: str  # for people
    space: Space
    picks: Sequence[Picks]  # the combination of each row
    rows: Mapping[Picks, int]  # the way back
    truth: Numbers  # the score without noise
    levels: tuple[str, ...]  # in rising load
    speed: Numbers  # rows x levels: the score of each level without noise; its maximum inside the SLO is the truth
    latency: Numbers | None  # rows x levels: shares of the SLO's limit; None: there is no SLO
    startup_s: Numbers  # up to the first level, and what comes after the last one
    level_s: Numbers  # rows x levels
    failure: tuple[str, ...]  # of each row; empty: it does not fail
    crash_s: Numbers  # when it fails
    noise: float  # standard deviation of the logarithm of what is measured
    default: int  # the row of the engine's defaults

    @property
    def best(self) -> float:
        """The highest score that can be had."""
        return float(np.nanmax(self.truth))

    @property
    def whole_s(self) -> float:
        """What a trial that measures every level takes: the median. The unit of time in results."""
        fine = np.isfinite(self.truth)
        return float(np.median(self.startup_s[fine] + self.level_s[fine].sum(axis=1)))

    @property
    def crash_share(self) -> float:
        """How much of the space fails."""
        return float(np.mean(~np.isfinite(self.truth)))

    def row(self, params: Params) -> int | None:
        """The row of a combination; None: it is refused."""
        return self.rows.get(tuple(spelled(params[name]) for name in self.space.names))

    def params(self, row: int) -> dict[str, str]:
        """The combination in a row."""
        return dict(zip(self.space.names, self.picks[row], strict=True))


def facts(found: Landscape) -> dict[str, Any]:
    """A landscape in a few numbers, for the report."""
    return {
        "name": found.name,
        "kind": found.kind,
        "source": found.source,
        "configurations": len(found.truth),
        "knobs": len(found.space.dimensions),
        "crash_share": found.crash_share,
        "default": float(found.truth[found.default] / found.best),
        "within_5_percent": float(np.mean(found.truth >= 0.95 * found.best)),
        "noise": found.noise,
        "whole_trial_s": found.whole_s,
        "startup_share": float(np.nanmedian(found.startup_s)) / found.whole_s,
        "levels": len(found.levels),
        "has_slo": found.latency is not None,
    }


def check(name: str, truth: Numbers, space: Space) -> None:
    """Refuse what cannot be searched.

    Raises:
        ConfigError: with what was expected.
    """
    fine = truth[np.isfinite(truth)]
    if not len(truth):
        raise ConfigError(f"{name} has no rows. Expected one row for each configuration.")
    if not len(fine):
        raise ConfigError(f"{name}: every score is missing. Expected a number for each configuration that works.")
    if len(truth) < 2 or all(one.size == 1 for one in space.dimensions):
        raise ConfigError(f"{name} has a single configuration: there is nothing to search.")
    if np.any(fine < 0) or not np.any(fine > 0):
        raise ConfigError(
            f"{name}: scores from {fine.min():.4g} to {fine.max():.4g}. Expected numbers above 0, of which more is "
            f"better, for results are given as shares of the best. Use e.g. the reciprocal of a latency."
        )


def default_row(truth: Numbers, dice: np.random.Generator, *, at: float | None) -> int:
    """A row to take for the engine's defaults: the one whose score is nearest to this share `at` of the best.

    Without one: a decent row, drawn among the nearest to a quantile of those that work.
    """
    fine = np.flatnonzero(np.isfinite(truth) & (truth > 0))
    if at is not None:
        return int(fine[np.argmin(np.abs(truth[fine] - at * truth[fine].max()))])
    ordered = fine[np.argsort(truth[fine], kind="stable")]
    near = round(DEFAULT_QUANTILE * (len(ordered) - 1))
    few = ordered[max(0, near - 2) : near + 3]
    return int(few[dice.integers(len(few))])
