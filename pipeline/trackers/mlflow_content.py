"""The content of MLflow's runs: names as in W&B, in the characters and lengths that MLflow takes. Redacted.

Source: mlflow 3.17.2, utils/validation.py: characters of names, and at most 1,000 metrics, 100 parameters and 100 tags
at once; servers before 2.8 take parameters of 500 characters, all take tags of 5,000.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pipeline.core.files import RunDir, SweepDir
from pipeline.core.record import Level, Record
from pipeline.core.redact import Secrets
from pipeline.trackers import trial_content, wandb_sweep
from pipeline.trackers.result import SweepResult

LONGEST_NAME, LONGEST_PARAM, LONGEST_TAG = 250, 500, 5000
UNSAFE = re.compile(r"[^\w\-. :/]+")  # in names
NOTE = "mlflow.note.content"  # the description of a run
STATUSES: Mapping[str, Literal["FINISHED", "FAILED", "KILLED"]] = {"ok": "FINISHED", "interrupted": "KILLED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A number; `step`: the users at a time, or the requests per minute, of a series over levels."""

    name: str
    number: float
    step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A run."""

    name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    points: tuple[Point, ...]
    files: tuple[tuple[Path, str], ...]  # where they are, and their names; not redacted yet
    status: Literal["FINISHED", "FAILED", "KILLED"]
    started_ms: int | None = None
    ended_ms: int | None = None


def of_trial(record: Record, run_dir: RunDir, secrets: Secrets) -> Content:
    """The run of a trial."""
    summary = trial_content.summary(record)
    texts, numbers = _parted(summary)
    words = {f"tag/{word}": "true" for word in trial_content.tags(record)}
    note = record.failure.message if record.failure else " ".join(record.overrides)
    return Content(
        name=_short(secrets.hide(trial_content.name(record)), LONGEST_NAME),
        params=_spelled(trial_content.choices(record), secrets, LONGEST_PARAM),
        tags=_spelled({"sweep_id": record.sweep_id, **words, **texts, NOTE: note}, secrets, LONGEST_TAG),
        points=(*_series(record), *(Point(name=name(key), number=seen) for key, seen in numbers.items())),
        files=tuple(trial_content.files(run_dir)),
        status=STATUSES.get(record.status, "FAILED"),
        started_ms=_ms(record.started_at),
        ended_ms=_ms(record.ended_at),
    )


def of_sweep(result: SweepResult, sweep: SweepDir, secrets: Secrets) -> Content:
    """The sweep's own run, whose children are its trials."""
    texts, numbers = _parted(wandb_sweep.summary(result))
    told = {"sweep_id": result.sweep_id, "objectives": result.objectives, "knobs": result.knobs}
    lines = [*result.said, *([f"`{result.best.command}`"] if result.best else [])]
    return Content(
        name=_short(secrets.hide(f"sweep {result.sweep_id}"), LONGEST_NAME),
        params=_spelled(result.choices, secrets, LONGEST_PARAM),
        tags=_spelled({"tag/sweep": "true", **told, **texts, NOTE: "\n\n".join(lines)}, secrets, LONGEST_TAG),
        points=tuple(Point(name=name(key), number=seen) for key, seen in numbers.items()),
        files=wandb_sweep.files(sweep),
        status="FINISHED" if result.exit_code == 0 else "FAILED",
    )


def name(text: str) -> str:
    """A name in MLflow's characters: `D(48,16)/ttft_p95_s` is `D48_16/ttft_p95_s`."""
    return UNSAFE.sub("_", text.translate({ord("("): None, ord(")"): None, ord(","): "_"}))[:LONGEST_NAME]


def _series(record: Record) -> Iterator[Point]:
    if record.is_unfinished:  # it is measured again
        return
    for level in record.levels:
        if level.status == "ok" and level.metrics:
            for key, seen in trial_content.numbers(level).items():
                if math.isfinite(seen):
                    scenario = level.scenario.replace("/", "_")
                    yield Point(name=name(f"{scenario}/{key}"), number=float(seen), step=_step(level))


def _step(level: Level) -> int:
    """MLflow takes whole numbers only."""
    return level.concurrency if level.rate is None else round(60 * level.rate)


def _parted(summary: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """What is text, and what are numbers."""
    numbers = {
        key: float(seen)
        for key, seen in summary.items()
        if isinstance(seen, int | float) and not isinstance(seen, bool) and math.isfinite(seen)
    }
    return {key: seen for key, seen in summary.items() if key not in numbers}, numbers


def _spelled(told: Mapping[str, Any], secrets: Secrets, longest: int) -> dict[str, str]:
    """As text; what is not set is left out."""
    texts = {name(key): _text(item) for key, item in told.items() if item is not None and item != ()}
    return {key: _short(secrets.hide(text), longest) for key, text in texts.items() if text}


def _text(item: object) -> str:
    if isinstance(item, bool):
        return str(item).lower()
    return " ".join(map(str, item)) if isinstance(item, list | tuple) else str(item)


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
