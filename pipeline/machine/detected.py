"""What GPUs trials of this machine may take, by kind: for hardware=auto."""

import os
from collections.abc import Sequence
from itertools import groupby

from pipeline.core.errors import ConfigError
from pipeline.core.schema_hardware import Seen
from pipeline.machine import amd, gpus
from pipeline.machine.gpus import NVLINK, Gpu


def here(ids: Sequence[str] = ()) -> tuple[Seen, ...]:
    """The GPUs of this machine that trials may take, one item per kind, the largest number first; none: a CPU machine.

    `ids`: those that the configuration allows, empty for all. A variable that hides GPUs from CUDA or HIP, as an empty
    CUDA_VISIBLE_DEVICES hides all, hides them here too.

    Raises:
        ConfigError: CUDA_VISIBLE_DEVICES names slices of GPUs (MIG), which servetune does not know; or it, or `ids`,
            names GPUs of which none is there, or `ids` one that is hidden.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible and gpus.SLICE in visible:
        raise ConfigError(
            f"hardware=auto: CUDA_VISIBLE_DEVICES={visible} names slices of a GPU (MIG). Name the hardware, and its "
            "memory: e.g. hardware=h100 hardware.gpu_count=1 hardware.gpu_memory_gib=9.75."
        )
    there = gpus.look() or ()
    seen = gpus.allowed(there, ids) if there else ()
    if there and not seen and (ids or gpus.visible_ids()):  # else they are hidden: `-1`, `NoDevFiles`, nothing
        named = f"hardware.gpu_ids=[{','.join(ids)}]" if ids else f"CUDA_VISIBLE_DEVICES={visible}"
        known = ", ".join(str(gpu.index) for gpu in there)
        raise ConfigError(
            f"{named}: expected GPUs of this machine, which has {known}. Name some of them, or set hardware=cpu."
        )
    if seen:
        kinds = [_seen(list(some)) for _, some in groupby(sorted(seen, key=_kind), key=_kind)]
        return tuple(sorted(kinds, key=lambda kind: -kind.count))
    return () if there else amd.look()


def _kind(gpu: Gpu) -> tuple[str, int]:
    return gpu.name, gpu.memory_mib


def _seen(alike: Sequence[Gpu]) -> Seen:
    first = alike[0]
    links = [one.distances[other.index] for one in alike for other in alike if one is not other and one.distances]
    return Seen(
        vendor="nvidia",
        name=first.name,
        count=len(alike),
        memory_gib=first.memory_mib / 1024 if first.memory_mib else None,
        compute_capability=first.compute_capability,
        nvlink=all(link == NVLINK for link in links) if links else None,
    )
