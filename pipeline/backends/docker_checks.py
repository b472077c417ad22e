"""Checks this machine's Docker before a trial is deployed there."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from pipeline.backends import daemon, images
from pipeline.core.errors import ConfigError, FailureKind, PreflightFailed
from pipeline.machine import detected

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.backends import Check
    from pipeline.core.schema import Config
    from pipeline.core.schema_hardware import Seen

REMOTE = ("tcp://", "http://", "https://", "ssh://")  # a unix socket may lead elsewhere too; nobody can tell
HOOK = "nvidia-container-runtime-hook"  # on its PATH dockerd needs no runtime for --gpus (moby, nvidia_linux.go)
TOOLKIT = (
    "Install nvidia-container-toolkit, then: sudo nvidia-ctk runtime configure --runtime=docker && "
    "sudo systemctl restart docker"
)
_PODMAN = "Use Docker or backend=local for trials with GPUs: Podman's Docker API ignores GPU requests."


def of(config: "Config") -> "Iterator[tuple[str, Check]]":
    """An image is named; the daemon answers, has it or space for it, and can provide GPUs if the trial needs any."""
    yield "name of the image", images.named
    yield "docker", _version
    yield "image", images.check
    if config.hardware.vendor == "nvidia" and config.gpus:
        yield "docker gpus", _gpus


def _version(config: "Config") -> str:
    told = _ask(config)["version"]
    return f"{told['Version']} (API {told['ApiVersion']})"


def _gpus(config: "Config") -> str:
    told = _ask(config)
    if "Podman" in str(told["version"].get("Components")):
        raise PreflightFailed(f"{_wanted(config)}, but this is Podman.", kind=FailureKind.NO_GPU, hint=_PODMAN)
    how = gpu_support(told["info"], has_hook=shutil.which(HOOK) is not None)
    if how is None:
        raise PreflightFailed(
            f"{_wanted(config)}, but this Docker has no NVIDIA runtime.",
            kind=FailureKind.NO_GPU,
            hint=TOOLKIT,
        )
    return f"{config.gpus} by {how}"


def _wanted(config: "Config") -> str:
    return f"The trial needs {config.gpus} GPU{'s' * (config.gpus != 1)}"


def gpus(config: "Config") -> "tuple[Seen, ...]":
    """The GPUs that containers may be given: this machine's, where the daemon is on it.

    A remote daemon tells that it can give NVIDIA GPUs, not which (GET /info has no names of GPUs): then a person must.

    Raises:
        PreflightFailed: a remote daemon does not answer.
        ConfigError: it has GPUs that nobody knows.
    """
    if not is_remote(config):
        return detected.here(config.hardware.gpu_ids)
    endpoint = _endpoint(config)
    how = gpu_support(_ask(config)["info"], has_hook=False)
    if how is None:
        return ()
    raise ConfigError(
        f"hardware=auto: the Docker daemon at {endpoint} gives containers NVIDIA GPUs (by {how}), but does not tell "
        "which. Name them, e.g. hardware=h100 hardware.gpu_count=1."
    )


def is_remote(config: "Config") -> bool:
    """Whether trials run by a daemon on another machine."""
    return config.backend.container is not None and _endpoint(config).startswith(REMOTE)


def _endpoint(config: "Config") -> str:
    box = config.backend.container
    return (box.socket if box else None) or os.environ.get("DOCKER_HOST", "")


def gpu_support(info: Mapping[str, Any], *, has_hook: bool) -> str | None:
    """How a daemon with this GET /info gives NVIDIA GPUs to containers; None if it cannot."""
    if "nvidia" in info.get("Runtimes", {}):
        return "the NVIDIA runtime"
    if has_hook:
        return f"NVIDIA's hook ({HOOK})"
    devices = info.get("DiscoveredDevices") or []  # since API 1.50
    return "CDI" if any(str(device.get("ID", "")).startswith("nvidia.com/gpu") for device in devices) else None


def _ask(config: "Config") -> dict[str, Any]:
    box = config.backend.container
    try:
        with closing(daemon.connect(box.socket if box else None)) as client:
            return {"version": client.version(), "info": client.info()}
    except daemon.TROUBLE as error:
        raise daemon.silent(error) from error
