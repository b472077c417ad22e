"""A level is measured while the machine is quiet: one that others disturbed is measured once more."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline.backends import Deployment, lease
from pipeline.core import files
from pipeline.core.errors import StepTimedOut
from pipeline.core.files import RunDir
from pipeline.core.plan import LevelPlan, Plan
from pipeline.core.record import Level, Load
from pipeline.core.schema import Config
from pipeline.machine import load
from pipeline.machine.load import Scope

Measure = Callable[[], Level]
Begin = Callable[[], Callable[[], Load | None]]  # looks at the machine; what it gives tells what the machine did since


def level(config: Config, plan: Plan, deployment: Deployment, wanted: LevelPlan, measure: Measure) -> Level:
    """Measure the level as bench.crowded asks. Engines on other machines are not looked after.

    It is not measured again beside other trials of ours: they would be there the second time too.
    """
    if config.bench.crowded == "ignore" or config.backend.is_elsewhere:
        return measure()
    scope = scope_of(plan, deployment)
    folder = RunDir(plan.run_dir).level(wanted.scenario, wanted.folder)
    return measure_quietly(
        measure,
        lambda: load.begin(scope).end,
        folder=folder,
        may_repeat=lambda: config.bench.crowded == "repeat" and not lease.neighbours(deployment.lease),
    )


def scope_of(plan: Plan, deployment: Deployment) -> Scope:
    """Whose load is not others'."""
    return Scope(
        cores=plan.slots.cores,
        pid=deployment.pid,
        label=deployment.lease.label,
        container=deployment.facts.get("container"),
        gpu_ids=plan.slots.gpu_ids,
    )


def measure_quietly(measure: Measure, begin: Begin, *, folder: Path, may_repeat: Callable[[], bool]) -> Level:
    """Measure once, and if the machine was crowded once more; the quieter of both. `folder`: where its files go."""
    first = _watched(measure, begin)
    if not _is_crowded(first):
        return first
    if not may_repeat():
        return _told(first, "measured once")
    aside = files.put_aside(folder)
    try:
        second = _watched(measure, begin)
    except StepTimedOut:  # the trial's time is over, and there is something
        _swap(folder, aside)
        return _told(first, "measured once, because the trial's time was over")
    if second.status == "ok" and _others(second) <= _others(first):
        kept = second
    else:
        kept = first
        _swap(folder, aside)
    return replace(_told(kept, "measured twice, the quieter kept", first), times_measured=2)


def _watched(measure: Measure, begin: Begin) -> Level:
    end = begin()
    measured = measure()
    return replace(measured, load=end())


def _is_crowded(measured: Level) -> bool:
    return measured.status == "ok" and measured.load is not None and measured.load.is_crowded


def _others(measured: Level) -> float:
    """Others' cores; one that is crowded for whatever reason, a throttled GPU too, comes after those that are not."""
    seen = measured.load
    return float("inf") if seen is None else seen.others_cores + (seen.cores if seen.is_crowded else 0)


def _told(kept: Level, how: str, first: Level | None = None) -> Level:
    """The level, with what there is to know of it."""
    is_crowded = _is_crowded(kept)
    seen = kept.load if is_crowded or first is None else first.load
    if seen is None:
        return kept
    why = "; ".join((f"other processes used {seen.others_cores:.1f} of {seen.cores} cores", *seen.notes))
    return replace(kept, warnings=(*kept.warnings, f"crowded{'' if is_crowded else ' at first'}: {why}; {how}"))


def _swap(folder: Path, aside: Path | None) -> None:
    """The files that were put aside are those that count; the others take their place."""
    if aside is None:
        return
    other = files.put_aside(folder)
    aside.rename(folder)
    if other is not None:
        other.rename(aside)
