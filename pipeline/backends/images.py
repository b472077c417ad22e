"""The container's image: whether it is present, whether there is disk space for it, and exactly which one was used."""

import os
import shutil
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import docker.errors
from docker.models.containers import Container as Made

from pipeline.backends import Tell, daemon, pull
from pipeline.backends.pull_errors import FREE_SPACE
from pipeline.core.errors import FailureKind, PreflightFailed

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.core.schema import Config
    from pipeline.core.schema_backends import Container

GIB = 2**30
HERE = "http+docker://localhost"  # how the SDK spells the address of a unix socket
SYSTEM_CONTAINERD, ITS_ROOT = "/run/containerd/containerd.sock", "/var/lib/containerd"
_pulled: set[tuple[str | None, str]] = set()  # by this process: the trials of a sweep share what pull=always pulled


def named(config: "Config") -> str:
    """The image of the trial, as it is named; whether it is there, only the daemon knows.

    Raises:
        PreflightFailed: none is named.
    """
    return _asked(config)[1]


def _asked(config: "Config") -> tuple["Container", str]:
    box, runtime = config.backend.container, config.runtime
    image = (box and box.image) or runtime.image
    if box is None or image is None:
        raise PreflightFailed(
            f"runtime={runtime.name} names no image for backend={config.backend.name}.",
            kind=FailureKind.IMAGE_MISSING,
            hint="Set backend.container.image=... to one that has the engine.",
        )
    return box, image


def check(config: "Config") -> str:
    """Check that the image is present, or report what pulling it needs. Nothing is pulled.

    Raises:
        PreflightFailed: deploying would fail for want of the image, of space for it, or of the daemon.
    """
    box, image = _asked(config)
    needed_gib = config.runtime.image_gib if image == config.runtime.image else None
    try:
        with closing(daemon.connect(box.socket)) as client:
            found = find(client, image)
            if found is not None:
                return f"{image} is present ({digest(found, image) or found['Id']})"
            if box.pull == "never":
                raise _not_here(image)
            return _room(image, needed_gib, _store(client))
    except daemon.TROUBLE as error:
        raise daemon.silent(error) from error


def provide(box: "Container", *, log: Path, tell: Tell) -> None:
    """Pull the image of `box` where it has to be pulled; `log` takes what goes wrong in the child that pulls.

    Raises:
        PreflightFailed: it is not to be had.
    """
    image = str(box.image)
    asked = (box.socket or os.environ.get("DOCKER_HOST"), image)
    is_here = _is_here(box.socket, image)
    if is_here and (box.pull != "always" or asked in _pulled):
        return
    if box.pull == "never":
        raise _not_here(image)
    pull.pull(box.socket, image, log=log, tell=tell)
    if not _is_here(box.socket, image):
        raise daemon.silent(f"it reported {image} as pulled, but does not have it")
    _pulled.add(asked)


def find(client: docker.DockerClient, image: str) -> Mapping[str, Any] | None:
    """What the daemon knows of the image (GET /images/NAME/json); None when it is not here."""
    try:
        found: Mapping[str, Any] = client.images.get(image).attrs
    except docker.errors.ImageNotFound:
        return None
    return found


def facts(made: Made, image: str) -> dict[str, str]:
    """The image that a container runs, for the record; without the digest if the daemon no longer answers."""
    known = {"image": image, "image_id": str(made.attrs.get("Image", ""))}
    with suppress(*daemon.TROUBLE):
        told = digest(made.image.attrs, image) if made.image else None
        known |= {"image_digest": told} if told else {}
    return known


def digest(found: Mapping[str, Any], image: str) -> str | None:
    """`name@sha256:...` as a registry has it; None for an image that was built here.

    An image may come from several registries: the one of the given name first.
    """
    known: list[str] = found.get("RepoDigests") or []
    name = image.partition("@")[0]
    repository = name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
    same = [one for one in known if one.partition("@")[0] == repository]
    return next(iter([*same, *known]), None)


def store(info: Mapping[str, Any]) -> str:
    """The folder that images are kept in, from what GET /info says.

    Source: docs.docker.com/engine/storage/containerd: with containerd's image store, the default since Docker 29, it
    is containerd's; only the system's containerd has a root outside of Docker's.
    """
    is_containerds = ["driver-type", "io.containerd.snapshotter.v1"] in (info.get("DriverStatus") or [])
    address = (info.get("Containerd") or {}).get("Address")
    return ITS_ROOT if is_containerds and address == SYSTEM_CONTAINERD else str(info["DockerRootDir"])


def _store(client: docker.DockerClient) -> Path | None:
    """The same where it can be looked at: the daemon is on this machine, and in no virtual machine on it."""
    folder = Path(store(client.info()))
    return folder if client.api.base_url == HERE and folder.is_dir() else None


def _room(image: str, needed_gib: float | None, folder: Path | None) -> str:
    size = f"about {needed_gib:g} GiB on disk" if needed_gib else "size on disk unknown"
    if folder is None:
        return f"{image} will be pulled: {size}, free space not checked"
    free_gib = shutil.disk_usage(folder).free / GIB
    if needed_gib and free_gib < needed_gib:
        raise PreflightFailed(
            f"The image {image} needs about {needed_gib:g} GiB; {folder} has {free_gib:.1f} GiB free.",
            kind=FailureKind.DISK_FULL,
            hint=f"{FREE_SPACE} If the size is wrong, set runtime.image_gib (null: not checked).",
        )
    return f"{image} will be pulled: {size}, {free_gib:.0f} GiB free in {folder}"


def _is_here(endpoint: str | None, image: str) -> bool:
    try:
        with closing(daemon.connect(endpoint)) as client:
            return find(client, image) is not None
    except daemon.TROUBLE as error:
        raise daemon.silent(error) from error


def _not_here(image: str) -> PreflightFailed:
    return PreflightFailed(
        f"The image {image} is missing, and backend.container.pull=never forbids pulling it.",
        kind=FailureKind.IMAGE_MISSING,
        hint=f"Run docker pull {image}, or set backend.container.pull=missing.",
    )
