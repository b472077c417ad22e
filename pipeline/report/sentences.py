"""The verdict in sentences: the same for the terminal and the report. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.core import loads
from pipeline.core.rounds import Contest
from pipeline.core.sequential import Finding
from pipeline.report import engine_sentences, flags
from pipeline.report.ranking import Row
from pipeline.report.verdict import Kind, Verdict

AGAIN = "hydra.sweeper.confirm=auto (of hydra/sweeper=tuner) measures the best ones and the baseline again, in turn"

PLAIN: Mapping[Kind, str] = {
    "no result": "No trial has a result.",
    "barred": "No configuration with a result answers as the baseline does: none is recommended.",
    "not kept": "No configuration kept meeting the SLO when it was measured again: none is recommended.",
    "baseline": "Nothing was better than the baseline.",
    "no difference": "No configuration was shown to be better than the baseline: the baseline is recommended.",
}


def of(verdict: Verdict) -> list[str]:
    """The headline first, then what to know of it; of several engines, what is between them, then each alone."""
    if verdict.engines:
        return [*engine_sentences.between(verdict), *_of_engines(verdict), *_more_users(verdict), *_front(verdict)]
    return [*_alone(verdict), *_more_users(verdict), *_front(verdict)]


def _alone(verdict: Verdict) -> list[str]:
    return [*_headline(verdict), *_quality(verdict), *_contests(verdict), *_other_traffic(verdict), *users(verdict)]


def _of_engines(verdict: Verdict) -> Iterator[str]:
    """Each sentence with the engine that it is on in front."""
    for engine, alone in verdict.engines.items():
        said = _alone(alone) or [f"Trial {alone.recommended} is its only configuration."]
        yield from (f"{engine}: {each}" for each in said)


def _headline(verdict: Verdict) -> Iterator[str]:
    number, kind = verdict.recommended, verdict.kind
    if kind in PLAIN:
        yield PLAIN[kind]
    elif kind == "no SLO":
        yield "No configuration meets the SLO" + (f"; closest: {_closest(verdict)}." if verdict.closest else ".")
    elif kind == "no baseline":
        once = not any(row.measured > 1 for row in verdict.rows if row.number == number)
        how = f"{flags.ONCE}: a difference to the others can be noise" if once else "by the search's repeats alone"
        yield f"Trial {number} has the best search score {how}. There is no baseline with a result to compare it with."
    elif kind == "once":
        yield from _once(verdict)
    elif kind == "confirmed":
        yield _confirmed(verdict)
    elif kind == "not held":
        yield f"Under traffic={verdict.other_traffic} the winner was not better: the baseline is recommended."


def _quality(verdict: Verdict) -> Iterator[str]:
    """What is known of the answers of what is recommended; who cannot win, for what it answers."""
    best = verdict.best
    if best is not None and best.quality is not None:
        yield f"Quality of trial {best.number} against the baseline: {best.quality}."
    for row in verdict.rows:
        if row.is_barred:
            yield f"Trial {row.number} cannot win, for what it answers: {row.quality}."


def _closest(verdict: Verdict) -> str:
    found = verdict.closest
    row = next((row for row in verdict.rows if found and row.number == found.number), None)
    return f"trial {found.number} ({_words(row)}) {found}" if found else ""


def _words(row: Row | None) -> str:
    return " ".join(row.overrides) if row and row.overrides else "defaults"


def _once(verdict: Verdict) -> Iterator[str]:
    number = verdict.recommended
    contest = verdict.contest(number) if number is not None else None
    seen = contest.finding if contest else None
    if not verdict.base_meets_slo:
        yield f"Trial {number} meets the SLO; the baseline does not, so there is no change against it."
    if seen and seen.rounds + seen.only_ours > 1:
        yield f"Trial {number} and the baseline were measured in {_rounds(seen)}: too few to show a difference."
    elif any(row.measured > 1 for row in verdict.rows if row.number == number):
        yield f"By the search's repeats alone, trial {number} is best: they favour whom they choose. {AGAIN}."
    else:
        more = (
            AGAIN if verdict.is_unfinished or not seen else "hydra.sweeper.confirm=auto takes as many rounds as needed"
        )
        yield f"Trial {number} against the baseline was measured once: a difference can be noise. {more}."


def _confirmed(verdict: Verdict) -> str:
    contest = verdict.contests[-1]
    seen = contest.finding
    if seen.comparison is None:
        return (
            f"Trial {contest.contender} meets the SLO and the baseline does not: so in all of {_rounds(seen)}. "
            "There is no change in percent."
        )
    return f"Trial {contest.contender} against the baseline, by {_rounds(seen)}: {seen.comparison}."


def _rounds(seen: Finding) -> str:
    count = seen.rounds + seen.only_ours
    return f"{count} alternating round{'s' * (count != 1)}"


def _contests(verdict: Verdict) -> Iterator[str]:
    """Every contender that has fallen, and rounds that did not count."""
    for contest in verdict.contests:
        if contest.contender != verdict.recommended or verdict.kind == "not held":
            yield f"Trial {contest.contender} {_fell(contest)}."
        yield from _missing(contest)
    if not verdict.base_meets_slo and verdict.baseline is not None and verdict.kind in {"confirmed", "not kept"}:
        yield "The baseline does not meet the SLO."
    if verdict.is_unfinished and verdict.contests:
        yield (
            "The rounds are not finished: the time was up, or the sweep still runs. "
            "To go on, repeat the command with hydra.sweep.dir=<this folder>."
        )


def _fell(contest: Contest) -> str:
    seen = contest.finding
    if seen.word in {"lost", "void"}:
        why = "it failed or missed the SLO" if seen.word == "lost" else "the baseline could not be measured beside it"
        return f"is not compared any further: {why}, in several rounds in a row"
    if seen.comparison is None:
        return "was not measured again" if not seen.only_ours else f"met the SLO in {_rounds(seen)}"
    if seen.word == "open" or seen.comparison.low is None:
        against = " and contradicted the search" if seen.comparison.change <= 0 else ""
        return f"changed by {seen.comparison} in {_rounds(seen)}{against}".replace("round and", "round, which")
    return f"by {_rounds(seen)}: {seen.comparison}"


def _missing(contest: Contest) -> Iterator[str]:
    seen = contest.finding
    if seen.lost:
        yield f"{seen.lost} of its rounds did not count: trial {contest.contender} failed or missed the SLO."
    if seen.void:
        yield f"{seen.void} of its rounds did not count: the baseline failed."
    if seen.elsewhere:
        yield f"{seen.elsewhere} of its rounds did not count: the two ran on different hosts or GPUs."
    if seen.only_ours and seen.rounds:
        yield f"The baseline missed the SLO in {seen.only_ours} more rounds."


def _other_traffic(verdict: Verdict) -> Iterator[str]:
    if verdict.held_out is None:
        return
    seen = verdict.held_out.finding
    told = str(seen.comparison) if seen.comparison else "no round counted"
    if seen.comparison is None and seen.only_ours:
        told = "the baseline misses the SLO there, and the winner meets it"
    yield f"Under traffic={verdict.other_traffic}, which the search did not use, by {_rounds(seen)}: {told}."
    yield from _missing(verdict.held_out)


def users(verdict: Verdict) -> Iterator[str]:
    """How many users, or requests per second, the recommended configuration can have, beside the baseline."""
    best = verdict.best
    if best is not None and best.capacity is not None:
        base = next((row for row in verdict.rows if row.number == verdict.baseline and row is not best), None)
        beside = f"; of the baseline: {base.capacity}" if base and base.capacity else ""
        what = (
            "Requests/s that trial {} keeps up with" if _is_rate(best) else "Users at a time that trial {} has room for"
        )
        yield f"{what.format(best.number)}, each time it was tried: {best.capacity}{beside}."


def _is_rate(row: Row) -> bool:
    return loads.is_rate(row.best_level or "")


def _more_users(verdict: Verdict) -> Iterator[str]:
    """That nobody has looked whether it can have more."""
    best = verdict.best
    if best is None or not best.is_top:
        return
    load, key = ("requests/s", "max_rate") if _is_rate(best) else ("users", "max_concurrency")
    if best.capacity is not None:
        yield (f"{best.best_level} is as many {load} as traffic.{key} allows: raise it. There may be room for more.")
    else:
        yield (
            f"{best.best_level} was the level with most {load}, and the best one: more {load} may bring more. "
            "traffic.levels=capacity looks for the most that the server can have."
        )


def _front(verdict: Verdict) -> Iterator[str]:
    if len(verdict.names) < 2 or not verdict.front:
        return
    yield (
        f"Pareto front of {' and '.join(verdict.names)}: each point is one level of one trial, and no other point is "
        "better in all of them. Changes and Best are by hypervolume; its reference: no throughput, endless latency."
    )
    yield from (
        _point(verdict.names, point.scores, f"trial {point.number}, {point.level}", point.rounds)
        for point in verdict.front
    )


def _point(names: Sequence[str], scores: Sequence[float], where: str, rounds: int) -> str:
    told = ", ".join(f"{name} {seen:.4g}" for name, seen in zip(names, scores, strict=True))
    return f"  {where}: {told} ({f'mean of {rounds} rounds' if rounds > 1 else 'once'})"
