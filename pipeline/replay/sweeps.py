"""Landscapes of past sweeps: what records say of every configuration, with its real times, levels and failures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from pipeline.core import capacity, objectives, readable
from pipeline.core.errors import ConfigError
from pipeline.core.files import SweepDir
from pipeline.core.record import Level, Record
from pipeline.replay import tables
from pipeline.replay.landscape import Landscape, Numbers, Picks
from pipeline.replay.tables import Options, Raw

LEFT = "null"  # a knob that an override does not name is left to the engine
LOAD = ("traffic", "slo", "objective")  # groups and keys that say what a score means
BESIDE = ("repeat_of", "phase", "rounds")  # what the sweeper adds to the overrides of repeats
NOISE = 0.03  # where nothing was measured twice


def read(folder: Path, options: Options) -> Landscape:
    """The landscape of a sweep's folder.

    Raises:
        ConfigError: there are no records that can be read, or nothing to search.
    """
    groups = _grouped(folder)
    records = [same[0] for same in groups.values()]
    if not records:
        raise ConfigError(f"{folder}: no trial has ended. Expected the folder of a sweep.")
    names = _names(records)
    if load := [name for name in names if name.partition(".")[0] in LOAD]:
        raise ConfigError(
            f"{folder}: its trials differ in {load[0]}: no scores to compare. Expected only knobs to be swept."
        )
    if capacity.is_wanted(records[0].config.traffic):
        raise ConfigError(f"{folder}: each trial chose its own levels. Expected a sweep with traffic.levels=given.")
    metric = objectives.names(records[0].config)[0]
    scores = [np.array([_score(one, metric) for one in same]) for same in groups.values()]
    levels = tuple(dict.fromkeys(level.name for one in records for level in one.levels))
    found = tables.made(
        folder.resolve().name,
        "sweep",
        Raw(
            names=names,
            picks=[*groups],
            score=np.array(
                [np.mean(seen[np.isfinite(seen)]) if np.isfinite(seen).any() else np.nan for seen in scores]
            ),
            failure=[str(one.failure.kind) if one.failure else "" for one in records],
            startup_s=np.array([max(_before_s(one), 0.01) for one in records]),
            default=next((at for at, one in enumerate(records) if one.is_baseline), None),
            levels=levels,
            noise=tables.pooled(scores) or NOISE,
            source=f"{folder.name}: {metric} of {records[0].config.model.name} on {records[0].config.runtime.name}",
        ),
        options,
    )
    return _with_levels(found, records, levels, metric)


def _grouped(folder: Path) -> Mapping[Picks, list[Record]]:
    """The records of each configuration that was deployed; the first one is the search's."""
    records = [one for one in _records(folder) if one.status in {"ok", "failed"} and one.phase != "held_out"]
    own = [one for one in records if one.same_as is None]
    names = _names(own)
    groups: dict[Picks, list[Record]] = {}
    for one in sorted(own, key=lambda record: record.number):
        told = _told(one)
        groups.setdefault(tuple(told.get(name, LEFT) for name in names), []).append(one)
    return groups


def _records(folder: Path) -> Iterator[Record]:
    for path in SweepDir(folder).records:
        try:
            yield readable.read(Record, path)
        except (OSError, ValidationError) as error:
            raise ConfigError(f"{path} cannot be read: {readable.why(path, error)}.") from error


def _told(record: Record) -> dict[str, str]:
    pairs = (word.lstrip("+").partition("=") for word in record.overrides)
    return {name: text for name, _, text in pairs if name not in BESIDE}


def _names(records: Sequence[Record]) -> tuple[str, ...]:
    """What differs from trial to trial."""
    told = [_told(one) for one in records]
    every = dict.fromkeys(name for one in told for name in one)
    return tuple(name for name in every if len({one.get(name, LEFT) for one in told}) > 1)


def _score(record: Record, metric: str) -> float:
    found = record.objective.get(metric) if record.objective and record.status == "ok" else None
    return np.nan if not found else found if objectives.is_maximised(metric) else 1 / found


def _before_s(record: Record) -> float:
    """All of a trial but its levels."""
    return sum(step.seconds for step in record.steps) - _levels_s(record)


def _levels_s(record: Record) -> float:
    return sum(level.elapsed_s for level in record.levels)


def _with_levels(found: Landscape, records: Sequence[Record], levels: tuple[str, ...], metric: str) -> Landscape:
    """The same with what was measured of each level; the truth is the best of them inside the SLO."""
    by_name = [{level.name: level for level in one.levels} for one in records]
    table = [[one.get(name) for name in levels] for one in by_name]
    if not levels or not any(cell and cell.metrics for row in table for cell in row):
        return found
    speed = np.array([[_at(cell, metric, one) for cell in row] for row, one in zip(table, records, strict=True)])
    seconds = np.array([[cell.elapsed_s if cell else np.nan for cell in row] for row in table])
    outside = np.array([[_ratio(cell, one) for cell in row] for row, one in zip(table, records, strict=True)])
    return replace(
        found,
        speed=speed,
        level_s=_or_median(seconds),
        latency=outside if records[0].config.slo.is_set else None,
        crash_s=np.array([max(sum(step.seconds for step in one.steps), 0.01) for one in records]),
    )


def _at(level: Level | None, metric: str, record: Record) -> float:
    seen = objectives.score(metric, level, record.config) if level and level.metrics else None
    return np.nan if not seen else seen if objectives.is_maximised(metric) else 1 / seen


def _ratio(level: Level | None, record: Record) -> float:
    """How a level stands to the SLO: 1 is its limit."""
    if level is None or level.metrics is None:
        return np.nan
    worst = max(objectives.violations(level.metrics, record.config.slo).values(), default=0.0)
    return 1 + worst if not level.metrics.meets_slo else min(1 + worst, 1.0)


def _or_median(seconds: Numbers) -> Numbers:
    """A level that a trial left out would have taken as long as it took others."""
    return np.where(np.isfinite(seconds), seconds, np.nanmedian(seconds, axis=0))
