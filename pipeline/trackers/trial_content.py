"""What trackers say of a trial, all by the same names. Nothing is redacted yet. Pure, but for finding files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.core import metrics
from pipeline.core.files import RunDir
from pipeline.core.quality import Judgement
from pipeline.core.record import Level, Record
from pipeline.core.values import plain
from pipeline.trackers.result import GROUPS

RESULTS = "*/*/*_time_*s.json"  # below bench/
SERIES = ("engine_metrics.json", "hardware.json")  # likewise, of each level: what was sampled while it ran


def files(run_dir: RunDir) -> Iterator[tuple[Path, str]]:
    """The files that are published, where they are there, and their names."""
    found = (
        run_dir.record,
        run_dir.config,
        run_dir.plan,
        run_dir.metrics,
        run_dir.lease,
        run_dir.server_log,
        run_dir.pipeline_log,
        *run_dir.bench.glob(RESULTS),
        *(file for name in SERIES for file in sorted(run_dir.bench.glob(f"*/*/{name}"))),
    )
    return ((file, str(file.relative_to(run_dir.path))) for file in found if file.is_file())


def name(record: Record) -> str:
    """Its number and overrides, knobs first: long names are cut."""
    overrides = sorted(record.overrides, key=lambda word: word.split("=", 1)[0] not in record.config.knobs)
    words = " ".join(overrides) or ("baseline" if record.is_baseline else "")
    return f"{record.number} {words}".strip()


def tags(record: Record) -> tuple[str, ...]:
    """Words to filter by: engine, model, how it ended, its phase."""
    phase = "" if record.phase == "search" else record.phase
    names = (record.config.runtime.name, record.config.model.name, record.status, phase)
    found = (*names, "baseline" if record.is_baseline else "")
    return tuple(tag for tag in dict.fromkeys(found) if tag)


def choices(record: Record) -> dict[str, Any]:
    """Which trial it is; its knobs and options under their own names, to sort and group by."""
    config = record.config
    names = {group: getattr(config, group).name for group in GROUPS}
    trial = {"trial_id": record.trial_id, "number": record.number, "overrides": record.overrides}
    place = {"repeat_of": record.repeat_of, "phase": record.phase}
    return {**trial, **place, **names, **config.knobs}


def numbers(level: Level) -> dict[str, float]:
    """What the load generator measured, and what the engine and the hardware say of themselves."""
    flat = metrics.flatten(level.metrics) if level.metrics else {}
    return flat | _by_engine(level) | _by_sensors(level)


def _by_engine(level: Level) -> dict[str, float]:
    """`engine_` and the names of the record: `engine_kv_use_max`, `engine_ttft_mean_s`."""
    told = {key: item for seen in (level.engine, level.engine_metrics) if seen for key, item in plain(seen).items()}
    return {f"engine_{key}": item for key, item in told.items() if key != "samples" and _is_number(item)}


def _by_sensors(level: Level) -> dict[str, float]:
    """Of all GPUs of the trial: the mean, or the most."""
    seen = level.hardware
    if seen is None:
        return {}
    busy = [gpu.utilisation for gpu in seen.gpus if gpu.utilisation is not None]
    used = [gpu.memory_used_mib for gpu in seen.gpus if gpu.memory_used_mib is not None]
    told = {
        "gpu_utilisation_mean": sum(busy) / len(busy) if busy else None,
        "gpu_memory_used_mib_max": max(used, default=None),
        "power_w": seen.power_w,
        "energy_j": seen.energy_j,
    }
    return {key: number for key, number in told.items() if number is not None}


def _is_number(told: object) -> bool:
    return isinstance(told, int | float) and not isinstance(told, bool)


def _quality(seen: Judgement | None) -> dict[str, Any]:
    """The verdict on its answers: the word as in its record, the sentence with numbers, and those by themselves."""
    if seen is None:
        return {}
    shares = {"quality_agreement": seen.agreement, "quality_floor": seen.floor}
    told = {name: one.share for name, one in shares.items() if one is not None}
    return {"quality": seen.word, "quality_told": str(seen), **told}


def summary(record: Record) -> dict[str, Any]:
    """How it ended, and its numbers."""
    best = next((level for level in record.levels if level.name == record.best_level), None)
    flat = numbers(best) if best and best.metrics else {}
    found = {
        "status": record.status,
        "failure_kind": record.failure.kind.value if record.failure else None,
        "failure": record.failure.message if record.failure else None,
        "best_level": record.best_level,
        "advice": record.advice.text if record.advice else None,
        **_quality(record.quality),
        "verdict": record.verdict.word if record.verdict else None,
        "findings": "; ".join(finding.reason for finding in record.verdict.findings) if record.verdict else None,
        "same_as": record.same_as,
        "engine_version": record.engine_version,
        "settings_unknown": record.settings_unknown,
        **{f"resolved/{item.knob}": item.got for item in record.rewrites},
        "teardown_clean": record.teardown.is_clean if record.teardown else None,
        **(record.objective or {}),
        **{f"best/{key}": seen for key, seen in flat.items()},
        **{f"steps/{timing.step}_s": timing.seconds for timing in record.steps},
    }
    cleared = {"failure_kind", "failure"}  # told even if there is none: this may be the second attempt of the trial
    return {key: seen for key, seen in found.items() if seen is not None or key in cleared}
