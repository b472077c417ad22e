"""How the trial's GPUs do while a level runs: clocks, what slows them down, and whose processes compute on them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pipeline.core.values import value
from pipeline.machine import gpus
from pipeline.machine.gpus import GpuProcess

SLOW_SHARE = 0.9  # of the highest clock
THROTTLED_SHARE = 0.02  # of the time
NS = 1e9
# NVML's names. A power cap is how many GPUs run all day: it is noted, and hinders nobody more than it always does.
POLICIES = {"POWER": "power cap", "THERMAL": "heat", "BOARD_LIMIT": "board limit", "RELIABILITY": "reliability limit"}
REASONS = {
    "SwPowerCap": "power cap",
    "SwThermalSlowdown": "heat",
    "HwThermalSlowdown": "heat",
    "HwSlowdown": "hardware",
}
USUAL = "power cap"
IDLE_REASON = 0x1  # nvmlClocksThrottleReasonGpuIdle
OURS = ("nvidia-cuda-mps",)  # the driver's own


@value
class GpuState:
    """One GPU at one moment."""

    index: int
    clock_mhz: int | None
    highest_mhz: int | None
    is_idle: bool
    reasons: tuple[str, ...]  # why it is slowed down at this moment
    slowed_s: Mapping[str, float]  # by reason, since the driver was loaded
    processes: tuple[GpuProcess, ...]


@value
class Strain:
    """What was seen of the GPUs, in words, and whether it makes the level unlike others."""

    notes: tuple[str, ...] = ()
    is_disturbed: bool = False


def read(ids: Sequence[str]) -> tuple[GpuState, ...]:
    """The GPUs with these ids; empty where there are none, or no NVML."""
    if not ids:
        return ()
    wanted = gpus.named(gpus.look() or (), ids)
    with gpus.opened() as nvml:
        if nvml is None:
            return ()
        handles = list(gpus.usable(nvml))
        return tuple(_state(nvml, handles[gpu.index], gpu) for gpu in wanted)


def between(first: Sequence[GpuState], last: Sequence[GpuState], known: Mapping[int, bool], seconds: float) -> Strain:
    """What to say of a level. `known`: the processes that can be seen from here, and whether they are the trial's."""
    before = {one.index: one for one in first}
    slowed = [note for now in last if now.index in before for note in _slowed(before[now.index], now, seconds)]
    others = [note for now in last for note in _others(before.get(now.index, now), now, known)]
    notes = tuple(dict.fromkeys([*(words for words, _ in slowed), *others, *map(_clock, filter(_is_slow, last))]))
    return Strain(notes=notes, is_disturbed=bool(others) or any(not is_usual for _, is_usual in slowed))


def _slowed(first: GpuState, last: GpuState, seconds: float) -> Iterator[tuple[str, bool]]:
    """Why it was slowed down, and whether that is usual: by the driver's clocks, else by what it says at both ends."""
    for reason in last.slowed_s:
        share = (last.slowed_s[reason] - first.slowed_s.get(reason, 0.0)) / seconds
        if share > THROTTLED_SHARE:
            yield f"GPU {last.index} was slowed down by {reason} for {min(share, 1):.0%} of the time", reason == USUAL
    if not last.slowed_s:
        for reason in sorted({*first.reasons, *last.reasons}):
            yield f"GPU {last.index} was slowed down by {reason}", reason == USUAL


def _others(first: GpuState, last: GpuState, known: Mapping[int, bool]) -> Iterator[str]:
    """Processes that are certainly not the trial's: they can be seen, and are in no tree of ours."""
    for one in dict.fromkeys((*first.processes, *last.processes)):
        if known.get(one.pid) is False and not one.name.startswith(OURS):
            yield f"process {one.pid} ({one.name}) computes on GPU {last.index} as well"


def _is_slow(seen: GpuState) -> bool:
    is_known = seen.clock_mhz is not None and seen.highest_mhz is not None
    return is_known and not seen.is_idle and (seen.clock_mhz or 0) < SLOW_SHARE * (seen.highest_mhz or 0)


def _clock(seen: GpuState) -> str:
    return f"GPU {seen.index} ran at {seen.clock_mhz} of {seen.highest_mhz} MHz at the end"


def reasons(nvml: Any, mask: int) -> tuple[str, ...]:
    """Why a GPU is slowed down, by NVML's mask, each once."""
    found = (words for name, words in REASONS.items() if mask & getattr(nvml, f"nvmlClocksThrottleReason{name}"))
    return tuple(dict.fromkeys(found))


def _state(nvml: Any, handle: Any, gpu: gpus.Gpu) -> GpuState:
    mask = _asked(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", handle) or 0
    return GpuState(
        index=gpu.index,
        clock_mhz=_asked(nvml, "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM),
        highest_mhz=_asked(nvml, "nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM),
        is_idle=bool(mask & IDLE_REASON),
        reasons=reasons(nvml, mask),
        slowed_s=dict(_slowed_s(nvml, handle)),
        processes=gpu.processes,
    )


def _slowed_s(nvml: Any, handle: Any) -> Iterator[tuple[str, float]]:
    """Seconds by reason, where the GPU counts them: data-centre models do."""
    for name, words in POLICIES.items():
        policy = getattr(nvml, f"NVML_PERF_POLICY_{name}")
        if (seen := _asked(nvml, "nvmlDeviceGetViolationStatus", handle, policy)) is not None:
            yield words, seen.violationTime / NS


def _asked(nvml: Any, function: str, *given: Any) -> Any:
    with suppress(nvml.NVMLError):
        return getattr(nvml, function)(*given)
    return None
