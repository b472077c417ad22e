"""Compares strategies: ratios with bootstrap intervals over landscapes and seeds, and paired tests. Pure.

A ratio is the geometric mean over landscapes of ratios of medians or means over seeds. Every strategy meets the same
noise under the same seed, so that seeds are pairs: Wilcoxon's signed-rank test on T5, Holm-corrected over landscapes.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.values import value
from pipeline.replay.landscape import Numbers
from pipeline.replay.measures import Table

RESAMPLES, CURVE_RESAMPLES = 2_000, 500
ALPHA = 0.05
Word = Literal["faster", "slower", "no difference shown"]


@value
class Ratio:
    """With its 95% interval; below 1 is better."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        """E.g. `0.44 [0.36, 0.55]`."""
        return f"{self.ratio:.2f} [{self.low:.2f}, {self.high:.2f}]"


@value
class Test:
    """One landscape: whether a strategy needs less time than the reference."""

    landscape: str
    word: Word
    p: float  # after Holm's correction
    difference: float  # of the mean T5, in whole trials; below 0: less time


@value
class Against:
    """A strategy against a reference."""

    strategy: str
    reference: str
    t5_median: Ratio
    t5_mean: Ratio
    crashes: Ratio | None  # of the shares of trials that crash; None: none of the reference's do
    tests: tuple[Test, ...]

    def count(self, word: Word) -> int:
        """On how many landscapes."""
        return sum(one.word == word for one in self.tests)


@value
class Curve:
    """The mean over landscapes of the true score of what is recommended, over time, with its 95% interval."""

    strategy: str
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class Resamples:
    """The same ones for every comparison: landscapes, and seeds within each of them."""

    def __init__(self, landscapes: int, seeds: int, *, count: int, seed: int = 0) -> None:
        dice = np.random.default_rng(seed)
        self.rows = dice.integers(landscapes, size=(count, landscapes))[:, :, None]
        self.columns = dice.integers(seeds, size=(count, landscapes, seeds))

    def of(self, cells: Numbers) -> Numbers:
        """Resamples x landscapes x seeds."""
        found: Numbers = cells[self.rows, self.columns]
        return found


def against(name: str, reference: str, all_of: Mapping[str, Table], landscapes: Sequence[str]) -> Against:
    """One against another."""
    ours, theirs = all_of[name], all_of[reference]
    resamples = Resamples(*ours.t5.shape[:2], count=RESAMPLES)
    return Against(
        strategy=name,
        reference=reference,
        t5_median=_ratio(ours.t5, theirs.t5, resamples, np.median),
        t5_mean=_ratio(ours.t5, theirs.t5, resamples, np.mean),
        crashes=_crashes(ours, theirs, resamples),
        tests=_tests(ours.t5, theirs.t5, landscapes),
    )


def _ratio(ours: Numbers, theirs: Numbers, resamples: Resamples, middle: Callable[..., Numbers]) -> Ratio:
    def of(mine: Numbers, other: Numbers) -> Numbers:
        logs = np.log(middle(mine, axis=-1)) - np.log(middle(other, axis=-1))
        found: Numbers = np.exp(logs.mean(axis=-1))
        return found

    return _with_interval(float(of(ours, theirs)), of(resamples.of(ours), resamples.of(theirs)))


def _crashes(ours: Table, theirs: Table, resamples: Resamples) -> Ratio | None:
    def share(one: Table) -> Numbers:
        found: Numbers = resamples.of(one.crashed).sum(axis=(1, 2)) / resamples.of(one.deployed).sum(axis=(1, 2))
        return found

    if not theirs.crashed.sum():
        return None
    whole = (ours.crashed.sum() / ours.deployed.sum()) / (theirs.crashed.sum() / theirs.deployed.sum())
    mine, other = share(ours), share(theirs)
    return _with_interval(float(whole), mine[other > 0] / other[other > 0])


def _with_interval(ratio: float, drawn: Numbers) -> Ratio:
    low, high = np.quantile(drawn, [ALPHA / 2, 1 - ALPHA / 2])
    return Ratio(ratio=ratio, low=float(low), high=float(high))


def _tests(ours: Numbers, theirs: Numbers, landscapes: Sequence[str]) -> tuple[Test, ...]:
    raw = [_wilcoxon(mine - other) for mine, other in zip(ours, theirs, strict=True)]
    found = []
    for name, p, apart in zip(landscapes, holm(raw), (ours - theirs).mean(axis=1), strict=True):
        word: Word = "no difference shown" if p > ALPHA else "faster" if apart < 0 else "slower"
        found.append(Test(landscape=name, word=word, p=p, difference=float(apart)))
    return tuple(found)


def _wilcoxon(apart: Numbers) -> float:
    """The two-sided p-value; 1 where nothing differs."""
    from scipy import stats

    if not np.any(apart):
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ties and few pairs make it fall back to the normal approximation
        return float(stats.wilcoxon(apart).pvalue)


def holm(raw: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979)."""
    found = [1.0] * len(raw)
    highest = 0.0
    for place, at in enumerate(sorted(range(len(raw)), key=raw.__getitem__)):
        highest = max(highest, min(1.0, (len(raw) - place) * raw[at]))
        found[at] = highest
    return found


def curve(name: str, table: Table) -> Curve:
    """One strategy's."""
    cells: NDArray[np.float64] = table.curves
    resamples = Resamples(*table.t5.shape[:2], count=CURVE_RESAMPLES)
    drawn = np.array(
        [
            cells[rows, columns].mean(axis=(0, 1))
            for rows, columns in zip(resamples.rows, resamples.columns, strict=True)
        ]
    )
    low, high = np.quantile(drawn, [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    return Curve(strategy=name, mean=tuple(cells.mean(axis=(0, 1))), low=tuple(low), high=tuple(high))
