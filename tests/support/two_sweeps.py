"""The records of small made-up sweeps, to hold them beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from pipeline.core.files import RunDir, save
from pipeline.core.record import Record
from support.records import make_config, make_failed_record, make_failure, make_record

NAME = "output_tokens_per_s"
Scores = Mapping[int | None, Sequence[float | None]]  # by page_size; None: the trial failed


def sweep(
    name: str,
    scores: Scores,
    rounds: Sequence[tuple[float, float]] = (),
    *,
    of: int | None = None,
    day: int = 1,
    config: Mapping[str, Any] | None = None,
    **changes: Any,
) -> list[Record]:
    """What the search measured of each page_size, once or repeatedly; then rounds of page_size `of` and the baseline.

    `config` replaces parts of the configuration of every trial, `changes` fields of every record.
    """
    measured = [(size, score, again > 0, "search") for size, some in scores.items() for again, score in enumerate(some)]
    measured += [
        (size, score, True, "confirm") for pair in rounds for size, score in zip((of, None), pair, strict=True)
    ]
    firsts: dict[int | None, int] = {}
    made = []
    for number, (size, score, is_again, phase) in enumerate(measured):
        first = firsts.setdefault(size, number)
        begin = datetime(2026, 11, day, 10, number // 60, number % 60, tzinfo=timezone.utc)  # noqa: UP017
        given: dict[str, Any] = {
            "trial_id": f"{name}/{number}",
            "sweep_id": name,
            "number": number,
            "overrides": (f"page_size={size}",),
            "is_baseline": size is None,
            "repeat_of": first if is_again else None,
            "phase": phase,
            "config": make_config(**{"knobs": {"page_size": size, "slots": None}, **(config or {})}),
            "started_at": begin,
            "ended_at": begin + timedelta(seconds=1),
            "environment": {"host": "node-1"},
            **changes,
        }
        made.append(_failed(given) if score is None else make_record(**given, objective=_objective(given, score)))
    return made


def _objective(given: Mapping[str, Any], score: float) -> dict[str, float]:
    return dict.fromkeys(given["config"].objective, score)


def _failed(given: Mapping[str, Any]) -> Record:
    return make_failed_record(**given, failure=make_failure(message="CUDA out of memory"))


def write(folder: Path, records: Sequence[Record]) -> Path:
    """The sweep's folder."""
    for record in records:
        run = RunDir(folder / str(record.number))
        run.path.mkdir(parents=True)
        save(run.record, record)
    return folder
