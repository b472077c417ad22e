"""What evaluations say of a configuration, and how two of them compare. Pure.

A task's score has the standard error that lm-eval gives. Two configurations have answered the same items, so their
difference is taken item by item: that takes out how hard the items are, and its interval is narrower than two apart.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from pipeline.core.values import value

FOLDER = "evals"  # of a trial: what lm-eval has written; of a sweep: the trials that were evaluated at its end
Z_95 = 1.96  # half of a 95% interval, in standard errors: tasks have a hundred items and more
RULE_OF_THREE = 3.0  # what never happened in n tries happens in at most 3/n of them, with 95%


@value
class Score:
    """One metric of one task. `error`: the standard error of its value; None: lm-eval does not give it."""

    task: str
    metric: str
    filter: str
    value: float
    error: float | None
    items: int
    is_higher_better: bool = True

    @property
    def name(self) -> str:
        """E.g. `gsm8k exact_match (strict-match)`."""
        return f"{self.task} {self.metric}" + ("" if self.filter == "none" else f" ({self.filter})")


@value
class Evaluation:
    """All scores of one configuration."""

    scores: tuple[Score, ...]
    seconds: float
    version: str  # of lm-eval


@value
class Change:
    """A score of the winner against the baseline's. The interval is of the difference; None: nobody can tell."""

    name: str
    items: int
    baseline: float
    winner: float
    difference: float  # winner - baseline
    half_width: float | None
    is_paired: bool
    is_higher_better: bool

    @property
    def verdict(self) -> Literal["better", "worse", "no difference shown"]:
        """What the interval shows."""
        if self.half_width is None or abs(self.difference) <= self.half_width:
            return "no difference shown"
        return "better" if (self.difference > 0) == self.is_higher_better else "worse"

    @property
    def interval(self) -> str:
        """Of the difference, with 95%: `[-0.021, +0.005]`; empty where nobody can tell."""
        if self.half_width is None:
            return ""
        return f"[{self.difference - self.half_width:+.3f}, {self.difference + self.half_width:+.3f}]"

    def __str__(self) -> str:
        """E.g. `gsm8k exact_match: 0.412, baseline 0.420, difference -0.008 [-0.021, +0.005]: ... (1319 items)`."""
        told = f"{self.name}: {self.winner:.3f}, baseline {self.baseline:.3f}, difference {self.difference:+.3f}"
        if self.half_width is not None:
            told += f" {self.interval}"
        return f"{told}: {self.verdict} ({self.items} items{'' if self.is_paired else ', not in pairs'})"


@value
class Evaluated:
    """`evals.json` of a sweep: the trials that were compared, and each score."""

    winner: int
    baseline: int
    changes: tuple[Change, ...]


Items = Mapping[str, Mapping[str, float]]  # of each score, by its name: of each item, by its hash


def compare(winner: Evaluation, baseline: Evaluation, ours: Items, theirs: Items) -> tuple[Change, ...]:
    """Every score that both have, in the order of the winner's."""
    base = {one.name: one for one in baseline.scores}
    pairs = ((mine, base[mine.name]) for mine in winner.scores if mine.name in base)
    return tuple(_change(mine, other, ours.get(mine.name, {}), theirs.get(mine.name, {})) for mine, other in pairs)


def _change(mine: Score, other: Score, ours: Mapping[str, float], theirs: Mapping[str, float]) -> Change:
    both = [ours[item] - theirs[item] for item in ours if item in theirs]
    is_paired = len(both) > 1 and len(both) == mine.items == other.items
    return Change(
        name=mine.name,
        items=len(both) if is_paired else min(mine.items, other.items),
        baseline=other.value,
        winner=mine.value,
        difference=math.fsum(both) / len(both) if is_paired else mine.value - other.value,
        half_width=_paired(both) if is_paired else _apart(mine, other),
        is_paired=is_paired,
        is_higher_better=mine.is_higher_better,
    )


def _paired(differences: Sequence[float]) -> float:
    """Of shares of right answers, at least what the rule of three leaves open where no item differs: 3 / items."""
    count = len(differences)
    mean = math.fsum(differences) / count
    seen = Z_95 * math.sqrt(math.fsum((one - mean) ** 2 for one in differences) / (count - 1) / count)
    return max(seen, RULE_OF_THREE / count) if all(abs(one) <= 1 for one in differences) else seen


def _apart(mine: Score, other: Score) -> float | None:
    return None if mine.error is None or other.error is None else Z_95 * math.hypot(mine.error, other.error)
