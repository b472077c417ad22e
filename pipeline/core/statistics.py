"""Statistics of repeated measurements: means with 95% intervals, and how much better one configuration is. Pure.

Student's t and Welch's test as in scipy.stats; ratios by the logarithm, whose differences are relative ones. Rounds
that measure both alternately are compared in pairs, which takes out what drifts (heat, neighbours, clocks); which
rounds decide is in `core/rounds.py`.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Literal

from pipeline.core.values import value

CONFIDENCE = 0.95
SPREAD = 0.03  # of one measurement of a level on a quiet machine: 1 to 6% in published repeats
SDS = 2.0  # standard deviations of a measurement that may be luck


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
    """How much better one is than the other: 0.1 is 10% more throughput, or 10% less latency."""

    verdict: Literal["better", "worse", "no difference shown"]
    change: float
    low: float | None  # the interval's ends; None: measured too rarely to have any
    high: float | None
    pairs: int  # rounds compared in pairs; 0: two independent groups

    @property
    def margin(self) -> float | None:
        """What to print behind ±: the way to the end that is nearer to zero where a difference is shown, else farther.

        Intervals of ratios are wider above than below. So printed, ± is below the change exactly where one is shown.
        """
        if self.low is None or self.high is None:
            return None
        below, above = self.change - self.low, self.high - self.change
        if self.verdict == "no difference shown":
            return max(below, above)
        return below if self.verdict == "better" else above

    def __str__(self) -> str:
        """E.g. `better by 12.1% [8.0%, 16.4%]`."""
        if self.low is None or self.high is None:
            return f"{self.change:+.1%} ({'once' if self.pairs == 1 else f'{self.pairs} rounds'})"
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


def compare(ours: Sequence[float], theirs: Sequence[float], *, is_maximised: bool, count: int = 1) -> Comparison | None:
    """Two independent groups by the ratio of geometric means and Welch's 95% interval.

    `count`: of comparisons that are read together; then all their intervals are right with 95% (Bonferroni). None with
    fewer than two samples of either, or of 0.
    """
    if min(len(ours), len(theirs)) < 2 or min(*ours, *theirs) <= 0:
        return None
    sign = 1 if is_maximised else -1
    mine, other = [sign * math.log(seen) for seen in ours], [sign * math.log(seen) for seen in theirs]
    return _compared(sign, *_difference(mine, other, 1 - (1 - CONFIDENCE) / count), pairs=0)


def paired(advantages: Sequence[float], bound: float | None, *, is_maximised: bool) -> Comparison:
    """Rounds by the logarithm of each one's advantage; the interval is as wide as the test's bound on t says.

    One round, or no bound: a change without an interval, and nothing shown.
    """
    count, sign = len(advantages), 1 if is_maximised else -1
    mean = math.fsum(advantages) / count
    if count < 2 or bound is None:
        return _compared(sign, mean, None, None, pairs=count)
    spread = math.sqrt(math.fsum((one - mean) ** 2 for one in advantages) / (count - 1) / count)
    return _compared(sign, mean, mean - bound * spread, mean + bound * spread, pairs=count)


def _compared(sign: int, middle: float, low: float | None, high: float | None, *, pairs: int) -> Comparison:
    is_shown = low is not None and high is not None and (low > 0 or high < 0)
    return Comparison(
        verdict="no difference shown" if not is_shown else "better" if middle > 0 else "worse",
        change=_gain(sign, middle),
        low=None if low is None else _gain(sign, low),
        high=None if high is None else _gain(sign, high),
        pairs=pairs,
    )


def _gain(sign: int, advantage: float) -> float:
    """Converts a difference of (signed) logarithms to a share of theirs."""
    try:
        return sign * math.expm1(sign * advantage)
    except OverflowError:  # the end of an interval of two rounds that differ widely
        return sign * math.inf


def _difference(mine: Sequence[float], other: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """The difference of the means and its interval."""
    from scipy import stats

    middle = math.fsum(mine) / len(mine) - math.fsum(other) / len(other)
    if all(math.isclose(min(group), max(group), rel_tol=1e-12, abs_tol=1e-12) for group in (mine, other)):
        return middle, middle, middle  # nothing varies: scipy has no test for that
    with warnings.catch_warnings(category=RuntimeWarning, action="ignore"):  # that one of the groups does not vary
        low, high = stats.ttest_ind(mine, other, equal_var=False).confidence_interval(confidence)
    return middle, float(low), float(high)
