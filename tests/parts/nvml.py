"""A machine with GPUs that are not there: what the stand-in for NVML tells (tests/fakes/nvml)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Machine:
    """Its GPUs, which a test changes as it likes."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def has(self, count: int, *changes: dict[str, Any]) -> None:
        """So many idle GPUs; `changes` to the first, the second, ..."""
        made: Sequence[dict[str, Any]] = [{"uuid": f"GPU-{index:08x}"} for index in range(count)]
        for gpu, change in zip(made, changes, strict=False):
            gpu.update(change)
        self.file.write_text(json.dumps(made))
