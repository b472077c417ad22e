"""What a study stores of a trial: values, constraints, and every metric as attributes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import Field

from pipeline.core import metrics, objectives
from pipeline.core.errors import BenchFailed
from pipeline.core.objectives import violations
from pipeline.core.record import Level, Record
from pipeline.core.schema import Config, Slo
from pipeline.core.values import Scalar, value

FINE = ("_p50_s", "_p90_s", "_p99_s", "_mean")  # told in `levels` alone: each attribute is a write to the database
Attributes = Mapping[str, Scalar | Mapping[str, Mapping[str, float]] | Sequence[Sequence[float]] | None]


@value
class Outcome:
    """The end of a trial; without values it has failed: nothing is made up. `levels` has every metric of each level."""

    values: tuple[float, ...]
    constraints: Mapping[str, float] = Field(default_factory=dict)  # 0 or less: inside the SLO
    attributes: Attributes = Field(default_factory=dict)
    gpu_hours: float = 0.0
    is_answered: bool = False  # nothing was deployed


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
            "points": list(objectives.points(record).values()) if len(record.config.objective) > 1 else None,
        },
        gpu_hours=_gpu_hours(record),
        is_answered=record.cached_from is None and not {"deploy", "bench"} & {step.step for step in record.steps},
    )


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


def _without_slo(config: Config) -> Config:
    return replace(config, slo=replace(config.slo, ttft_s=None, tpot_s=None, e2e_s=None, limits={}))


def _telling(record: Record) -> Level | None:
    """The level that gave the objective, else the one that is nearest to the SLO."""
    measured = [level for level in record.levels if level.metrics]
    best = next((level for level in measured if level.name == record.best_level), None)
    return best or min(measured, key=lambda level: _worst(level, record.config.slo), default=None)


def _worst(level: Level, slo: Slo) -> float:
    return max(violations(level.metrics, slo).values(), default=0.0) if level.metrics else 0.0


def _gpu_hours(record: Record) -> float:
    """The time in which the trial had its GPUs."""
    idle = {"preflight", "model", "slots", "record", "tracker"}
    held = sum(step.seconds for step in record.steps if step.step not in idle)
    return record.config.gpus * held / 3600
