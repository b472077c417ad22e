"""What a study stores of a trial: values, constraints, and every metric as attributes. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pydantic import Field

from pipeline.core import metrics, objectives, resolved
from pipeline.core.errors import BY_SURROUNDINGS, BenchFailed
from pipeline.core.objectives import violations
from pipeline.core.record import Level, LevelMetrics, Record
from pipeline.core.schema import Config, Slo
from pipeline.core.values import Scalar, value
from pipeline.report import spent

FINE = ("_p50_s", "_p90_s", "_p99_s", "_mean")  # told in `levels` alone: each attribute is a write to the database
Told = Scalar | Mapping[str, Mapping[str, float]] | Mapping[str, Scalar] | Sequence[Sequence[float]] | None
Attributes = Mapping[str, Told]
QUALITY = "quality"  # the constraint of those that cannot win, for what they answer
WORST = 0.0  # of a score: a model takes it for as bad as any
TILT = 0.7  # how fast a score falls with the distance from the SLO: the power of the worst ratio to a limit
LEAST_ATTAINMENT = 0.05  # below it, a trial is as far from the SLO as any


@value
class Outcome:
    """The end of a trial; without values it has failed: nothing is made up. `levels` has every metric of each level."""

    values: tuple[float, ...]
    constraints: Mapping[str, float] = Field(default_factory=dict)  # 0 or less: inside the SLO
    attributes: Attributes = Field(default_factory=dict)
    gpu_hours: float = 0.0
    is_answered: bool = False  # nothing was deployed

    @property
    def is_by_configuration(self) -> bool:
        """Whether a trial failed because of what it was told to run, so that a sampler can learn from it."""
        kind = self.attributes.get("failure")
        return not self.values and kind is not None and kind not in BY_SURROUNDINGS


def of(record: Record) -> Outcome:
    """What a record says."""
    level = _telling(record)
    told = metrics.flatten(level.metrics) if level and level.metrics else {}
    every = {one.name: metrics.flatten(one.metrics) for one in record.levels if one.metrics}
    return Outcome(
        values=_values(record),
        constraints=violations(level.metrics, record.config.slo) if level and level.metrics else {},
        attributes={
            **{name: seen for name, seen in told.items() if not name.endswith(FINE)},
            "levels": every,
            "level": level.name if level else None,
            "status": record.status,
            "failure": str(record.failure.kind) if record.failure else None,
            "failure_step": record.failure.step if record.failure else None,
            "seconds": (record.ended_at - record.started_at).total_seconds(),
            "same_as": record.same_as,
            "place": record.place,
            "resolved": _resolved(record),
            "outside": _outside(level, record),
            "raced": record.is_raced or None,
            "points": list(objectives.points(record).values()) if len(record.config.objective) > 1 else None,
        },
        gpu_hours=record.config.gpus * spent.held_h(record),
        is_answered=record.cached_from is None and not {"deploy", "bench"} & {step.step for step in record.steps},
    )


def barred(found: Outcome) -> Outcome:
    """Of a configuration that cannot win, for what it answers: outside of a limit as far as can be."""
    constraints, attributes = {**found.constraints, QUALITY: 1.0}, {**found.attributes, "outside": WORST}
    return replace(found, constraints=constraints, attributes=attributes)


def _values(record: Record) -> tuple[float, ...]:
    """The objectives; of a trial outside the SLO as measured, for the constraints say that it is outside."""
    names = objectives.names(record.config)
    found = record.objective
    if found is None and record.levels and all(level.status != "failed" for level in record.levels):
        try:
            found = objectives.of(record.levels, _without_slo(record.config))
        except BenchFailed:
            return ()
    if found is None or record.status == "interrupted" or not {*names} <= found.keys():
        return ()
    return tuple(found[name] for name in names)


def _resolved(record: Record) -> dict[str, Scalar]:
    """What the engine made of the knobs that were left to it, as far as it says."""
    told = resolved.reported(record.config, record.settings)
    return {name: told[name] for name, asked in record.config.knobs.items() if asked is None and name in told}


def _outside(level: Level | None, record: Record) -> float | None:
    """Of a trial outside the SLO: what it would score without one, less the further outside it is.

    The objective itself is 0 there or jumps, and tells a model nothing of where the SLO is met.
    """
    slo, name = record.config.slo, objectives.names(record.config)[0]
    if not slo.is_set or level is None or level.metrics is None or level.metrics.meets_slo:
        return None
    score = objectives.score(name.replace("goodput_", ""), level, record.config)
    if score is None:
        return None
    ratio = max([1.0, *_ratios(level.metrics, slo)])
    penalty = math.pow(ratio, TILT)
    return score / penalty if objectives.is_maximised(name) else score * penalty


def _ratios(seen: LevelMetrics, slo: Slo) -> Iterator[float]:
    """How many times each limit of the SLO is missed; 1 or less: it is met."""
    for name, amount in violations(seen, slo).items():
        if name == "attainment":
            yield slo.attainment / max(slo.attainment - amount, LEAST_ATTAINMENT)
        else:
            yield 1 + amount


def _without_slo(config: Config) -> Config:
    return replace(config, slo=replace(config.slo, ttft_s=None, tpot_s=None, e2e_s=None, limits={}))


def _telling(record: Record) -> Level | None:
    """The level that gave the objective, else the one that is nearest to the SLO."""
    measured = [level for level in record.levels if level.metrics]
    best = next((level for level in measured if level.name == record.best_level), None)
    return best or min(measured, key=lambda level: _worst(level, record.config.slo), default=None)


def _worst(level: Level, slo: Slo) -> float:
    return max(violations(level.metrics, slo).values(), default=0.0) if level.metrics else 0.0
