"""What searches at equal time came to, and the tables that tell it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from benchmarks.parts.recording import LEFT, Row
from pipeline.core.statistics import compare, interval

OURS = "ours"
DEFAULTS = "the defaults"
NAMES: Mapping[str, str] = {OURS: "servetune"}


@dataclass
class Search:
    """What one search came to. Scores as measured by itself; more is better."""

    strategy: str
    seed: int
    began: str
    trials: int
    failed: int
    raced: int
    crowded: int
    winner: Row | None  # None: no trial ended well
    score: float | None
    curve: Sequence[tuple[float, float]]  # seconds since the command, the best score so far


@dataclass
class Found:
    """All that is there. A round: the score of the defaults, and of each winner, by `key`."""

    budget_s: float
    searches: list[Search] = field(default_factory=list)
    rounds: list[dict[str, Any]] = field(default_factory=list)


def is_default(row: Row) -> bool:
    """Whether every knob is left to the engine."""
    return all(pick == LEFT for pick in row.values())


def winners(found: Found) -> list[Row]:
    """Each once; the defaults are measured anyway."""
    rows = [one.winner for one in found.searches if one.winner is not None]
    return [*{key(row): row for row in rows if not is_default(row)}.values()]


def key(row: Row) -> str:
    """A configuration in words: what differs from the defaults."""
    return " ".join(f"{name}={pick}" for name, pick in row.items() if pick != LEFT) or DEFAULTS


def gains(search: Search, found: Found) -> list[float]:
    """The winner's score as a share of the defaults' in each round; 0: it failed."""
    if search.winner is None or is_default(search.winner):
        return [1.0 for _ in found.rounds]
    pairs = [(one["scores"].get(key(search.winner)), one["scores"].get(DEFAULTS)) for one in found.rounds]
    return [(own or 0.0) / base for own, base in pairs if base]


def table(found: Found) -> Iterator[str]:
    """The strategies as a table in Markdown, then each search."""
    yield "| strategy | trials (failed, raced) | best by its own measurement | measured again, against the defaults |"
    yield "|---|---|---|---|"
    again: dict[str, list[float]] = {}
    for strategy in dict.fromkeys(one.strategy for one in found.searches):
        own = [one for one in found.searches if one.strategy == strategy]
        again[strategy] = [mean_of(gains(one, found)) for one in own]
        yield line(strategy, own, again[strategy])
    for strategy, shares in again.items() if found.rounds else ():
        if strategy != OURS and (told := compare(again.get(OURS, ()), shares, is_maximised=True, count=2)):
            yield f"\n{NAMES[OURS]} against {strategy}: {told}"
    yield "\n| search | trials | winner | by its own measurement | measured again, against the defaults |"
    yield "|---|---|---|---|---|"
    for one in sorted(found.searches, key=lambda each: (each.strategy, each.seed)):
        yield row_of(one, gains(one, found))


def mean_of(shares: Sequence[float]) -> float:
    """Geometric: 0 if one is."""
    if not shares:
        return math.nan
    return math.exp(fmean(map(math.log, shares))) if min(shares) > 0 else 0.0


def line(strategy: str, own: Sequence[Search], shares: Sequence[float]) -> str:
    trials = (
        f"{median(one.trials for one in own):g} ({sum(one.failed for one in own)}, {sum(one.raced for one in own)})"
    )
    scores = [one.score for one in own if one.score is not None]
    found = f"{median(scores):.1f}" if scores else "none"
    return f"| {NAMES.get(strategy, strategy)}, {len(own)} seeds | {trials} | {found} | {spread(shares)} |"


def row_of(one: Search, shares: Sequence[float]) -> str:
    winner = "none" if one.winner is None else key(one.winner)
    name = f"{NAMES.get(one.strategy, one.strategy)}, seed {one.seed}"
    score = "" if one.score is None else f"{one.score:.1f}"
    return f"| {name} | {one.trials} | `{winner}` | {score} | {spread(shares)} |"


def spread(shares: Sequence[float]) -> str:
    """The change against the defaults, with its 95% interval where there is one."""
    if not shares or any(math.isnan(share) for share in shares):
        return "not yet"
    if min(shares) <= 0:
        return "failed"
    seen = interval([math.log(share) for share in shares])
    if seen is None or seen.low is None or seen.high is None:
        return f"{math.expm1(math.log(shares[0])):+.1%} (once)"
    return f"{math.expm1(seen.mean):+.1%} [{math.expm1(seen.low):+.1%}, {math.expm1(seen.high):+.1%}]"
