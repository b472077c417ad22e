"""Several engines: whose best configuration is recommended, and how sure that is. Pure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.core import between, pareto
from pipeline.core.between import Matches
from pipeline.core.rounds import Rules, Sample

if TYPE_CHECKING:  # it asks this module
    from pipeline.report.verdict import Kind, Verdict


def judged(
    engines: "Mapping[str, Verdict]", seen: Sequence[Sample], is_maximised: Sequence[bool], planned: int | None
) -> "tuple[Kind, int | None, Matches]":
    """How it ended, whom that recommends, and the matches.

    Args:
        engines: the verdict on each engine alone.
        seen: the measurements of the matches.
        is_maximised: of each objective.
        planned: rounds that were asked for; None: as many as the bounds take.
    """
    fine = [one for one in engines.values() if one.recommended is not None]
    if not fine:
        kinds = [one.kind for one in engines.values()]
        return next((kind for kind in ("no SLO", "not kept", "barred") if kind in kinds), "no result"), None, Matches()
    if len(fine) == 1:
        return fine[0].kind, fine[0].recommended, Matches()
    sign = 1 if len(is_maximised) > 1 or is_maximised[0] else -1
    scores = {number: score for one in fine for number, score in [_score(one, is_maximised)]}
    leader = max(scores, key=lambda number: sign * scores[number])
    if len({one.of for one in seen} & scores.keys()) < 2:
        return "engine once", leader, Matches()
    found = between.decide(seen, scores, Rules(planned=planned, is_maximised=sign > 0))
    mine = [one for one in found.played if found.leader in {one.against, one.contest.contender}]
    if found.next is not None or any(one.contest.finding.word in {"once", "contradicted"} for one in mine):
        return "engine once", leader if found.next else found.leader, found
    is_shown = len(found.played) == len(scores) - 1 and all(one.is_shown for one in mine)
    return "engine shown" if is_shown else "engine not shown", found.leader, found


def _score(one: "Verdict", is_maximised: Sequence[bool]) -> tuple[int, float]:
    """What an engine recommends, with its search score; of several objectives, the volume."""
    best = one.best
    if best is None or one.recommended is None or not best.objective:
        return one.recommended or 0, 0.0
    scores = best.objective
    return one.recommended, pareto.volume(scores, is_maximised) if len(is_maximised) > 1 else scores[0]
