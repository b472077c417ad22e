"""hardware=auto: looks what is there, where trials run, before anything is judged, compared or started."""

import json
import os
from dataclasses import replace

from pipeline import backends
from pipeline.config import presets
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.schema import Config
from pipeline.core.schema_hardware import Seen
from pipeline.core.values import plain
from pipeline.trial import cpu

SHOWN_BY = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "DOCKER_HOST", "KUBECONFIG")
UNKNOWN = "unknown"  # of a server that is there already, unless a person names it
_looked: dict[str, tuple[Seen, ...] | PipelineError] = {}  # by where: what is there does not change while a sweep runs


def resolved(config: Config) -> Config:
    """The configuration for the hardware that is there, with what the engine needs on a CPU; called where trials run.

    Raises:
        PipelineError: nobody can tell what is there; the message asks for named hardware.
    """
    if config.backend.is_endpoint:
        given = config.hardware
        return replace(config, hardware=replace(given, name=UNKNOWN)) if given.is_auto else config
    if config.hardware.is_auto:
        kinds = seen(config) if config.runtime.on_gpu else ()
        config = replace(config, hardware=presets.resolved(config.hardware, kinds))
    return cpu.adapted(config)


def difference(config: Config) -> str | None:
    """How the hardware that was named differs from what is there, in words; None: it does not, or nobody can tell."""
    if not config.runtime.on_gpu:
        return None
    try:
        return presets.difference(config.hardware, seen(config))
    except PipelineError:
        return None


def trouble(config: Config) -> str | None:
    """Why trials could not take the GPUs that were named; None: they can, or nobody can tell."""
    if not config.runtime.on_gpu or config.hardware.is_cpu:
        return None
    try:
        seen(config)
    except ConfigError as error:
        return str(error)
    except PipelineError:
        return None
    return None


def told(config: Config) -> str:
    """What the trial's hardware is, for the doctor."""
    if config.backend.is_endpoint:
        return f"{config.hardware.name}, the server's; its GPUs: {config.gpus or 'hardware.gpu_count does not say'}"
    if config.hardware.is_cpu:
        return f"{config.hardware.name}: no GPU is used"
    try:
        there = ", ".join(map(str, seen(config)))
    except PipelineError:
        there = ""  # the check that needs them says why
    return f"{config.hardware.name}: {missing(config) or there or 'as named'}"


def missing(config: Config) -> str | None:
    """How many GPUs are named where fewer are found, in words; None: there are as many, or nobody can tell."""
    if config.hardware.is_cpu or config.hardware.is_auto:
        return None
    try:
        return presets.counted(config.hardware, seen(config))
    except PipelineError:
        return None


def seen(config: Config) -> tuple[Seen, ...]:
    """The GPUs where the configuration's trials run, looked at once.

    Raises:
        PipelineError: nobody can tell what is there.
    """
    shown = [os.environ.get(name) for name in SHOWN_BY]
    where = json.dumps([plain(config.backend), list(config.hardware.gpu_ids), shown], sort_keys=True)
    if where not in _looked:
        _looked[where] = _look(config)
    found = _looked[where]
    if isinstance(found, PipelineError):
        raise found
    return found


def _look(config: Config) -> tuple[Seen, ...] | PipelineError:
    """What cannot be told is remembered too: a cluster that does not answer costs seconds."""
    try:
        return backends.load(config.backend.target).gpus(config)
    except PipelineError as error:
        return error


def forget() -> None:
    """Look again next time."""
    _looked.clear()
