"""The GPUs the stand-in believes in."""

import os
from dataclasses import dataclass

_MEMORY_GIB = {80: 80.0, 86: 24.0, 89: 24.0, 90: 80.0, 100: 180.0, 103: 270.0, 120: 32.0}


@dataclass(frozen=True)
class Gpu:
    """So many of one kind."""

    sm: int  # 90: compute capability 9.0
    memory_gib: float
    count: int

    @property
    def major(self) -> int:
        return self.sm // 10


def from_environment() -> Gpu:
    """STANDIN_GPU (`sm90` or `90`), STANDIN_GPU_MEMORY in GiB, STANDIN_GPUS."""
    sm = int((os.environ.get("STANDIN_GPU") or "sm90").removeprefix("sm"))
    memory = os.environ.get("STANDIN_GPU_MEMORY")
    return Gpu(
        sm=sm,
        memory_gib=float(memory) if memory else _MEMORY_GIB.get(sm, 80.0),
        count=int(os.environ.get("STANDIN_GPUS") or 8),
    )
