"""Checks whether this machine can run a trial: small checks that raise PreflightFailed with what to fix."""

import errno
import importlib.util
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from pipeline import backends, trackers
from pipeline.backends import lease, ports
from pipeline.bench import aiperf_command, installed_program
from pipeline.core import capacity
from pipeline.core.errors import FailureKind, ModelError, PreflightFailed, TrackerFailed
from pipeline.core.metric_names import ENERGY
from pipeline.core.schema import Config, Model
from pipeline.machine import gpus, process, slots, sockets
from pipeline.models import assets, hub, served
from pipeline.trial import cpu, evals, hardware, hardware_watch, installed

Check = Callable[[Config], str]
NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
NVIDIA_DEVICE = Path("/dev/nvidiactl")
SMI_TIMEOUT_S = 30
OPEN_AT_ONCE = 256  # connections that an open loop is given room for; it asks for more when it needs them
GIB = 2**30
SLOTS = "GPUs and cores for a trial"
BEHIND = (  # what the one asks for is not there where the other has failed
    ("package ", "runtime "),
    ("package ", "package "),
    ("memory", "package "),
    ("machine", "hardware"),
    (SLOTS, "hardware"),
    ("image", "docker"),
    ("docker gpus", "docker"),
)


def of(config: Config, *, survey: Check = slots.insist) -> Iterator[tuple[str, Check]]:
    """The checks for this configuration but its model: name, and a function that says what it found or raises.

    `survey` looks at the GPUs and cores.
    """
    yield "machine", _machine
    yield "leases can be written", _state_dir
    yield "genai-bench", _genai_bench
    if config.bench.location == "here":
        yield "connections", connections
    yield f"tracker {config.tracker.name}", _tracker
    if config.backend.is_process:
        yield from _of_this_machine(config)
    if slots.gpu_count(config) or config.hardware.cores_per_trial:
        yield SLOTS, survey
    yield from backends.load(config.backend.target).checks(config)
    if any(name in ENERGY for name in config.objective):
        yield "energy", hardware_watch.check
    if config.quality.evals.tasks:
        yield "evaluations", evals.check


def reason_not_to_ask(name: str, failed: Iterable[str]) -> str | None:
    """The check among those that failed that this one follows from."""
    before = [first for then, first in BEHIND if name.startswith(then)]
    return next((one for one in failed if any(one.startswith(first) for first in before)), None)


def _of_this_machine(config: Config) -> Iterator[tuple[str, Check]]:
    """What an engine needs that runs as a process here."""
    yield f"address {config.backend.host}", address
    yield f"runtime {config.runtime.name}", installed.program
    for module in config.runtime.needs_modules:
        yield f"package {module}", installed.package(module)
    if config.hardware.is_cpu and config.runtime.on_cpu.kv_gib:
        yield "memory", cpu.check_memory
    if config.hardware.vendor == "nvidia":
        yield f"hardware {config.hardware.name}", _gpus


def _tracker(config: Config) -> str:
    """It would be told after every trial; a sweep takes hours."""
    name = config.tracker.name
    if missing := [module for module in config.tracker.needs_modules if importlib.util.find_spec(module) is None]:
        raise PreflightFailed(
            f"tracker={name} needs the Python module {', '.join(missing)}, which is not installed here.",
            hint=f"Install: pip install 'servetune[{name}]'; in a checkout, uv sync --extra llamacpp --extra {name}. "
            "Or go without: tracker=none.",
        )
    try:
        return trackers.load(config.tracker.target).outlook(config.tracker)
    except TrackerFailed as error:
        raise PreflightFailed(str(error), hint=error.hint) from error
    except (ImportError, AttributeError) as error:
        raise PreflightFailed(f"tracker.target={config.tracker.target} cannot be loaded: {error}.") from error


def _machine(config: Config) -> str:
    """A difference fails no trial: named hardware is believed."""
    told = hardware.told(config)
    differs = hardware.difference(config)
    return f"{told}; warned: {differs}" if differs else told


