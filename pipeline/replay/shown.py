"""A replay's results as tables for the terminal. Pure but for `to`."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from pipeline.replay.compare import Against
from pipeline.replay.measures import Confirmed, Summary
from pipeline.replay.results import Results

CONFIRMED = ("confirmed", "worse", "trials")
LEGEND = (
    "T5: time until what would be recommended is truly within 5% of the best, in whole trials, at most the budget. "
    "score: true score of what is recommended, as a share of the best. Ratios below 1: less time than the reference; "
    "95% bootstrap intervals over landscapes and seeds. faster, slower: landscapes by Wilcoxon's test over seeds, "
    "Holm-corrected, 5%. worse: searches that end more than 1%, and more than 3%, below the default. confirmed: the "
    "same after contender and default were measured in turn, by so many more trials."
)


def to(console: Console, found: Results) -> None:
    """Print everything."""
    for line in heading(found):
        console.print(line, highlight=False)
    console.print(_table(titles(found), (cells(one) for one in found.summaries)))
    if found.against:
        console.print(_table(AGAINST, map(against, found.against)))
    console.print(LEGEND, style="dim", highlight=False)


def heading(found: Results) -> Iterator[str]:
    """What was replayed."""
    slots = found.budget.slots
    yield (
        f"{len(found.landscapes)} landscape{'s' * (len(found.landscapes) > 1)}, {found.seeds} seeds, "
        f"{len(found.summaries)} strategies; {slots} slot{'s' * (slots > 1)}, each with the time of "
        f"{found.budget.trials} whole trials. {len(found.runs)} searches in {found.real_s:.0f} s, "
        f"{sum(run.cpu_s for run in found.runs):.0f} s of CPU time."
    )
    for one in found.landscapes:
        if learns := one.facts.get("learns_from"):
            yield f"{one.facts['name']} learns from a past sweep of {', '.join(learns)}."


def titles(found: Results) -> tuple[str, ...]:
    """Of the columns of a strategy's row."""
    scores = (f"score at {at:g}" for at in found.budgets)
    return (*("strategy", "hit 5%", "T5 median", "T5 mean", *scores, "crashed", "worse"), *CONFIRMED, "ms")


def cells(one: Summary) -> tuple[str, ...]:
    """A strategy's row."""
    scores = (f"{score:.3f}" for score in one.scores)
    times = (f"{one.t5_median:.1f}", f"{one.t5_mean:.1f}")
    end = one.confirmed
    after = (f"{end.score:.3f}", _worse(end), f"{end.trials:.1f}") if end else ("", "", "")
    more = (f"{one.crashed:.1%}", _worse(one), *after, f"{one.proposal_ms:.1f}")
    return (one.strategy, f"{one.hit:.2f}", *times, *scores, *more)


def _worse(one: Summary | Confirmed) -> str:
    return f"{one.below_1:.1%} {one.below_3:.1%}"


AGAINST = ("strategy", "against", "T5 median", "T5 mean", "crashes", "faster", "slower")


def against(one: Against) -> tuple[str, ...]:
    """A comparison's row."""
    count = len(one.tests)
    words = (f"{one.count('faster')} of {count}", f"{one.count('slower')} of {count}")
    crashes = "" if one.crashes is None else str(one.crashes)
    return (one.strategy, one.reference, str(one.t5_median), str(one.t5_mean), crashes, *words)


def _table(names: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, justify="left" if name in {"strategy", "against"} else "right")
    for row in rows:
        table.add_row(*row)
    return table
