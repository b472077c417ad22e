"""Finds the option of conf/hardware for the GPUs that were seen. Pure, except for reading the options."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import yaml

from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.schema_hardware import AUTO, Hardware, Seen
from pipeline.core.values import parse

CPU = "cpu"
SAME = 0.01  # memory that differs by less is told in another unit, or by another driver
SIMILAR = 0.1  # by more: a share of a GPU (MIG, vGPU), or another GPU with the same name
OF_THE_USER = ("gpu_ids", "take_busy_gpus", "usd_per_gpu_hour", "cores_per_trial")
OF_THE_GPU = (
    "gpu_type",
    "gpu_memory_gib",
    "vendor",
    "architecture",
    "compute_capability",
    "nvlink",
    "memory_bandwidth_gb_s",
    "bf16_tflops",
)


@cache
def shipped() -> Mapping[str, Hardware]:
    """Every option that is shipped, by its name."""
    files = sorted((CONF / "hardware").glob("*.yaml"))
    return {path.stem: parse(Hardware, yaml.safe_load(path.read_text("utf-8"))) for path in files}


def resolved(given: Hardware, kinds: Sequence[Seen]) -> Hardware:
    """The hardware that `given`, which is auto, stands for where these GPUs are; what it sets itself stays.

    Raises:
        ConfigError: the GPUs are of several kinds, and only a person can say which are meant.
    """
    if len(kinds) > 1:
        raise ConfigError(
            f"hardware=auto: the GPUs differ: {', '.join(map(str, kinds))}. Choose those that trials may take with "
            "'hardware.gpu_ids=[...]' (for backend=ome: backend.kubernetes.node_selector), or name the hardware, "
            f"e.g. hardware={of(kinds[0]).name}."
        )
    found = of(kinds[0]) if kinds else shipped()[CPU]
    own: dict[str, Any] = {name: getattr(given, name) for name in OF_THE_USER}
    own |= {name: said for name in OF_THE_GPU if (said := getattr(given, name)) is not None}
    if given.gpu_count:
        own["gpu_count"] = given.gpu_count
    return replace(found, **own)


def of(seen: Seen) -> Hardware:
    """The option for this GPU, with what was seen of it; for a GPU without one, what was seen and no more."""
    option = next((one for one in shipped().values() if _is(one, seen)), None)
    if option is None:
        return Hardware(
            name=slug(seen.name),
            gpu_count=seen.count,
            gpu_memory_gib=seen.memory_gib,
            vendor=seen.vendor,
            compute_capability=seen.compute_capability,
            nvlink=seen.nvlink,
        )
    if seen.nvlink is not None:
        option = replace(option, nvlink=seen.nvlink)
    if seen.memory_gib is not None and _apart(option, seen.memory_gib) > SAME:
        option = replace(option, gpu_memory_gib=seen.memory_gib)
    return replace(option, gpu_count=seen.count)


def difference(named: Hardware, kinds: Sequence[Seen]) -> str | None:
    """How the hardware that was named differs from the GPUs that are there, in words; None: it does not."""
    if named.is_auto or not kinds:
        return None
    there = ", ".join(map(str, kinds))
    if named.is_cpu:
        return f"hardware={named.name}, but there are GPUs: {there}. Trials use none of them; hardware=auto would"
    if named.name in {of(one).name for one in kinds} or any(_has_all_of(one, named) for one in kinds):
        return None
    return (
        f"hardware={named.name}, but what is there is {there}: rules, memory check and estimates are of "
        f"{named.name}. Leave hardware out, or set hardware={AUTO}"
    )


def counted(hardware: Hardware, kinds: Sequence[Seen]) -> str | None:
    """How many GPUs were named, where fewer are there, in words; None: there are as many, or nobody knows."""
    found = sum(kind.count for kind in kinds)
    if not kinds or hardware.gpu_count <= found:
        return None
    return f"{hardware.gpu_count} GPUs are named (hardware.gpu_count), {found} found: {', '.join(map(str, kinds))}"


def slug(name: str) -> str:
    """A GPU's name as NVML, as a node's label and as a person may write it: nvidia-h100-80gb-hbm3."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _is(option: Hardware, seen: Seen) -> bool:
    is_named = slug(seen.name) in map(slug, option.seen_as)
    return is_named and (seen.memory_gib is None or _apart(option, seen.memory_gib) <= SIMILAR)


def _has_all_of(seen: Seen, named: Hardware) -> bool:
    """Whether an option of the user's own, which says no driver's name, fits what was seen."""
    is_alike = named.compute_capability in {None, seen.compute_capability} and named.vendor in {None, seen.vendor}
    return not named.seen_as and is_alike and (seen.memory_gib is None or _apart(named, seen.memory_gib) <= SIMILAR)


def _apart(option: Hardware, memory_gib: float) -> float:
    """By what share the memory differs; 0 where the option does not say."""
    return abs(1 - memory_gib / option.gpu_memory_gib) if option.gpu_memory_gib else 0.0
