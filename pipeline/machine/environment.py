"""Describes the machine that a trial ran on, for its record."""

import os
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("servetune", "genai-bench", "hydra-core", "optuna", "wandb", "xllamacpp", "sglang", "vllm")


@cache
def describe() -> dict[str, str]:
    """Host, CPU, Python and the versions of the packages that matter; packages not installed are left out."""
    found = {
        "host": platform.node(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpu_count": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
