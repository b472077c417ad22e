"""What is between several engines, in sentences. Pure."""

from collections.abc import Iterator

from pipeline.core.between import Match
from pipeline.core.sequential import Finding
from pipeline.report.verdict import Verdict

AGAIN = "hydra.sweeper.confirm=auto measures the best of each engine in turn, against each other"


def between(verdict: Verdict) -> Iterator[str]:
    """The headline first, then each match."""
    engines = {row.number: engine for engine, one in verdict.engines.items() for row in one.rows}
    best, kind = verdict.recommended, verdict.kind
    names = " and ".join(verdict.engines)
    if best is None:
        yield {
            "no SLO": f"No configuration of {names} meets the SLO.",
            "not kept": f"No configuration of {names} kept meeting the SLO when it was measured again.",
            "barred": f"No configuration of {names} with a result answers as its baseline does.",
        }.get(kind, f"No trial of {names} has a result.")
        return
    named = f"trial {best} ({engines[best]})"
    if kind == "engine shown":
        yield f"Between the engines: {named} is better than the best of each other one. It is recommended."
    elif kind == "engine not shown":
        yield f"Between the engines: no difference was shown. T{named[1:]} leads by the rounds: it is recommended."
    elif kind == "engine once":
        yield f"Between the engines: {named} leads, by too few measurements: the difference can be noise. {AGAIN}."
    else:
        yield f"Only {engines[best]} has a configuration to recommend: {named}."
    yield from (_match(match, engines) for match in verdict.matches)


def _match(match: Match, engines: dict[int, str]) -> str:
    ours, theirs, seen = match.contest.contender, match.against, match.contest.finding
    return (
        f"Trial {ours} ({engines[ours]}) against trial {theirs} ({engines[theirs]}), by {_rounds(seen)}: "
        f"{_told(seen, ours, theirs)}."
    )


def _told(seen: Finding, ours: int, theirs: int) -> str:
    if seen.word == "lost":
        return f"trial {ours} failed or missed the SLO"
    if seen.word == "void":
        return f"trial {theirs} failed, or the two did not run on the same host and GPUs"
    if seen.comparison is not None:
        return str(seen.comparison)
    return f"only trial {ours} met the SLO" if seen.only_ours else "no round counted"


def _rounds(seen: Finding) -> str:
    count = seen.rounds + seen.only_ours
    return f"{count} alternating round{'s' * (count != 1)}"
