"""The content of a trial's W&B run. The wandb module is passed in: only one module imports it."""

from functools import partial
from types import ModuleType
from typing import Any

from pipeline.core import metrics
from pipeline.core.files import RunDir
from pipeline.core.record import Level, Record
from pipeline.core.redact import Secrets
from pipeline.core.values import plain
from pipeline.trackers.result import GROUPS
from pipeline.trackers.wandb_content import Content

RESULTS = "*/*/*_time_*s.json"  # below bench/
TABLE = ("scenario", "concurrency", "status", "reason", "warnings", "elapsed_s")


def content(record: Record, run_dir: RunDir, key: str) -> Content:
    """The run of a trial of the sweep with that key."""
    files = (
        run_dir.record,
        run_dir.config,
        run_dir.plan,
        run_dir.metrics,
        run_dir.lease,
        run_dir.server_log,
        run_dir.pipeline_log,
        *run_dir.bench.glob(RESULTS),
    )
    return Content(
        run_id=f"{key}-{record.number}",
        job_type="trial",
        group=record.sweep_id,
        name=_name(record),
        tags=_tags(record),
        config={"sweep_key": key, **_config(record)},
        artifact=f"trial-{key}-{record.number}",
        files=tuple((file, str(file.relative_to(run_dir.path))) for file in files if file.is_file()),
        fill=partial(_fill, record),
        exit_code=0 if record.status == "ok" else 1,
    )


def _fill(record: Record, wandb: ModuleType, run: Any, secrets: Secrets) -> None:
    run.define_metric("concurrency", hidden=True, summary="none")
    for scenario in dict.fromkeys(level.scenario for level in record.levels):
        run.define_metric(f"{scenario}/*", step_metric="concurrency", summary="none")
    is_final = record.status != "interrupted"  # else it is measured again, and this run goes on: no points twice
    for level in record.levels:
        if is_final and level.status == "ok" and level.metrics:
            run.log(secrets.hide(_point(level)))
    rows = [secrets.hide(_row(level)) for level in record.levels]
    run.log({"levels": wandb.Table(columns=list(TABLE), data=rows)})
    run.summary.update(secrets.hide(_summary(record)))


def _name(record: Record) -> str:
    """Its number and overrides, knobs first: long names are cut."""
    overrides = sorted(record.overrides, key=lambda word: word.split("=", 1)[0] not in record.config.knobs)
    words = " ".join(overrides) or ("baseline" if record.is_baseline else "")
    return f"{record.number} {words}".strip()


def _tags(record: Record) -> tuple[str, ...]:
    phase = "" if record.phase == "search" else record.phase
    names = (record.config.runtime.name, record.config.model.name, record.status, phase)
    tags = (*names, "baseline" if record.is_baseline else "")
    return tuple(tag for tag in dict.fromkeys(tags) if tag)


def _config(record: Record) -> dict[str, Any]:
    """Knobs and choices under their own names, to sort and group by; the whole under `config`."""
    config = record.config
    names = {group: getattr(config, group).name for group in GROUPS}
    trial = {"trial_id": record.trial_id, "number": record.number, "overrides": record.overrides}
    place = {"repeat_of": record.repeat_of, "phase": record.phase}
    return {**trial, **place, **names, **config.knobs, "config": plain(config)}


def _point(level: Level) -> dict[str, float]:
    flat = metrics.flatten(level.metrics) if level.metrics else {}
    return {
        "concurrency": level.concurrency,
        **{f"{level.scenario}/{name}": seen for name, seen in (flat | _by_engine(level)).items()},
    }


def _by_engine(level: Level) -> dict[str, float]:
    """What the engine's own clock says, beside what the load generator measured."""
    seen = level.engine
    times = {"engine_ttft_mean_s": seen.ttft_mean_s, "engine_tpot_mean_s": seen.tpot_mean_s} if seen else {}
    return {name: time for name, time in times.items() if time is not None}


def _row(level: Level) -> list[Any]:
    reason = f"{level.failure.kind}: {level.failure.message}" if level.failure else ""
    return [
        level.scenario,
        level.concurrency,
        level.status,
        reason,
        "; ".join(level.warnings),
        level.elapsed_s,
    ]


def _summary(record: Record) -> dict[str, Any]:
    best = next((level for level in record.levels if level.name == record.best_level), None)
    flat = metrics.flatten(best.metrics) if best and best.metrics else {}
    found = {
        "status": record.status,
        "failure_kind": record.failure.kind.value if record.failure else None,
        "failure": record.failure.message if record.failure else None,
        "best_level": record.best_level,
        "verdict": record.verdict.word if record.verdict else None,
        "findings": "; ".join(finding.reason for finding in record.verdict.findings) if record.verdict else None,
        "same_as": record.same_as,
        "engine_version": record.engine_version,
        "settings_unknown": record.settings_unknown,
        **{f"resolved/{item.knob}": item.got for item in record.rewrites},
        "teardown_clean": record.teardown.is_clean if record.teardown else None,
        **(record.objective or {}),
        **{f"best/{name}": seen for name, seen in flat.items()},
        **{f"steps/{timing.step}_s": timing.seconds for timing in record.steps},
    }
    cleared = {"failure_kind", "failure"}  # told even if there is none: this may be the second attempt of the trial
    return {name: seen for name, seen in found.items() if seen is not None or name in cleared}
