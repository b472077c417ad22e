"""Which level of a trial is measured next, and when it is stopped because it can no longer win. Pure.

Scores are logarithms of the objective with its sign, so that more is better and differences are shares. Levels are
numbered by rising load.
"""

import math
from collections.abc import Sequence

from pydantic import Field

from pipeline.core.values import value

BOUND = 2.0  # standard deviations of the noise above the score that a trial may still be worth


@value
class Measured:
    """One level of the trial that runs."""

    level: int
    score: float  # without the SLO: what it delivers, in time or not
    is_inside: bool = True  # the SLO; always, where there is none


@value
class Rival:
    """The best configuration so far."""

    score: float  # inside the SLO
    level: int  # that gave its score
    noise: float = Field(ge=0)  # standard deviation of a score


@value
class Decision:
    """The level to measure next; None: stop. `is_raced`: levels are left out because the trial cannot win."""

    next: int | None
    reason: str
    is_raced: bool = False


def goes_on(seen: Sequence[Measured], levels: int, rival: Rival | None, *, has_slo: bool) -> Decision:
    """What to do after these levels. `levels`: how many there are; `rival` None: nothing was measured yet."""
    done = {one.level for one in seen}
    left = [level for level in reversed(range(levels)) if level not in done]
    if not left:
        return Decision(next=None, reason="every level was measured")
    if rival is None:
        return Decision(next=left[0], reason="the first configuration is measured at every level")
    if not seen:
        at = min(rival.level, levels - 1) if has_slo else levels - 1
        why = "the level at which the best configuration is best" if has_slo else "the busiest level"
        return Decision(next=at, reason=f"{why} decides")
    if has_slo and (step := _step(seen, levels, rival)):
        return step
    best = max((one.score for one in seen if one.is_inside), default=-math.inf)
    if best + BOUND * rival.noise < rival.score:
        return Decision(next=None, reason=_raced(best, rival), is_raced=True)
    return Decision(next=left[0], reason="a contender is measured at every level")


def _step(seen: Sequence[Measured], levels: int, rival: Rival) -> Decision | None:
    """Up or down the load to where the SLO is just met; None when there is no better level in sight."""
    done = {one.level for one in seen}
    inside = [one for one in seen if one.is_inside]
    last = seen[-1]
    if last.is_inside and last.score >= max(one.score for one in inside):
        up = last.level + 1
        if up < levels and up not in done:
            return Decision(next=up, reason="inside the SLO and the best yet: more load")
    elif not last.is_inside and not inside and last.score > rival.score:
        down = last.level - 1
        if down >= 0 and down not in done:
            return Decision(next=down, reason="outside the SLO, but delivers more than the best: less load")
    return None


def _raced(best: float, rival: Rival) -> str:
    if best == -math.inf:
        return "outside the SLO at the level that decides"
    bound = math.exp(best + BOUND * rival.noise - rival.score)
    return f"{math.exp(best - rival.score):.0%} of the best, at most {bound:.0%} with noise"