def _state_dir(_config: Config) -> str:
    where = lease.state_dir() / "leases"
    try:
        found = _existing(where)
        if not found.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(found, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise PreflightFailed(
            f"Leases cannot be written to {where}: {error.strerror or error}. Without a lease nothing is deployed.",
            hint="Make the folder writable, or set SERVETUNE_STATE_DIR to another folder.",
        ) from error
    return str(where)


def _genai_bench(config: Config) -> str:
    if config.bench.location == "cluster":
        return f"in the cluster, by {config.bench.cluster.image}"
    if config.bench.runner == "aiperf":
        return _aiperf(config)
    program = config.bench.program or installed_program()
    if not os.access(program, os.X_OK):
        raise PreflightFailed(
            f"{program} is not an executable program.", hint="Install servetune again, or set bench.program."
        )
    return str(program)


def _aiperf(config: Config) -> str:
    program = config.bench.program or shutil.which(aiperf_command.PROGRAM)
    if program is None:
        raise PreflightFailed(
            "bench.runner=aiperf: there is no aiperf on PATH, and bench.program is not set.",
            hint=f"Install it beside this environment: {aiperf_command.INSTALL}; then set bench.program to "
            "aiperf/bin/aiperf.",
        )
    if not os.access(program, os.X_OK):
        raise PreflightFailed(f"{program} is not an executable program.", hint="Set bench.program to aiperf's command.")
    return str(program)


def connections(config: Config) -> str:
    """Room for a connection of each user, made where there is none. It is inherited by what is started afterwards.

    Raises:
        PreflightFailed: there cannot be as many.
    """
    traffic = config.traffic
    users = traffic.max_in_flight or OPEN_AT_ONCE if traffic.is_open else int(capacity.most(traffic))
    return sockets.make_room(users)


def address(config: Config) -> str:
    """What is free where the engine will listen.

    Raises:
        PreflightFailed: this machine has no such address.
    """
    host = config.backend.host
    try:
        return f"a server can listen there, on port {ports.free(host)} for one"
    except OSError as error:
        raise PreflightFailed(
            f"backend.host={host} cannot be used on this machine: {error.strerror or error}.",
            hint="Set backend.host to an IPv4 address of this machine: 127.0.0.1, the default, is always one.",
        ) from error


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


def _by_nvidia_smi() -> tuple[str, ...]:
    """A driver without nvidia-smi is believed to have as many GPUs as are asked."""
    if (program := shutil.which(NVIDIA_SMI[0])) is not None:
        return _said_by(program)
    return ("NVIDIA GPU (neither NVML nor nvidia-smi answers: not counted)",) * 1024 if NVIDIA_DEVICE.exists() else ()


@cache
def _said_by(program: str) -> tuple[str, ...]:
    asked = process.ask((program, *NVIDIA_SMI[1:]), env=os.environ, timeout_s=SMI_TIMEOUT_S)
    return tuple(asked.stdout.split("\n")[:-1]) if asked.returncode == 0 else ()


def model(config: Config) -> str:
    """Where the model is, or how much has to be downloaded; whether that can be done."""
    wanted = config.model
    if config.backend.kubernetes:
        if config.bench.location == "here":
            there = None if wanted.path is None else assets.locate(wanted)
            assets.check(wanted, there)
            _insist_tokenizer(wanted, there)
        return "in the cluster" + ("; only its tokenizer is needed here" if config.bench.location == "here" else "")
    if config.backend.is_endpoint:
        return served.check(wanted)
    found = assets.locate(wanted)
    if config.runtime.needs_gguf and (found is None or found.is_dir()):
        raise ModelError(
            f"runtime={config.runtime.name} serves only GGUF files; model={wanted.name} is not a GGUF file.",
            hint="Set model=gguf model.path=/path/to/the/file.gguf, or choose another runtime.",
        )
    try:
        assets.check(wanted, found)
    except OSError as error:
        raise ModelError(f"{found} cannot be read: {error.strerror or error}.") from error
    if found is not None:
        _insist_tokenizer(wanted, found)
        return str(found)
    needed = (wanted.arch.weights_gib if wanted.arch else None) or 0.0
    where = _existing(hub.cache_dir())
    free = shutil.disk_usage(where).free / GIB
    if free < needed:
        raise ModelError(
            f"{wanted.repo} needs {needed:.1f} GiB to download; {where} has {free:.1f} GiB free.",
            hint="Free some space, or set HF_HOME to another disk.",
        )
    if wanted.gated and not _has_token():
        raise ModelError(
            f"{wanted.repo} is gated, and there is no Hugging Face token.",
            kind=FailureKind.MODEL_GATED,
            hint=f"Accept the licence at https://huggingface.co/{wanted.repo}, then set HF_TOKEN.",
        )
    hub.insist_reachable(str(wanted.repo))
    return f"{wanted.repo}: {needed:.1f} GiB will be downloaded to {hub.cache_dir()}"


def _insist_tokenizer(wanted: Model, found: Path | None) -> None:
    if repo := assets.tokenizer_to_come(wanted, found):
        hub.insist_reachable(repo)


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None
