"""Whether rounds show that a contender beats the baseline: a group-sequential t-test on their log-ratios. Pure.

After 3, 4, 5 and 6 rounds the statistic is held against a bound of its own: with a fixed 95% interval, each further
look would be another chance to call noise a winner. The bounds have Wang and Tsiatis' shape (Biometrics 43, 1987),
half-way between Pocock's (1977) and O'Brien and Fleming's (1979), turned into t quantiles by the significance level
approach of Jennison and Turnbull (Group Sequential Methods, 2000). They were calibrated by simulation, since t has few
degrees of freedom here: `benchmarks/verdict.py --derive`.

Intervals use the bound of the look at which they are read (repeated confidence intervals, ibid., chapter 9): one
excludes zero exactly when the test says so, whenever one stops.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Literal

from pipeline.core.statistics import Comparison, paired
from pipeline.core.values import value

CONTENDERS = 3  # tried one after another, each only when the one before was not confirmed
FALSE_WINNERS = 0.04  # chance that any of them is named where all are equal to the baseline
ALPHA = 1 - (1 - FALSE_WINNERS) ** (1 / CONTENDERS)  # for one of them, one-sided
BOUNDS = {3: 16.04, 4: 6.57, 5: 4.48, 6: 3.63}  # rounds that count: t above which the contender is better
FUTILE = {3: 0.5, 4: 1.0, 5: 1.5}  # t below which more rounds would hardly help; it can only lower false winners
MOST, SPARE = max(BOUNDS), 3  # rounds that count; others that may be spent on rounds that do not count
OUTRIGHT = 3  # rounds in which only the contender was inside the SLO: as good as a bound

Kind = Literal["pair", "only_ours", "lost", "void", "elsewhere"]
Word = Literal["open", "better", "worse", "no difference shown", "once", "contradicted", "lost", "void"]
WON: tuple[Word, ...] = ("better", "once")


@value
class Finding:
    """What the rounds show of one contender. `better` and `once` (as good as one round can say) may win."""

    word: Word
    comparison: Comparison | None = None  # None: no round in which both have a number
    rounds: int = 0  # that count
    only_ours: int = 0  # rounds in which the contender met the SLO and the baseline did not
    lost: int = 0  # rounds in which the contender failed or missed the SLO
    void: int = 0  # rounds in which the baseline failed
    elsewhere: int = 0  # rounds that did not run on one host and the same GPUs

    @property
    def has_won(self) -> bool:
        """Whether this contender may be recommended."""
        return self.word in WON


@value
class Ratio:
    """A round as the test takes it: the logarithm of how much better the contender was."""

    kind: Kind
    advantage: float = 0.0
    is_maximised: bool = True


def judge(rounds: Sequence[Ratio], planned: int | None) -> Finding:
    """What rounds show, in the order in which they were run; `planned` as in `decide`."""
    if planned is None:
        return _by_bounds(rounds)
    if given_up := _given_up(rounds):
        return _finding(given_up, rounds)
    if len(rounds) < planned:
        return _finding("open", rounds)
    return _at_the_end(rounds, planned)


def _by_bounds(rounds: Sequence[Ratio]) -> Finding:
    """The first look at which the test stops; looks are at 3 to 6 rounds that count."""
    for end in range(1, len(rounds) + 1):
        seen = rounds[:end]
        if given_up := _given_up(seen):
            return _finding(given_up, seen)
        kinds = [one.kind for one in seen]
        count = kinds.count("pair")
        if not count and kinds.count("only_ours") == OUTRIGHT:
            return _finding("better", seen)
        if kinds[-1] == "pair" and count in BOUNDS and (found := _look(seen, BOUNDS[count], FUTILE.get(count))):
            return found
        if end == MOST + SPARE:
            return _finding("no difference shown", seen, BOUNDS.get(count))
    return _finding("open", rounds, BOUNDS.get(sum(one.kind == "pair" for one in rounds)))


def _look(rounds: Sequence[Ratio], bound: float, futile: float | None) -> Finding | None:
    """What a look decides; None: go on."""
    found = _tested(rounds, bound)
    is_over = found.word != "no difference shown" or futile is None or _t(rounds) < futile
    return found if is_over else None


def _at_the_end(rounds: Sequence[Ratio], planned: int) -> Finding:
    """The one look of a fixed number of rounds. One round that counts shows nothing: it can only contradict."""
    count = sum(one.kind == "pair" for one in rounds)
    only_ours = sum(one.kind == "only_ours" for one in rounds)
    if not count:
        enough = only_ours >= min(planned, OUTRIGHT)
        return _finding(("better" if planned >= OUTRIGHT else "once") if enough else "no difference shown", rounds)
    if count == 1:
        is_for = next(one.advantage for one in rounds if one.kind == "pair") > 0
        return _finding(
            "once" if is_for and planned == 1 else "contradicted" if not is_for else "no difference shown", rounds
        )
    return _tested(rounds, _single(count))


def _tested(rounds: Sequence[Ratio], bound: float) -> Finding:
    """By the interval that this bound gives."""
    found = _finding("no difference shown", rounds, bound)
    return replace(found, word=found.comparison.verdict) if found.comparison else found


def _finding(word: Word, rounds: Sequence[Ratio], bound: float | None = None) -> Finding:
    kinds = [one.kind for one in rounds]
    pairs = [one for one in rounds if one.kind == "pair"]
    is_maximised = all(one.is_maximised for one in rounds)
    return Finding(
        word=word,
        comparison=paired([one.advantage for one in pairs], bound, is_maximised=is_maximised) if pairs else None,
        rounds=len(pairs),
        only_ours=kinds.count("only_ours"),
        lost=kinds.count("lost"),
        void=kinds.count("void"),
        elsewhere=kinds.count("elsewhere"),
    )


def _given_up(rounds: Sequence[Ratio]) -> Word | None:
    """After two rounds in a row in which the contender (`lost`) or the baseline (`void`) could not be measured.

    Also after three on different hosts: then all will be (`void`).
    """
    last: list[str] = [one.kind for one in rounds[-3:]]
    if last[-2:] == ["lost"] * 2:
        return "lost"
    return "void" if last[-2:] == ["void"] * 2 or last == ["elsewhere"] * 3 else None


def _t(rounds: Sequence[Ratio]) -> float:
    """The statistic; infinite where nothing varies."""
    seen = [one.advantage for one in rounds if one.kind == "pair"]
    mean = math.fsum(seen) / len(seen)
    spread = math.fsum((one - mean) ** 2 for one in seen) / (len(seen) - 1)
    return mean / math.sqrt(spread / len(seen)) if spread else math.copysign(math.inf, mean)


@cache
def _single(count: int) -> float:
    """The bound for one look at so many rounds."""
    from scipy import stats

    return float(stats.t.isf(ALPHA, count - 1))


def contradicts(found: Finding) -> bool:
    """Whether rounds speak against a contender: it was worse, or not better by their mean, or could not be measured."""
    if found.word in {"worse", "contradicted", "lost"}:
        return True
    return found.word == "no difference shown" and (found.comparison is None or found.comparison.change <= 0)
