"""Writes `summary.csv` and `summary.parquet`: one line per level of each trial, for other programs."""

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.core import metrics
from pipeline.core.files import SweepDir
from pipeline.core.quality import Judgement
from pipeline.core.record import Level, Record
from pipeline.core.values import plain
from pipeline.report import answered


def write(sweep: SweepDir, records: Sequence[Record]) -> None:
    """Write both.

    Raises:
        OSError: one cannot be written.
    """
    import pandas as pd

    frame = pd.DataFrame(list(lines(records))).convert_dtypes()
    for name in frame.select_dtypes("object"):  # knobs of several kinds, e.g. 4 and auto
        frame[name] = frame[name].astype("string")
    frame.to_csv(sweep.summary_csv, index=False)
    frame.to_parquet(sweep.summary_parquet, index=False)


def lines(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """One line per level; for a trial without levels, one line without a level."""
    judged = answered.of(records)
    for record in records:
        quality = _quality(judged.get(record.number if record.repeat_of is None else record.repeat_of))
        if not record.levels:
            yield {**_trial(record), **quality, "failure": str(record.failure.kind) if record.failure else None}
        yield from ({**_level(record, level), **quality} for level in record.levels)


def _quality(seen: Judgement | None) -> dict[str, Any]:
    """The verdict on what the configuration answers, and the share of tokens that agree."""
    agreement = seen.agreement if seen else None
    return {"quality": seen.word if seen else None, "quality.agreement": agreement.share if agreement else None}


def _trial(record: Record) -> dict[str, Any]:
    return {
        "trial": record.number,
        "status": record.status,
        "phase": record.phase,
        "reason": record.reason.by if record.reason else None,
        "repeat_of": record.repeat_of,
        "same_as": record.same_as,
        "is_baseline": record.is_baseline,
        "started_at": record.started_at,
        "seconds": (record.ended_at - record.started_at).total_seconds(),
        "runtime": record.config.runtime.name,
        "version": record.config.runtime.version,
        "engine_version": record.engine_version,
        "model": record.config.model.name,
        "hardware": record.config.hardware.name,
        "traffic": record.config.traffic.name,
        "limited_by": record.advice.limit if record.advice else None,
        **{f"knob.{name}": setting for name, setting in record.config.knobs.items()},
        **{f"objective.{name}": seen for name, seen in (record.objective or {}).items()},
    }


def _level(record: Record, level: Level) -> dict[str, Any]:
    failure = level.failure or record.failure
    return {
        **_trial(record),
        "scenario": level.scenario,
        "concurrency": level.concurrency or None,
        "rate": level.rate,
        "level_status": level.status,
        "failure": str(failure.kind) if failure else None,
        **(metrics.flatten(level.metrics) if level.metrics else {}),
        **({f"engine.{name}": seen for name, seen in _numbers(level.engine_metrics)} if level.engine_metrics else {}),
    }


def _numbers(told: object) -> Iterator[tuple[str, float]]:
    """What the engine said of itself; not what it did not say."""
    yield from ((name, seen) for name, seen in plain(told).items() if isinstance(seen, int | float))
