"""What NVML says of the GPUs. Needs nvidia-ml-py, or else nvidia-smi."""

import subprocess
from typing import NamedTuple

QUERY = "name,driver_version,memory.total,memory.used"


class Gpu(NamedTuple):
    """One GPU; memory in MiB."""

    name: str
    driver: str
    total_mib: int
    used_mib: int


def look() -> list[Gpu]:
    """The GPUs of this machine; none where there is no driver."""
    try:
        return _by_nvml()
    except ImportError:
        return _by_smi()


def _by_nvml() -> list[Gpu]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    driver = _text(pynvml.nvmlSystemGetDriverVersion())
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    seen = [(_text(pynvml.nvmlDeviceGetName(each)), pynvml.nvmlDeviceGetMemoryInfo(each)) for each in handles]
    pynvml.nvmlShutdown()
    return [Gpu(name, driver, memory.total >> 20, memory.used >> 20) for name, memory in seen]


def _by_smi() -> list[Gpu]:
    words = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.split(", ") for line in done.stdout.splitlines())
    return [Gpu(name, driver, int(total), int(used)) for name, driver, total, used in rows]


def _text(told: str | bytes) -> str:
    return told.decode() if isinstance(told, bytes) else told
