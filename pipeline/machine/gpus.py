"""The NVIDIA GPUs of this machine, as NVML reports them: memory, processes, topology."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import combinations
from pathlib import Path
from typing import Any

import psutil

from pipeline.core.errors import ConfigError
from pipeline.core.values import value
from pipeline.machine import process, visible

MIB = 2**20
BUSY_SHARE = 0.1  # of a GPU's memory: less is held by a driver or a desktop
GIVEN_BACK_S = 10.0
VISIBLE = visible.CUDA
SLICE = visible.SLICE
NVLINK = 0  # nearer than NVML's nearest level, NVML_TOPOLOGY_SINGLE = 10; NVML_TOPOLOGY_SYSTEM = 50 is the farthest


@value
class GpuProcess:
    """A process that computes on a GPU. `name` is `?` where it runs in another PID namespace."""

    pid: int
    name: str
    used_mib: int | None


@value
class Gpu:
    """One GPU. `distances` has NVML's topology level (0: NVLink) to each GPU of the machine, by index."""

    index: int
    uuid: str
    memory_mib: int
    used_mib: int
    processes: tuple[GpuProcess, ...] = ()
    numa_node: int = -1
    distances: tuple[int, ...] = ()
    name: str = ""
    compute_capability: float | None = None

    @property
    def busy(self) -> str | None:
        """Who uses it, in words; None: it is idle."""
        if self.processes:
            return ", ".join(f"process {one.pid} ({one.name})" for one in self.processes)
        if self.used_mib > BUSY_SHARE * self.memory_mib:
            return f"{self.used_mib / 1024:.1f} GiB in use by a process that cannot be seen from here"
        return None


def look() -> tuple[Gpu, ...] | None:
    """Every GPU, by index; None where there is no NVML: no NVIDIA driver, or a broken one."""
    with opened() as nvml:
        if nvml is None:
            return None
        handles = list(usable(nvml))
        return tuple(_gpu(nvml, index, handles) for index in range(len(handles)))


def describe() -> dict[str, str]:
    """The GPUs and the driver, for a record; empty without NVML."""
    with opened() as nvml:
        if nvml is None:
            return {}
        names = Counter(str(nvml.nvmlDeviceGetName(handle)) for handle in usable(nvml))
        told = ", ".join(f"{count} x {name}" for name, count in names.items())
        return {"gpu": told, "gpu_driver": str(nvml.nvmlSystemGetDriverVersion())}


def named(gpus: Sequence[Gpu], ids: Sequence[str]) -> tuple[Gpu, ...]:
    """Those that the ids mean: an index or (the beginning of) a UUID, as in CUDA_VISIBLE_DEVICES."""
    wanted = [visible.plain(one) for one in ids]
    found = (gpu for one in wanted for gpu in gpus if one == str(gpu.index) or visible.is_start(one, gpu.uuid))
    return tuple(dict.fromkeys(found))


def visible_ids() -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES names, as CUDA reads it."""
    return visible.cuda(os.environ.get(VISIBLE, ""))


def shown(gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """Those that CUDA shows: the list ends at an id of no GPU, or of several; without the variable, all."""
    if VISIBLE not in os.environ:
        return tuple(gpus)
    each = [named(gpus, [one]) for one in visible_ids()]
    end = next((place for place, found in enumerate(each) if len(found) != 1), len(each))
    return tuple(dict.fromkeys(gpu for found in each[:end] for gpu in found))


def are_lent() -> bool:
    """Whether a batch system has lent us the GPUs that CUDA_VISIBLE_DEVICES names: the others are another job's."""
    return bool(visible_ids()) and "SLURM_JOB_ID" in os.environ


def allowed(gpus: Sequence[Gpu], ids: Sequence[str]) -> tuple[Gpu, ...]:
    """Those that trials may take: with these ids, else those that CUDA_VISIBLE_DEVICES names, else all.

    Raises:
        ConfigError: an id is of no GPU, or of one that CUDA_VISIBLE_DEVICES hides. What a batch system has lent us is
            another set in each job: there, those of the ids count that it has lent.
    """
    seen = shown(gpus)
    if not ids:
        return seen
    if not are_lent():
        check_ids(ids, good=[one for one in ids if named(seen, [one])], there=gpus)
    return tuple(gpu for gpu in named(gpus, ids) if gpu in seen)


def check_ids(ids: Sequence[str], good: Sequence[str], there: Sequence[Gpu]) -> None:
    """Refuse hardware.gpu_ids that are not all `good`; `there`: the GPUs of this machine, empty if nobody can tell.

    Raises:
        ConfigError: as `allowed`.
    """
    bad = [one for one in ids if one not in good]
    if not bad:
        return
    told = f"hardware.gpu_ids=[{','.join(ids)}]"
    if VISIBLE in os.environ and (not there or all(named(there, [one]) for one in bad)):
        raise ConfigError(
            f"{told}: CUDA_VISIBLE_DEVICES={os.environ[VISIBLE]} hides GPU {', '.join(bad)}. Name GPUs that it shows, "
            "or change it: it limits trials too."
        )
    raise ConfigError(
        f"{told}: expected GPUs of this machine, which has {_indexes(there)}. Name some of them, or set hardware=cpu."
    )


