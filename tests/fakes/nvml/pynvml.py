"""A stand-in for NVML's bindings: the GPUs of a machine as the JSON file $STANDIN_NVML describes them at this moment.

A list of {uuid, name, compute_capability, total_mib, used_mib, processes: {pid: mib}, nvlinks: [index], node,
forbidden, clock_mhz, reasons: mask, slowed_ns: {policy: ns}, busy: {gpu: percent, memory: percent}, power_mw,
energy_mj}. `busy`, `power_mw` null: it has no such sensors; `energy_mj` null: no counter. It spells what it has
as nvidia-ml-py does (unit/machine/test_gpus.py holds them together), and refuses as an old driver does: no version 2
of the memory, no link status where `nvlinks` is missing, no times where `slowed_ns` is.
"""

# ruff: noqa: A002, N802, N803, N816 - NVML's spelling

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NVML_P2P_CAPS_INDEX_NVLINK = 2
NVML_P2P_STATUS_OK = 0
NVML_TOPOLOGY_NODE = 40
NVML_CLOCK_SM = 1
NVML_PERF_POLICY_POWER = 0
NVML_PERF_POLICY_THERMAL = 1
NVML_PERF_POLICY_BOARD_LIMIT = 3
NVML_PERF_POLICY_RELIABILITY = 5
nvmlClocksThrottleReasonSwPowerCap = 0x4
nvmlClocksThrottleReasonHwSlowdown = 0x8
nvmlClocksThrottleReasonSwThermalSlowdown = 0x20
nvmlClocksThrottleReasonHwThermalSlowdown = 0x40
NVML_TOPOLOGY_SYSTEM = 50
MIB = 2**20
nvmlMemory_v2 = 0x02000028


class NVMLError(Exception):
    """What NVML refuses."""


def _machine() -> list[dict[str, Any]]:
    path = os.environ.get("STANDIN_NVML")
    if path is None:
        raise NVMLError("NVML Shared Library Not Found")
    machine: list[dict[str, Any]] = json.loads(Path(path).read_text())
    return machine


def nvmlInit() -> None:
    _machine()


def nvmlShutdown() -> None:
    pass


def nvmlDeviceGetCount() -> int:
    return len(_machine())


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    if _machine()[index].get("forbidden"):
        raise NVMLError("No permission")
    return index


def nvmlDeviceGetName(handle: int) -> str:
    name: str = _machine()[handle].get("name", "NVIDIA Stand-in")
    return name


def nvmlDeviceGetCudaComputeCapability(handle: int) -> tuple[int, int]:
    seen = _machine()[handle].get("compute_capability", 9.0)
    if seen is None:
        raise NVMLError("Not supported")
    major, _, minor = str(float(seen)).partition(".")
    return int(major), int(minor)


def nvmlSystemGetDriverVersion() -> str:
    return "570.86"


def nvmlDeviceGetUUID(handle: int) -> str:
    uuid: str = _machine()[handle]["uuid"]
    return uuid


def nvmlDeviceGetMemoryInfo(handle: int, version: int | None = None) -> SimpleNamespace:
    if version is not None:
        raise NVMLError("Not supported")
    gpu = _machine()[handle]
    return SimpleNamespace(total=gpu.get("total_mib", 81920) * MIB, used=gpu.get("used_mib", 500) * MIB)


def nvmlDeviceGetComputeRunningProcesses(handle: int) -> list[SimpleNamespace]:
    seen = _machine()[handle].get("processes", {})
    return [SimpleNamespace(pid=int(pid), usedGpuMemory=used * MIB) for pid, used in seen.items()]


def nvmlDeviceGetPciInfo(handle: int) -> SimpleNamespace:
    return SimpleNamespace(busId=f"0000FFFF:{handle:02X}:00.0")  # no such bus on any machine


def nvmlDeviceGetClockInfo(handle: int, type: int) -> int:
    del type
    clock: int = _machine()[handle].get("clock_mhz", 1980)
    return clock


def nvmlDeviceGetMaxClockInfo(handle: int, type: int) -> int:
    del handle, type
    return 1980


def nvmlDeviceGetCurrentClocksThrottleReasons(handle: int) -> int:
    mask: int = _machine()[handle].get("reasons", 0)
    return mask


def nvmlDeviceGetUtilizationRates(handle: int) -> SimpleNamespace:
    busy = _machine()[handle].get("busy", {"gpu": 90, "memory": 60})
    if busy is None:
        raise NVMLError("Not supported")
    return SimpleNamespace(**busy)


def nvmlDeviceGetPowerUsage(handle: int) -> int:
    power = _machine()[handle].get("power_mw", 300_000)
    if power is None:
        raise NVMLError("Not supported")
    return int(power)


def nvmlDeviceGetTotalEnergyConsumption(handle: int) -> int:
    """Since the driver was loaded: by the clock where the file does not say."""
    power = nvmlDeviceGetPowerUsage(handle)
    energy = _machine()[handle].get("energy_mj", power * time.monotonic())
    if energy is None:
        raise NVMLError("Not supported")
    return int(energy)


def nvmlDeviceGetViolationStatus(device: int, perfPolicyType: int) -> SimpleNamespace:
    counted = _machine()[device].get("slowed_ns")
    if counted is None:
        raise NVMLError("Not supported")
    return SimpleNamespace(referenceTime=0, violationTime=counted.get(str(perfPolicyType), 0))


def nvmlDeviceGetP2PStatus(device1: int, device2: int, p2pIndex: int) -> int:
    links = _machine()[device1].get("nvlinks")
    if links is None or p2pIndex != NVML_P2P_CAPS_INDEX_NVLINK:
        raise NVMLError("Not supported")
    return NVML_P2P_STATUS_OK if device2 in links else 1


def nvmlDeviceGetTopologyCommonAncestor(device1: int, device2: int) -> int:
    nodes = [_machine()[device].get("node", 0) for device in (device1, device2)]
    return NVML_TOPOLOGY_NODE if nodes[0] == nodes[1] else NVML_TOPOLOGY_SYSTEM
