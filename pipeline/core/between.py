"""The rounds that hold the best configurations of several engines against each other. Pure.

As in `core/rounds.py`, the search asks what is next while it runs, and the verdict who has won.
"""

from collections.abc import Mapping, Sequence

from pipeline.core import rounds
from pipeline.core.rounds import Contest, Decision, Rules, Sample
from pipeline.core.sequential import contradicts
from pipeline.core.values import value


@value
class Match:
    """One engine's best against another's. `contest.contender` is the one that leads in the search."""

    against: int
    contest: Contest

    @property
    def leader(self) -> int:
        """Which of both is ahead by these rounds."""
        return self.against if contradicts(self.contest.finding) else self.contest.contender

    @property
    def is_shown(self) -> bool:
        """Whether the rounds show that one is better; that one failed in them is shown as well."""
        return self.contest.finding.word in {"better", "worse", "lost", "void"}


@value
class Matches:
    """The matches in their order, and what is next; without a next step nothing is left to measure."""

    played: tuple[Match, ...] = ()
    leader: int | None = None
    next: rounds.Step | None = None


def champion(found: Decision, stays: int | None) -> int | None:
    """What one engine sends: the winner over its baseline, else the baseline if it meets the SLO, else a contender."""
    if found.winner is not None:
        return found.winner
    if stays is not None:
        return stays
    kept = (one.contender for one in found.contests if not contradicts(one.finding))
    return next(kept, None)


def decide(samples: Sequence[Sample], champions: Mapping[int, float], rules: Rules) -> Matches:
    """Which of the champions is best: the one that leads against each other, in turn.

    Args:
        samples: all measurements, by number.
        champions: the best configuration of each engine, with its score in the search.
        rules: how they are tried.
    """
    sign = -1 if rules.is_maximised else 1
    order = sorted(champions, key=lambda number: (sign * champions[number], number))
    if not order:
        return Matches()
    leader, *others = order
    played: list[Match] = []
    for other in others:
        found, step = rounds.contest(samples, leader, other, "between", rules)
        played.append(Match(against=other, contest=found))
        if step is not None:
            return Matches(played=tuple(played), leader=leader, next=step)
        leader = played[-1].leader
    return Matches(played=tuple(played), leader=leader)