def _indexes(gpus: Sequence[Gpu]) -> str:
    return ", ".join(str(gpu.index) for gpu in gpus)


def nearest(gpus: Sequence[Gpu], count: int) -> tuple[Gpu, ...]:
    """The `count` GPUs among these that data travels between on the shortest ways; the first ones of equals."""

    def spread(chosen: Sequence[Gpu]) -> tuple[int, int, int]:
        ways = [one.distances[other.index] for one, other in combinations(chosen, 2) if one.distances]
        return max(ways, default=0), len({gpu.numa_node for gpu in chosen}), sum(ways)

    return min(combinations(gpus, count), key=spread)


def kept(before_mib: Mapping[str, int]) -> tuple[str, ...]:
    """The GPUs, by UUID with what was in use before, whose memory is not given back in time, in words.

    A GPU that a process computes on is left out: it is not ours, ours are gone.
    """

    def seen() -> tuple[str, ...]:
        idle = [gpu for gpu in look() or () if gpu.uuid in before_mib and not gpu.processes]
        more = [(gpu, gpu.used_mib - before_mib[gpu.uuid]) for gpu in idle]
        return tuple(
            f"GPU {gpu.index} still holds {mib / 1024:.1f} GiB"
            for gpu, mib in more
            if mib > BUSY_SHARE * gpu.memory_mib
        )

    process.wait_until(lambda: not seen(), timeout_s=GIVEN_BACK_S, interval_s=0.2)
    return seen()


@contextmanager
def opened() -> Iterator[Any]:
    """NVML, initialised; None where it cannot be."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def usable(nvml: Any) -> Iterator[Any]:
    """The handles of the GPUs that we may use: a job's cgroup can hide others, and CUDA does not count those either."""
    for index in range(nvml.nvmlDeviceGetCount()):
        with suppress(nvml.NVMLError):
            yield nvml.nvmlDeviceGetHandleByIndex(index)


def _gpu(nvml: Any, index: int, handles: Sequence[Any]) -> Gpu:
    handle = handles[index]
    memory_mib, used_mib = _memory(nvml, handle)
    return Gpu(
        index=index,
        uuid=nvml.nvmlDeviceGetUUID(handle),
        memory_mib=memory_mib,
        used_mib=used_mib,
        processes=tuple(_processes(nvml, handle)),
        numa_node=_numa_node(nvml, handle),
        distances=tuple(_distance(nvml, handle, other) if other is not handle else 0 for other in handles),
        name=str(nvml.nvmlDeviceGetName(handle)),
        compute_capability=_compute_capability(nvml, handle),
    )


def _compute_capability(nvml: Any, handle: Any) -> float | None:
    with suppress(nvml.NVMLError):
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
        return float(f"{major}.{minor}")
    return None


def _memory(nvml: Any, handle: Any) -> tuple[int, int]:
    """MiB in all, and in use without what the driver keeps for itself, where it tells them apart (version 2)."""
    for version in (nvml.nvmlMemory_v2, None):
        with suppress(nvml.NVMLError):
            seen = nvml.nvmlDeviceGetMemoryInfo(handle, version=version)
            return seen.total // MIB, seen.used // MIB
    return 0, 0  # memory shared with the CPU: NVML does not count it


def _processes(nvml: Any, handle: Any) -> Iterator[GpuProcess]:
    with suppress(nvml.NVMLError):
        for one in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
            used = one.usedGpuMemory
            yield GpuProcess(pid=one.pid, name=_name(one.pid), used_mib=None if used is None else used // MIB)


def _name(pid: int) -> str:
    with suppress(psutil.Error):
        return psutil.Process(pid).name()
    return "?"


def _numa_node(nvml: Any, handle: Any) -> int:
    with suppress(nvml.NVMLError, OSError, ValueError):
        bus = nvml.nvmlDeviceGetPciInfo(handle).busId.lower()
        domain, rest = bus.split(":", 1)
        return int(Path(f"/sys/bus/pci/devices/{domain[-4:]}:{rest}/numa_node").read_text("ascii"))
    return -1


def _distance(nvml: Any, one: Any, other: Any) -> int:
    with suppress(nvml.NVMLError):
        if nvml.nvmlDeviceGetP2PStatus(one, other, nvml.NVML_P2P_CAPS_INDEX_NVLINK) == nvml.NVML_P2P_STATUS_OK:
            return NVLINK
    with suppress(nvml.NVMLError):
        return int(nvml.nvmlDeviceGetTopologyCommonAncestor(one, other))
    return int(nvml.NVML_TOPOLOGY_SYSTEM)
