"""What a replay says in the end: one value, of which table, JSON and page are views."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.core.values import value
from pipeline.replay import compare, measures
from pipeline.replay.compare import Against, Curve
from pipeline.replay.measures import POINTS, Summary
from pipeline.replay.play import Budget, Run


@value
class OnLandscape:
    """One landscape: what it is, and how each strategy did."""

    facts: Mapping[str, Any]
    summaries: tuple[Summary, ...]


@value
class Results:
    """Times are in whole trials of a landscape, scores are shares of its best."""

    budget: Budget
    seeds: int
    budgets: tuple[float, ...]  # at which scores are given
    summaries: tuple[Summary, ...]
    against: tuple[Against, ...]
    landscapes: tuple[OnLandscape, ...]
    times: tuple[float, ...]  # of the curves
    curves: tuple[Curve, ...]
    real_s: float  # how long the replay took
    runs: tuple[Run, ...]


def made(  # noqa: PLR0913 - one value
    runs: Sequence[Run],
    facts: Sequence[Mapping[str, Any]],
    seeds: int,
    budget: Budget,
    references: Sequence[str],
    *,
    real_s: float,
) -> Results:
    """Of whole replays: every strategy on every landscape with every seed."""
    names = [str(one["name"]) for one in facts]
    tables = measures.tables(runs, names, seeds, budget)
    pairs = [(name, other) for other in references if other in tables for name in tables if name != other]
    return Results(
        budget=budget,
        seeds=seeds,
        budgets=measures.budgets(budget),
        summaries=_summaries(runs, budget),
        against=tuple(compare.against(name, other, tables, names) for name, other in pairs),
        landscapes=tuple(
            OnLandscape(facts=one, summaries=_summaries([run for run in runs if run.landscape == one["name"]], budget))
            for one in facts
        ),
        times=tuple(np.linspace(0, budget.trials, POINTS)),
        curves=tuple(compare.curve(name, table) for name, table in tables.items()),
        real_s=real_s,
        runs=tuple(runs),
    )


def _summaries(runs: Sequence[Run], budget: Budget) -> tuple[Summary, ...]:
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.strategy, []).append(run)
    return tuple(measures.summary(name, some, budget) for name, some in by_name.items())


def whole(runs: Sequence[Run], strategies: Sequence[str], seeds: int) -> list[Run]:
    """The runs of those landscapes on which every strategy has had every seed."""
    wanted = len(strategies) * seeds
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.landscape] = counts.get(run.landscape, 0) + 1
    return [run for run in runs if counts[run.landscape] == wanted]
