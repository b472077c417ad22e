"""The AMD GPUs of this machine, as `amd-smi` or `rocm-smi` tells them.

Tolerant: what they print differs from release to release. Read from their documentation, not run on an AMD GPU.
Sources: rocm.docs.amd.com/projects/amdsmi, `amd-smi static --json`; rocm.docs.amd.com/projects/rocm_smi_lib, --json.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.core.schema_hardware import Seen
from pipeline.machine import amd_gpus, process

AMD_SMI = ("amd-smi", "static", "--asic", "--vram", "--json")
ROCM_SMI = ("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json")
TIMEOUT_S = 30
MIB_OF = {"b": 2.0**-20, "kb": 2.0**-10, "mb": 1.0, "gb": 2.0**10}
Told = tuple[str, float | None]  # a GPU's name, its memory in MiB


def look() -> tuple[Seen, ...]:
    """Every kind of GPU that the variables show; none where they hide all, or the tools are missing or find none.

    The tools do not obey the variables, and are taken to count GPUs as ROCR does.
    """
    for command, read in ((AMD_SMI, by_amd_smi), (ROCM_SMI, by_rocm_smi)):
        if shutil.which(command[0]):
            asked = process.ask(command, env=os.environ, timeout_s=TIMEOUT_S)
            if found := tuple(read(_json(asked.stdout))):
                shown = Counter(found[place] for place in amd_gpus.positions(len(found)))
                return tuple(_seen(told, count) for told, count in shown.items())
    return ()


def by_amd_smi(told: Any) -> Iterator[Told]:
    """`[{"gpu": 0, "asic": {"market_name": ...}, "vram": {"size": {"value": 196592, "unit": "MB"}}}]`."""
    gpus = told.get("gpu_data", []) if isinstance(told, dict) else told
    for gpu in gpus if isinstance(gpus, list) else []:
        asic, vram = _part(gpu, "asic"), _part(gpu, "vram")
        if name := asic.get("market_name"):
            yield str(name), _mib(vram.get("size"))


def by_rocm_smi(told: Any) -> Iterator[Told]:
    """`{"card0": {"Card Series": "AMD Instinct MI300X", "VRAM Total Memory (B)": "206141652992"}}`."""
    for card, said in told.items() if isinstance(told, dict) else ():
        lines = {str(key).lower(): text for key, text in said.items()} if isinstance(said, dict) else {}
        name = lines.get("card series") or lines.get("card model")
        if str(card).startswith("card") and name:
            yield str(name), _mib({"value": lines.get("vram total memory (b)"), "unit": "b"})


def _seen(told: Told, count: int) -> Seen:
    name, mib = told
    whole = name if name.upper().startswith("AMD") else f"AMD {name}"
    return Seen(vendor="amd", name=whole, count=count, memory_gib=None if mib is None else mib / 1024)


def _mib(size: object) -> float | None:
    """`{"value": 196592, "unit": "MB"}` or "196592 MB"; these tools mean MiB by MB."""
    if isinstance(size, Mapping):
        size = f"{size.get('value')} {size.get('unit', 'MB')}"
    number, _, unit = str(size).strip().partition(" ")
    try:
        return float(number) * MIB_OF[unit.lower() or "mb"]
    except (KeyError, ValueError):
        return None


def _part(gpu: object, name: str) -> Mapping[str, Any]:
    part = gpu.get(name) if isinstance(gpu, dict) else None
    return part if isinstance(part, dict) else {}


def _json(text: str) -> Any:
    """What was printed; some releases print warnings before it."""
    start = min((at for at in (text.find("["), text.find("{")) if at >= 0), default=len(text))
    try:
        return json.loads(text[start:])
    except ValueError:
        return None
