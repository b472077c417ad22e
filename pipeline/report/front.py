"""The Pareto front of a sweep with several objectives: each point of it is one level of one trial. Pure."""

from collections.abc import Sequence

from pipeline.core import objectives, pareto
from pipeline.core.record import Record
from pipeline.core.values import value
from pipeline.report import ranking


@value
class Point:
    """One level of one configuration, of which no other level of any is better in all objectives."""

    number: int
    level: str
    scores: tuple[float, ...]  # means over the rounds, or what the search measured
    rounds: int  # of the confirmation; 0: measured in the search alone


def volume(scores: tuple[float, ...], is_maximised: Sequence[bool]) -> float:
    """What a trial is judged by: its objective; of several, the volume of its point."""
    return pareto.volume(scores, is_maximised) if len(is_maximised) > 1 else scores[0]


def points(records: Sequence[Record]) -> tuple[Point, ...]:
    """The front over all levels of all configurations; best first by the first objective."""
    more = [objectives.is_maximised(name) for name in ranking.objective_names(records)]
    found = [point for record in ranking.originals(records) for point in _points(record, records)]
    on_it = pareto.front([point.scores for point in found], more)
    best = [point for point, is_on in zip(found, on_it, strict=True) if is_on]
    return tuple(sorted(best, key=lambda point: -point.scores[0] if more[0] else point.scores[0]))


def _points(record: Record, records: Sequence[Record]) -> list[Point]:
    """Of one configuration: by its rounds if it has any, because those of the search are the best by luck as well."""
    if not ranking.meets_slo(record) or record.same_as is not None:
        return []
    again = [one for one in records if one.repeat_of == record.number and one.phase == "confirm"]
    seen = [found for one in again if (found := objectives.points(one))]
    used = seen or [objectives.points(one) for one in ranking.samples(record, records)]
    return [
        Point(number=record.number, level=level, scores=_mean([one[level] for one in used]), rounds=len(seen))
        for level in used[0]
        if all(level in one for one in used)
    ]


def _mean(scores: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(sum(each) / len(each) for each in zip(*scores, strict=True))
