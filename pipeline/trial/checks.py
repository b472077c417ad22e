"""Checks whether this machine can run a trial: small checks that raise PreflightFailed with what to fix."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from pipeline import backends
from pipeline.backends import lease
from pipeline.bench import installed_program
from pipeline.core.errors import FailureKind, ModelError, PreflightFailed
from pipeline.core.schema import Config
from pipeline.machine import gpus, process, slots, sockets
from pipeline.models import assets, hub
from pipeline.trial import cpu, hardware, installed

Check = Callable[[Config], str]
NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
NVIDIA_DEVICE = Path("/dev/nvidiactl")
SMI_TIMEOUT_S = 30
GIB = 2**30


def of(config: Config) -> Iterator[tuple[str, Check]]:
    """The checks for this configuration but its model: name, and a function that says what it found or raises."""
    yield "machine", _machine
    yield "leases can be written", _state_dir
    yield "genai-bench", _genai_bench
    if config.bench.location == "here":
        yield "connections", connections
    if config.backend.is_process:
        yield from _of_this_machine(config)
    if slots.gpu_count(config) or config.hardware.cores_per_trial:
        yield "GPUs and cores for a trial", slots.survey
    yield from backends.load(config.backend.target).checks(config)


def _of_this_machine(config: Config) -> Iterator[tuple[str, Check]]:
    """What an engine needs that runs as a process here."""
    yield f"runtime {config.runtime.name}", installed.program
    for module in config.runtime.needs_modules:
        yield f"package {module}", installed.package(module)
    if config.hardware.is_cpu and config.runtime.on_cpu.kv_gib:
        yield "memory", cpu.check_memory
    if config.hardware.vendor == "nvidia":
        yield f"hardware {config.hardware.name}", _gpus


def _machine(config: Config) -> str:
    """A difference fails no trial: named hardware is believed."""
    told = hardware.told(config)
    differs = hardware.difference(config)
    return f"{told}; warned: {differs}" if differs else told


def _state_dir(_config: Config) -> str:
    where = lease.state_dir() / "leases"
    try:
        where.mkdir(parents=True, exist_ok=True)
        if not os.access(where, os.W_OK | os.X_OK):
            raise PermissionError(f"Permission denied: {where}")
    except OSError as error:
        raise PreflightFailed(
            f"Leases cannot be written to {where}: {error.strerror or error}. Without a lease nothing is deployed.",
            hint="Make the folder writable, or set SERVETUNE_STATE_DIR to another folder.",
        ) from error
    return str(where)


def _genai_bench(config: Config) -> str:
    if config.bench.location == "cluster":
        return f"in the cluster, by {config.bench.cluster.image}"
    program = config.bench.program or installed_program()
    if not os.access(program, os.X_OK):
        raise PreflightFailed(
            f"{program} is not an executable program.", hint="Install servetune again, or set bench.program."
        )
    return str(program)


def connections(config: Config) -> str:
    """Room for a connection of each user, made where there is none. It is inherited by what is started afterwards.

    Raises:
        PreflightFailed: there cannot be as many.
    """
    return sockets.make_room(max(config.traffic.concurrencies))


def _gpus(config: Config) -> str:
    names = nvidia_gpus()
    if len(names) < config.gpus:
        seen = f"this machine has {len(names)} ({', '.join(sorted(set(names)))})" if names else "this machine has none"
        raise PreflightFailed(
            f"The trial needs {config.gpus} NVIDIA GPU{'s' * (config.gpus != 1)}; {seen}.",
            kind=FailureKind.NO_GPU,
            hint="Check the driver with `nvidia-smi`; without GPUs, dry_run=true still shows the verdicts.",
        )
    return ", ".join(f"{count} x {name}" for name, count in Counter(names).items())


def nvidia_gpus() -> tuple[str, ...]:
    """The names of the GPUs, by NVML as everywhere else; where it does not answer, by nvidia-smi."""
    seen = gpus.look()
    return _by_nvidia_smi() if seen is None else tuple(gpu.name for gpu in seen)


@cache
def _by_nvidia_smi() -> tuple[str, ...]:
    """A driver without nvidia-smi is believed to have as many GPUs as are asked."""
    if shutil.which(NVIDIA_SMI[0]) is None:
        return (
            ("NVIDIA GPU (neither NVML nor nvidia-smi answers: not counted)",) * 1024 if NVIDIA_DEVICE.exists() else ()
        )
    asked = process.ask(NVIDIA_SMI, env=os.environ, timeout_s=SMI_TIMEOUT_S)
    return tuple(asked.stdout.split("\n")[:-1]) if asked.returncode == 0 else ()


def model(config: Config) -> str:
    """Where the model is, or how much has to be downloaded; whether that can be done."""
    wanted = config.model
    if config.backend.kubernetes:
        return "in the cluster" + ("; only its tokenizer is needed here" if config.bench.location == "here" else "")
    found = assets.locate(wanted)
    if config.runtime.needs_gguf and (found is None or found.is_dir()):
        raise ModelError(
            f"runtime={config.runtime.name} serves only GGUF files; model={wanted.name} is not a GGUF file.",
            hint="Set model=gguf model.path=/path/to/the/file.gguf, or choose another runtime.",
        )
    if found is not None:
        return str(found)
    needed = wanted.arch.weights_gib if wanted.arch else 0
    where = _existing(hub.cache_dir())
    free = shutil.disk_usage(where).free / GIB
    if free < needed:
        raise ModelError(
            f"{wanted.repo} needs {needed:.0f} GiB to download; {where} has {free:.0f} GiB free.",
            hint="Free some space, or set HF_HOME to another disk.",
        )
    if wanted.gated and not _has_token():
        raise ModelError(
            f"{wanted.repo} is gated, and there is no Hugging Face token.",
            kind=FailureKind.MODEL_GATED,
            hint=f"Accept the licence at https://huggingface.co/{wanted.repo}, then set HF_TOKEN.",
        )
    return f"{wanted.repo}: {needed:.1f} GiB will be downloaded to {hub.cache_dir()}"


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None
