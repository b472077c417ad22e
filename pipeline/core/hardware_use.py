"""What a trial's own hardware did during a level, from readings of its sensors: a summary, and its energy. Pure.

Energy is that of the time in which requests were sent and answered, by the hardware's own counters; where it has none,
by its power. A sensor that is not there gives no number.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from pipeline.core.record import GpuUse, HardwareUse, Level, LevelMetrics
from pipeline.core.values import value

COVERED = 0.8  # of a level's time that must lie between two readings for its energy to be told
UNKNOWN = "no sensor tells of its power"
SHORT = "the level was too short for the sensors"
WHEN = "it is not known when the load began: use bench.runner=resident"


@value
class GpuSample:
    """A GPU at one moment; None: it has no such sensor. `energy_j`: since its driver was loaded."""

    index: int
    utilisation: float | None = None
    memory_utilisation: float | None = None
    memory_used_mib: int | None = None
    power_w: float | None = None
    clock_mhz: float | None = None
    slowed_by: tuple[str, ...] | None = None
    energy_j: float | None = None


@value
class Sample:
    """The hardware at one moment. `cpu_energy_j`: of all packages, since they were first read."""

    gpus: tuple[GpuSample, ...] = ()
    cpu_energy_j: float | None = None


@value
class Seen:
    """The readings of a level, with seconds on one clock; `began_s`, `ended_s`: of its load, None if not known."""

    samples: tuple[tuple[float, Sample], ...]
    began_s: float | None = None
    ended_s: float | None = None
    is_timed: bool = True  # False: the load took an unknown part of the time
    missing: str | None = None  # why there are no readings


Curve = Sequence[tuple[float, float]]  # joules over seconds, rising


def told(level: Level, seen: Seen) -> Level:
    """The level with what its hardware did, and its energy among the metrics."""
    use = summary(seen)
    if use is None:
        return level
    metrics = level.metrics
    if metrics is None or use.power_w is None:
        return replace(level, hardware=use)
    power_w, seconds = use.power_w, metrics.run_duration_s
    gpus = tuple(_with_energy(one, metrics) for one in use.gpus)
    use = replace(use, energy_j=power_w * seconds, gpus=gpus)
    return replace(level, hardware=use, metrics=_measured(metrics, power_w))


def summary(seen: Seen) -> HardwareUse | None:
    """The level in numbers, but for its energy; None where nothing was read and nothing was to be."""
    if not seen.samples:
        return HardwareUse(samples=0, missing=seen.missing) if seen.missing else None
    begin, end = _window(seen)
    inside = [one for at_s, one in seen.samples if begin <= at_s <= end] or [one for _, one in seen.samples]
    indexes = dict.fromkeys(gpu.index for one in inside for gpu in one.gpus)
    gpus = tuple(_gpu(index, inside, _power(_curve_of(index, seen), begin, end)) for index in indexes)
    powers = [one.power_w for one in gpus] or [_power(_cpu_curve(seen), begin, end)]
    powers = powers if seen.is_timed else [None]
    power = None if None in powers else sum(one for one in powers if one is not None)
    missing = seen.missing if power is not None else seen.missing or _why(seen)
    return HardwareUse(samples=len(inside), gpus=gpus, power_w=power, missing=missing)


def rows(seen: Seen) -> dict[str, Any]:
    """The samples as columns and rows, for a file."""
    names = ("utilisation", "memory_utilisation", "memory_used_mib", "power_w", "clock_mhz", "energy_j")
    indexes = dict.fromkeys(gpu.index for _, one in seen.samples for gpu in one.gpus)
    columns = [f"gpu{index}.{name}" for index in indexes for name in names]
    table = []
    for at_s, one in seen.samples:
        by_index = {gpu.index: gpu for gpu in one.gpus}
        cells = [getattr(by_index[index], name) if index in by_index else None for index in indexes for name in names]
        table.append([round(at_s, 3), *cells, one.cpu_energy_j])
    return {"columns": ["at_s", *columns, "cpu_energy_j"], "rows": table}


def _measured(metrics: LevelMetrics, power_w: float) -> LevelMetrics:
    speed = metrics.output_tokens_per_s
    if not speed or not power_w:
        return metrics
    return replace(metrics, joules_per_output_token=power_w / speed, tokens_per_s_per_watt=speed / power_w)


def _with_energy(gpu: GpuUse, metrics: LevelMetrics) -> GpuUse:
    return gpu if gpu.power_w is None else replace(gpu, energy_j=gpu.power_w * metrics.run_duration_s)


def _window(seen: Seen) -> tuple[float, float]:
    first, last = seen.samples[0][0], seen.samples[-1][0]
    return (first if seen.began_s is None else seen.began_s, last if seen.ended_s is None else seen.ended_s)


def _gpu(index: int, inside: Sequence[Sample], power_w: float | None) -> GpuUse:
    mine = [gpu for one in inside for gpu in one.gpus if gpu.index == index]
    used = [gpu.memory_used_mib for gpu in mine if gpu.memory_used_mib is not None]
    reasons = [gpu.slowed_by for gpu in mine if gpu.slowed_by is not None]
    return GpuUse(
        index=index,
        utilisation=_mean([gpu.utilisation for gpu in mine]),
        memory_utilisation=_mean([gpu.memory_utilisation for gpu in mine]),
        memory_used_mib=max(used, default=None),
        clock_mhz=_mean([gpu.clock_mhz for gpu in mine]),
        power_w=power_w,
        slowed={name: sum(name in some for some in reasons) / len(reasons) for some in reasons for name in some},
    )


def _mean(numbers: Sequence[float | None]) -> float | None:
    known = [one for one in numbers if one is not None]
    return sum(known) / len(known) if known else None


def _curve_of(index: int, seen: Seen) -> Curve:
    """The energy of a GPU over time: by its counter, else by its power."""
    timed = [(at_s, gpu) for at_s, one in seen.samples for gpu in one.gpus if gpu.index == index]
    if counted := _curve(timed, lambda gpu: gpu.energy_j):
        return counted
    powers = _curve(timed, lambda gpu: gpu.power_w)
    made, joules = list(powers[:1]), 0.0
    for (start_s, watts), (end_s, then) in pairwise(powers):
        joules += (end_s - start_s) * (watts + then) / 2
        made.append((end_s, joules))
    return [(made[0][0], 0.0), *made[1:]] if made else []


def _curve(timed: Sequence[tuple[float, GpuSample]], number: Callable[[GpuSample], float | None]) -> Curve:
    return [(at_s, seen) for at_s, gpu in timed if (seen := number(gpu)) is not None]


def _cpu_curve(seen: Seen) -> Curve:
    return [(at_s, one.cpu_energy_j) for at_s, one in seen.samples if one.cpu_energy_j is not None]


def _power(curve: Curve, begin: float, end: float) -> float | None:
    """The mean between two moments, as far as it was read; None where too little of it was."""
    if len(curve) < 2 or end <= begin:
        return None
    first, last = max(begin, curve[0][0]), min(end, curve[-1][0])
    if last - first < COVERED * (end - begin) or last <= first:
        return None
    joules = _at(curve, last) - _at(curve, first)
    return joules / (last - first) if joules > 0 else None


def _at(curve: Curve, at_s: float) -> float:
    """Between two readings, on the line that joins them."""
    for (start_s, before), (end_s, after) in pairwise(curve):
        if start_s <= at_s <= end_s and end_s > start_s:
            return before + (after - before) * (at_s - start_s) / (end_s - start_s)
    return curve[-1][1]


def _why(seen: Seen) -> str:
    if not seen.is_timed:
        return WHEN
    has_any = any(
        one.cpu_energy_j is not None or any(gpu.power_w is not None or gpu.energy_j is not None for gpu in one.gpus)
        for _, one in seen.samples
    )
    return SHORT if has_any else UNKNOWN
