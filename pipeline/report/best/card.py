"""The winner's expected performance: its metrics with intervals, and where they were measured. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field

from pipeline.core import capacity, metrics, traffic_size
from pipeline.core.evaluation import Change
from pipeline.core.origin import Origin
from pipeline.core.record import LevelMetrics, Record
from pipeline.core.statistics import Interval, interval
from pipeline.core.values import value
from pipeline.report import command, subject

SHOWN = ("output_tokens_per_s", "requests_per_s", "ttft_p95_s", "tpot_p95_s", "e2e_p95_s", "error_rate")
GOODPUT = ("slo_attainment", "goodput_requests_per_s")
IDENTITY = ("endpoint", "served_name", "image", "image_digest", "node", "gpus", "cores")


@value
class Card:
    """The expected performance of one configuration. Latencies in seconds."""

    trial_id: str
    overrides: tuple[str, ...]
    recheck: tuple[str, ...] = ()  # further overrides of a recheck: the level at which a capacity was found
    origin: Origin = Origin()
    engine: str  # name and version, by its own word where it says
    model: str
    traffic: str
    measured: int  # how often
    objective: Mapping[str, Interval]
    levels: Mapping[str, Mapping[str, Interval]]  # by level and metric
    verdict: tuple[str, ...] = ()  # on the sweep, in sentences
    evaluations: tuple[Change, ...] = ()  # against the baseline, by lm-eval
    environment: Mapping[str, str]
    notes: tuple[str, ...]
    left_out: Mapping[str, str] = Field(default_factory=dict)
    measured_at: str


def of(
    winner: Record,
    records: Sequence[Record],
    verdict: Sequence[str] | None = None,
    left_out: Mapping[str, str] | None = None,
) -> Card:
    """The card of a configuration."""
    config, samples = winner.config, _typical_first(measurements(winner, records))
    return Card(
        trial_id=winner.trial_id,
        overrides=winner.overrides,
        recheck=tuple(_at_capacity(samples[0])),
        origin=winner.origin,
        engine=subject.engine(winner),
        model=subject.model(winner) + (f" at {config.model.revision}" if config.model.revision else ""),
        traffic=traffic_size.told(config.traffic),
        measured=len(samples),
        objective=_means([one.objective or {} for one in samples]),
        levels={name: _means(seen) for name, seen in _levels(samples)},
        verdict=tuple(verdict or ()),
        environment={"hardware": config.hardware.name, **winner.environment, **_placed(winner)},
        notes=winner.notes,
        left_out=dict(left_out or {}),
        measured_at=winner.started_at.isoformat(timespec="seconds"),
    )


def measurements(first: Record, records: Sequence[Record]) -> list[Record]:
    """What a configuration is judged by: the rounds of the confirmation, else what the search measured.

    `first`: its first trial. Not both: the search chose its winner because it measured well, so what it measured
    promises too much.
    """
    again = [one for one in records if one.repeat_of == first.number and one.status == "ok" and one.objective]
    confirmed = [one for one in again if one.phase in {"confirm", "between"}]
    return confirmed or [first, *(one for one in again if one.phase == "search")]


def _typical_first(samples: list[Record]) -> list[Record]:
    """Where a capacity was looked for several times, the one in the middle first: the most users were luck."""
    if not capacity.is_wanted(samples[0].config.traffic):
        return samples
    rising = sorted(samples, key=_users)
    return [rising.pop((len(rising) - 1) // 2), *rising]


def _users(record: Record) -> float:
    return max((level.demand for level in record.levels if level.name == record.best_level), default=0)


def _at_capacity(record: Record) -> Iterator[str]:
    """Another search for the capacity would try other levels: it is held against the one that was found."""
    level = next((one for one in record.levels if one.name == record.best_level), None)
    if level is not None and capacity.is_wanted(record.config.traffic):
        yield "traffic.levels=given"
        is_open = record.config.traffic.is_open
        yield f"traffic.{'rates' if is_open else 'concurrencies'}=[{level.demand:g}]"
        yield f'traffic.scenarios=["{level.scenario}"]'


def _placed(winner: Record) -> dict[str, str]:
    return {name: told for name, told in winner.deployment.items() if name in IDENTITY}


def _levels(samples: Sequence[Record]) -> Iterator[tuple[str, list[dict[str, float]]]]:
    for level in samples[0].levels:
        seen = [other for one in samples for other in one.levels if other.name == level.name and other.metrics]
        yield level.name, [_numbers(one.metrics) for one in seen if one.metrics]


def _numbers(seen: LevelMetrics) -> dict[str, float]:
    return {name: number for name, number in metrics.flatten(seen).items() if not isinstance(number, bool)}


def _means(seen: Sequence[Mapping[str, float]]) -> dict[str, Interval]:
    names = dict.fromkeys(name for one in seen for name in one)
    found = {name: interval([one[name] for one in seen if name in one]) for name in names}
    return {name: mean for name, mean in found.items() if mean}


def markdown(card: Card) -> str:
    """The card for people."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: Card) -> Iterator[str]:
    yield f"# {card.model} on {card.engine}"
    yield from ("", f"Trial {card.trial_id}, measured {_times(card.measured)}, first at {card.measured_at}.", "")
    yield f"    {command.pasted(card.origin, card.overrides)}"
    yield from ("", "## Expected", "")
    yield from (f"- {name}: {spelled(seen)}" for name, seen in card.objective.items())
    if card.verdict:
        yield from ("", "## Verdict", "", *(f"- {said}" for said in card.verdict))
    if card.evaluations:
        yield from ("", "## Evaluations against the baseline", "", *(f"- {one}" for one in card.evaluations))
    yield from ("", f"Traffic: {card.traffic}", "")
    shown = [*SHOWN, *(name for name in GOODPUT if any(name in level for level in card.levels.values()))]
    yield f"| level | {' | '.join(shown)} |"
    yield f"|---|{'---|' * len(shown)}"
    for name, level in card.levels.items():
        yield f"| {name} | {' | '.join(spelled(level.get(metric)) for metric in shown)} |"
    yield from (
        "",
        "95% t-intervals of the mean, for metrics that were measured more than once.",
        "",
        "## Measured on",
        "",
    )
    yield from (f"- {name}: {told}" for name, told in card.environment.items())
    if card.notes:
        yield from ("", "## Notes", "", *(f"- {note}" for note in card.notes))
    if card.left_out:
        yield from ("", "## Not in this folder", "", *(f"- {what}: {why}" for what, why in card.left_out.items()))


def spelled(seen: Interval | None) -> str:
    """`32.6 [31.9, 33.2]`."""
    if seen is None:
        return "-"
    ends = "" if seen.low is None or seen.high is None else f" [{seen.low:.4g}, {seen.high:.4g}]"
    return f"{seen.mean:.4g}{ends}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
