"""What is different about an engine that runs on the CPU: its build, its image, the size of its KV cache."""

from dataclasses import replace

from pipeline.backends.kube import capacity
from pipeline.core.errors import FailureKind, PreflightFailed
from pipeline.core.schema import Config
from pipeline.engines import purpose
from pipeline.machine import memory

SHARE = 1 / 4  # of the memory: what is left holds the weights, the load generator and a second trial
UNKNOWN_GIB = 4  # where nobody can tell how much memory there is


def adapted(config: Config) -> Config:
    """The configuration with the engine's image and settings for the CPU, where the hardware has no GPU.

    The KV cache's size depends on the machine's memory, not on what is free at the moment: it must be the same for
    every trial of a sweep.
    """
    on_cpu, runtime = config.runtime.on_cpu, config.runtime
    if not config.hardware.is_cpu:
        return config
    env = {on_cpu.kv_gib: str(_kv_gib(config)), **runtime.env} if on_cpu.kv_gib else runtime.env
    image = on_cpu.image or runtime.image
    gib = on_cpu.image_gib if on_cpu.image else runtime.image_gib
    return replace(config, runtime=replace(runtime, env=env, image=image, image_gib=gib))


def check_memory(config: Config) -> str:
    """Whether weights and KV cache fit the memory at all; what is free at the moment.

    Raises:
        PreflightFailed: they never fit. vLLM ends then (0.32.0 v1/worker/cpu_worker.py:218).
    """
    if short := shortage(config):
        raise PreflightFailed(
            short,
            kind=FailureKind.DOES_NOT_FIT,
            hint=f"Set a smaller KV cache, e.g. +runtime.env.{config.runtime.on_cpu.kv_gib}=1, or a smaller model.",
        )
    gib, needs = _needs(config)
    free = memory.available_gib()
    tight = "; warned: that is less" if gib > free else ""
    return f"{needs}; {free:.1f} of {memory.total_gib():.1f} GiB are free{tight}"


def shortage(config: Config) -> str | None:
    """That weights and KV cache never fit this machine's memory, in words; None: they do, or nobody can tell.

    A GGUF file is mapped, and read again where it does not fit.
    """
    if not config.hardware.is_cpu or not config.backend.is_process or config.runtime.needs_gguf:
        return None
    gib, needs = _needs(config)
    total = memory.total_gib()
    return f"{needs} do not fit the {total:.1f} GiB of memory that there are." if gib > total else None


def _needs(config: Config) -> tuple[float, str]:
    """GiB in all, and in words."""
    name = config.runtime.on_cpu.kv_gib
    weights = (config.model.arch.weights_gib if config.model.arch else None) or 0.0
    if name is None:
        return weights, f"{weights:.1f} GiB of weights"
    told = purpose.environment(config).get(name, "")
    kv = float(told) if told.replace(".", "", 1).isdigit() else 0.0
    return kv + weights, f"{kv:g} GiB of KV cache ({name}) and {weights:.1f} GiB of weights"


def _kv_gib(config: Config) -> int:
    return max(1, int(_memory_gib(config) * SHARE))


def _memory_gib(config: Config) -> float:
    """Of the place where the engine runs."""
    box, cluster = config.backend.container, config.backend.kubernetes
    if cluster:
        return capacity.amount(cluster.memory) / 2**30 if cluster.memory else UNKNOWN_GIB / SHARE
    return (box.memory_gib if box else None) or memory.total_gib()
