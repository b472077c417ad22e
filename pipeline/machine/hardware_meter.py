"""Reads the sensors of a trial's GPUs, or of the CPU where the engine runs on it: work, memory, clocks, power, energy.

NVML stays open between two looks, because opening it takes longer than all of them. A sensor that is not there is None.
"""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from pipeline.core.hardware_use import GpuSample, Sample
from pipeline.machine import gpu_state, gpus, rapl

MILLI = 1e-3
PERCENT = 100


class Meter:
    """The sensors of these GPUs, by NVML's index or UUID; of the CPU's packages where `is_cpu`."""

    def __init__(self, gpu_ids: Sequence[str], *, is_cpu: bool, powercap: Path | None = None) -> None:
        self.ids = tuple(gpu_ids)
        self.packages = rapl.Packages(powercap) if is_cpu else None
        self.nvml: Any = None
        self.handles: list[tuple[int, Any]] = []  # index and handle
        self._open = ExitStack()

    def begin(self) -> None:
        """Look for the GPUs. Never an error."""
        if not self.ids:
            return
        wanted = gpus.named(gpus.look() or (), self.ids)
        self.nvml = self._open.enter_context(gpus.opened())
        if self.nvml is not None:
            handles = list(gpus.usable(self.nvml))
            self.handles = [(gpu.index, handles[gpu.index]) for gpu in wanted]

    def close(self) -> None:
        """Let NVML go."""
        self._open.close()

    def look(self) -> Sample | None:
        """What the sensors say now; None where there is none."""
        seen = tuple(_gpu(self.nvml, index, handle) for index, handle in self.handles)
        joules = self.packages.read_j() if self.packages else None
        return Sample(gpus=seen, cpu_energy_j=joules) if seen or joules is not None else None


def why_no_energy(gpu_ids: Sequence[str], *, is_cpu: bool, powercap: Path | None = None) -> str | None:
    """Why the energy of these GPUs, or of the CPU, cannot be measured here, in words; None: it can."""
    if is_cpu:
        return rapl.Packages(powercap).why_not
    meter = Meter(gpu_ids, is_cpu=False)
    meter.begin()
    try:
        seen = meter.look()
    finally:
        meter.close()
    if seen is None:
        return "NVML does not tell of these GPUs"
    blind = [gpu.index for gpu in seen.gpus if gpu.power_w is None and gpu.energy_j is None]
    return f"GPU {', '.join(map(str, blind))} has no power sensor that NVML knows" if blind else None


def _gpu(nvml: Any, index: int, handle: Any) -> GpuSample:
    """Source: nvml.h: power in milliwatts, energy in millijoules since the driver was loaded (Volta and later)."""
    rates = _asked(nvml, "nvmlDeviceGetUtilizationRates", handle)
    memory = _asked(nvml, "nvmlDeviceGetMemoryInfo", handle)
    power, energy = _asked(nvml, "nvmlDeviceGetPowerUsage", handle), _energy(nvml, handle)
    mask = _asked(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    return GpuSample(
        index=index,
        utilisation=None if rates is None else rates.gpu / PERCENT,
        memory_utilisation=None if rates is None else rates.memory / PERCENT,
        memory_used_mib=None if memory is None else memory.used // gpus.MIB,
        power_w=None if power is None else power * MILLI,
        clock_mhz=_asked(nvml, "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM),
        slowed_by=None if mask is None else gpu_state.reasons(nvml, mask),
        energy_j=energy,
    )


def _energy(nvml: Any, handle: Any) -> float | None:
    seen = _asked(nvml, "nvmlDeviceGetTotalEnergyConsumption", handle)
    return None if seen is None else seen * MILLI


def _asked(nvml: Any, function: str, *given: Any) -> Any:
    with suppress(nvml.NVMLError):
        return getattr(nvml, function)(*given)
    return None
