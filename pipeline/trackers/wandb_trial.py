"""The content of a trial's W&B run. The wandb module is passed in: only one module imports it."""

from functools import partial
from types import ModuleType
from typing import Any

from pipeline.core.files import RunDir
from pipeline.core.record import Level, Record
from pipeline.core.redact import Secrets
from pipeline.core.values import plain
from pipeline.trackers import trial_content
from pipeline.trackers.wandb_content import Content

USERS, RATE = "concurrency", "requests_per_s_asked"
TABLE = ("scenario", "concurrency", "status", "reason", "warnings", "elapsed_s", "rate")


def content(record: Record, run_dir: RunDir, key: str) -> Content:
    """The run of a trial of the sweep with that key."""
    return Content(
        run_id=f"{key}-{record.number}",
        job_type="trial",
        group=record.sweep_id,
        name=trial_content.name(record),
        tags=trial_content.tags(record),
        config={"sweep_key": key, **trial_content.choices(record), "config": plain(record.config)},
        artifact=f"trial-{key}-{record.number}",
        files=tuple(trial_content.files(run_dir)),
        fill=partial(_fill, record),
        exit_code=0 if record.status == "ok" else 1,
    )


def _fill(record: Record, wandb: ModuleType, run: Any, secrets: Secrets) -> None:
    axis = RATE if record.config.traffic.is_open else USERS
    run.define_metric(axis, hidden=True, summary="none")
    for scenario in dict.fromkeys(level.scenario for level in record.levels):
        run.define_metric(f"{scenario}/*", step_metric=axis, summary="none")
    is_final = not record.is_unfinished  # else it is measured again, and this run goes on: no points twice
    for level in record.levels:
        if is_final and level.status == "ok" and level.metrics:
            run.log(secrets.hide(_point(level)))
    rows = [secrets.hide(_row(level)) for level in record.levels]
    run.log({"levels": wandb.Table(columns=list(TABLE), data=rows)})
    run.summary.update(secrets.hide(trial_content.summary(record)))


def _point(level: Level) -> dict[str, float]:
    seen = trial_content.numbers(level).items()
    axis = USERS if level.rate is None else RATE
    return {axis: level.demand, **{f"{level.scenario}/{name}": number for name, number in seen}}


def _row(level: Level) -> list[Any]:
    reason = f"{level.failure.kind}: {level.failure.message}" if level.failure else ""
    return [
        level.scenario,
        level.concurrency or None,
        level.status,
        reason,
        "; ".join(level.warnings),
        level.elapsed_s,
        level.rate,
    ]
