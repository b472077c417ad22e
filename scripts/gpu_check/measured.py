"""What the records of a sweep say, as plain values."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.record import Level, Record
from pipeline.core.values import load

SLOTS = ("gpus", "cores")


def trials(folder: Path) -> list[dict[str, Any]]:
    """Each trial: its configuration, its slots, how long its steps took, and each level in numbers."""
    records = sorted((load(Record, path) for path in folder.glob("*/record.json")), key=lambda one: one.number)
    return [_trial(record) for record in records]


def _trial(record: Record) -> dict[str, Any]:
    return {
        "trial": record.number,
        "overrides": " ".join(each for each in record.overrides if each.partition("=")[0] in record.config.knobs),
        "status": record.status,
        "failure": record.failure.message.splitlines()[0] if record.failure else None,
        "slots": {name: record.deployment[name] for name in SLOTS if name in record.deployment},
        "seconds": {step.step: round(step.seconds, 2) for step in record.steps},
        "levels": dict(_levels(record.levels)),
        "left behind": list(record.teardown.remaining) if record.teardown else None,
    }


def _levels(levels: tuple[Level, ...]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for level in levels:
        if seen := level.metrics:
            yield (
                level.name,
                {
                    "output_tokens_per_s": round(seen.output_tokens_per_s, 2),
                    "ttft_mean_s": round(seen.ttft.mean, 4) if seen.ttft else None,
                    "tpot_mean_s": round(seen.tpot.mean, 5) if seen.tpot else None,
                    "requests": seen.num_requests,
                    "errors": seen.num_errors,
                },
            )
