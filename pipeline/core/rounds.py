"""The rounds that measure contenders and the baseline in turn: who has won, and what to measure next. Pure.

The search asks what is next while it runs; the verdict asks who has won. Both are answered here, from the same values.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from pipeline.core.record import Phase
from pipeline.core.sequential import Finding, Kind, Ratio, contradicts, judge
from pipeline.core.values import value

How = Literal["fine", "outside", "failed"]  # outside: measured, but not inside the SLO


@value
class Sample:
    """One measurement of a configuration. `of` is the number of the configuration's first trial."""

    number: int
    of: int
    how: How
    score: float  # the objective; of several, their volume. Of use where it is fine
    place: str  # host and GPUs
    phase: Phase = "search"


@value
class Contest:
    """One contender against the baseline, under the traffic of the phase."""

    contender: int
    phase: Phase
    finding: Finding


@value
class Step:
    """The configuration to measure next."""

    of: int
    phase: Phase


@value
class Decision:
    """The contests in their order, and what is next; without a next step nothing is left to measure."""

    contests: tuple[Contest, ...] = ()
    held_out: Contest | None = None
    winner: int | None = None  # None: the baseline stays
    next: Step | None = None


@value
class Rules:
    """How contenders are tried."""

    planned: int | None  # rounds for each, looked at once at their end; None: as many as the bounds take
    held_out: int | None = 0  # rounds for the winner under other traffic, likewise; 0: none
    is_maximised: bool = True  # more is better


def decide(samples: Sequence[Sample], contenders: Sequence[int], baseline: int, rules: Rules) -> Decision:
    """Which contender wins; each is tried only when the ones before it have fallen.

    Args:
        samples: all measurements, by number.
        contenders: configurations, the likeliest first.
        baseline: the configuration that they are compared with.
        rules: how they are tried.
    """
    contests: list[Contest] = []
    for contender in contenders:
        tried, step = contest(samples, contender, baseline, "confirm", rules)
        found = tried.finding
        contests.append(tried)
        if step is not None:
            return Decision(contests=tuple(contests), next=step)
        if found.word == "void":
            break  # the baseline cannot be measured: no other contender can be held against it
        if found.has_won:
            return _under_other_traffic(samples, contests, baseline, rules)
    return Decision(contests=tuple(contests))


def contest(
    samples: Sequence[Sample], contender: int, other: int, phase: Phase, rules: Rules
) -> tuple[Contest, Step | None]:
    """What the rounds of these two show, and what to measure next; None: no more is needed."""
    seen = _rounds(samples, contender, other, phase)
    found = judge([one.ratio(is_maximised=rules.is_maximised) for one in seen], rules.planned)
    step = _step(samples, contender, other, phase, len(seen)) if found.word == "open" else None
    return Contest(contender=contender, phase=phase, finding=found), step


def _under_other_traffic(
    samples: Sequence[Sample], contests: Sequence[Contest], baseline: int, rules: Rules
) -> Decision:
    """The last contest was won: whether it holds under traffic that the search did not use."""
    winner = contests[-1].contender
    if rules.held_out == 0:
        return Decision(contests=tuple(contests), winner=winner)
    seen = _rounds(samples, winner, baseline, "held_out")
    found = judge([one.ratio(is_maximised=rules.is_maximised) for one in seen], rules.held_out)
    return Decision(
        contests=tuple(contests),
        held_out=Contest(contender=winner, phase="held_out", finding=found),
        winner=None if contradicts(found) else winner,
        next=_step(samples, winner, baseline, "held_out", len(seen)) if found.word == "open" else None,
    )


@value
class Round:
    """Both measured next to each other."""

    ours: Sample
    theirs: Sample

    def ratio(self, *, is_maximised: bool) -> Ratio:
        """What it counts for."""
        kind = self._kind()
        advantage = math.log(self.ours.score / self.theirs.score) if kind == "pair" else 0.0
        return Ratio(kind=kind, advantage=advantage if is_maximised else -advantage, is_maximised=is_maximised)

    def _kind(self) -> Kind:
        if self.ours.place != self.theirs.place:
            return "elsewhere"
        if self.ours.how != "fine":
            return "lost"
        if self.theirs.how == "fine":
            return "pair"
        return "only_ours" if self.theirs.how == "outside" else "void"


def _rounds(samples: Iterable[Sample], contender: int, baseline: int, phase: Phase) -> list[Round]:
    """Neighbours in time, one of each; a measurement whose counterpart is missing is in none."""
    found: list[Round] = []
    left: Sample | None = None
    for one in samples:
        if one.phase != phase:
            continue
        if left is not None and {left.of, one.of} == {contender, baseline}:
            ours, theirs = (left, one) if left.of == contender else (one, left)
            found.append(Round(ours=ours, theirs=theirs))
            left = None
        elif left is not None and baseline in {left.of, one.of} and left.of != one.of:
            left = None  # a round of another contender
        else:
            left = one
    return found


def _step(samples: Sequence[Sample], contender: int, baseline: int, phase: Phase, had: int) -> Step:
    """The missing half of a round, else the first of a new one; who is first alternates: what drifts cancels out."""
    left = None
    for one in (one for one in samples if one.phase == phase):
        is_whole = left is not None and baseline in {left.of, one.of} and left.of != one.of
        left = None if is_whole else one
    if left is not None and left.of in {contender, baseline}:
        return Step(of=baseline if left.of == contender else contender, phase=phase)
    return Step(of=contender if had % 2 == 0 else baseline, phase=phase)


def in_turns(samples: Sequence[Sample], baseline: int) -> list[Sample]:
    """Rounds of many, as if each of them had been measured next to the baseline of its turn."""
    bases = [one for one in samples if one.of == baseline and one.phase == "confirm"]
    had: dict[int, int] = {}
    found = []
    for one in (one for one in samples if one.of != baseline and one.phase == "confirm"):
        turn = had.get(one.of, 0)
        had[one.of] = turn + 1
        found += [one, bases[turn]] if turn < len(bases) else []
    return found
