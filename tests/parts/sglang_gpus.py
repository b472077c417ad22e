"""Plays what SGLang finds where it runs, before SGLang is imported; for sglang_oracle.py, in the engine's interpreter.

argv: `cpu`, or a compute capability like `9.0`: then there are 8 NVIDIA GPUs of 80 GiB.
"""

# What only the engine's environment has cannot be checked here.
# mypy: ignore-errors
import importlib.abc
import importlib.machinery
import os
import sys
import types
from typing import Any

import torch

PLATFORM = sys.argv[1]
GIB = 1 << 30
GPUS = 8
KERNELS = ("sgl_kernel",)


class Kernel(type):
    """What a package of compiled kernels has: anything, which has anything."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Kernel(name, (), {})


class Kernels(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Packages of compiled kernels, which are imported but never called."""

    def find_spec(self, name: str, *_where: object) -> Any:
        is_one = name.partition(".")[0] in KERNELS
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if is_one else None

    def exec_module(self, module: Any) -> None:
        module.__getattr__ = lambda name: getattr(Kernel("kernels", (), {}), name)


def play(capability: tuple[int, ...]) -> None:
    """GPUs in place of the CPU, before SGLang looks for any."""
    name, total = "NVIDIA H100 80GB HBM3", 80 * GIB
    seen = types.SimpleNamespace(
        name=name,
        total_memory=total,
        major=capability[0],
        minor=capability[1],
        multi_processor_count=132,
        shared_memory_per_block_optin=232448,
    )
    played = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: GPUS,
        "current_device": lambda: 0,
        "get_device_capability": lambda *_which: capability,
        "get_device_name": lambda *_which: name,
        "get_device_properties": lambda *_which: seen,
        "mem_get_info": lambda *_which: (total, total),
    }
    for what, function in played.items():
        setattr(torch.cuda, what, function)
    sys.meta_path.insert(0, Kernels())


os.environ["HF_HUB_OFFLINE"] = "1"
if PLATFORM == "cpu":
    os.environ["SGLANG_USE_CPU_ENGINE"] = "1"
else:
    play(tuple(int(part) for part in PLATFORM.split(".")))
