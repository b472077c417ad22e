"""Statistics of repeated measurements: means with 95% intervals, and whether one configuration beats another. Pure.

Student's t and Welch's test as in scipy.stats; ratios by the logarithm, whose differences are relative ones. Rounds
that measure both alternately are compared in pairs, which takes out what drifts (heat, neighbours, clocks).
"""

import math
from collections.abc import Sequence
from typing import Literal

from pipeline.core.values import value

CONFIDENCE = 0.95


@value
class Interval:
    """The mean of `count` measurements and the 95% t-interval of the mean; no ends with fewer than two."""

    mean: float
    low: float | None
    high: float | None
    count: int

    @property
    def half_width(self) -> float | None:
        """The noise floor as a share of the mean: smaller differences cannot be told from noise."""
        return (self.high - self.low) / 2 / abs(self.mean) if self.low is not None and self.high and self.mean else None


@value
class Comparison:
    """How much better one is than the other: 0.1 is 10% more throughput, or 10% less latency. 95% interval."""

    verdict: Literal["better", "worse", "no difference shown"]
    change: float
    low: float
    high: float
    noise: float  # half of the interval's width: a difference below it could not have been shown
    pairs: int  # rounds compared in pairs; 0: two independent groups

    def __str__(self) -> str:
        """E.g. `better by 12.1% [8.0%, 16.4%]`."""
        if self.verdict == "no difference shown":
            return f"{self.verdict} ({self.change:+.1%} [{self.low:+.1%}, {self.high:+.1%}])"
        low, high = sorted((abs(self.low), abs(self.high)))
        return f"{self.verdict} by {abs(self.change):.1%} [{low:.1%}, {high:.1%}]"


def interval(samples: Sequence[float]) -> Interval | None:
    """The mean with its interval; None without a sample."""
    if not samples:
        return None
    mean = math.fsum(samples) / len(samples)
    if len(samples) < 2:
        return Interval(mean=mean, low=None, high=None, count=len(samples))
    from scipy import stats

    half = float(stats.sem(samples)) * float(stats.t.ppf((1 + CONFIDENCE) / 2, len(samples) - 1))
    return Interval(mean=mean, low=mean - half, high=mean + half, count=len(samples))


def compare(
    ours: Sequence[float], theirs: Sequence[float], *, is_maximised: bool, is_paired: bool = False
) -> Comparison | None:
    """Ours against theirs by the ratio of geometric means; None with fewer than two samples of either, or of 0.

    Args:
        ours: one positive measurement per run.
        theirs: the same of what it is compared with; as many as ours where they are paired.
        is_maximised: more is better.
        is_paired: sample i of both was measured in the same round.
    """
    if min(len(ours), len(theirs)) < 2 or min(*ours, *theirs) <= 0:
        return None
    sign = 1 if is_maximised else -1
    mine, other = [sign * math.log(seen) for seen in ours], [sign * math.log(seen) for seen in theirs]
    change, low, high = (_gain(sign, end) for end in _difference(mine, other, is_paired=is_paired))
    return Comparison(
        verdict="better" if low > 0 else "worse" if high < 0 else "no difference shown",
        change=change,
        low=low,
        high=high,
        noise=(high - low) / 2,
        pairs=len(ours) if is_paired else 0,
    )


def _gain(sign: int, advantage: float) -> float:
    """Converts a difference of (signed) logarithms to a share of theirs."""
    return sign * math.expm1(sign * advantage)


def _difference(mine: Sequence[float], other: Sequence[float], *, is_paired: bool) -> tuple[float, float, float]:
    """The difference of the means and its interval."""
    from scipy import stats

    middle = math.fsum(mine) / len(mine) - math.fsum(other) / len(other)
    spread = [[a - b for a, b in zip(mine, other, strict=True)]] if is_paired else [mine, other]
    if all(math.isclose(min(group), max(group), rel_tol=1e-12, abs_tol=1e-12) for group in spread):
        return middle, middle, middle  # nothing varies: scipy has no test for that
    test = stats.ttest_rel(mine, other) if is_paired else stats.ttest_ind(mine, other, equal_var=False)
    low, high = test.confidence_interval(CONFIDENCE)
    return middle, float(low), float(high)
