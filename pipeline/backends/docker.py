"""The engine in a container of this machine's Docker, found and removed by its lease's label."""

import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import docker.errors
import requests
from docker.models.containers import Container
from docker.types import DeviceRequest, Mount, Ulimit

from pipeline.backends import Deployment, Tell, container, images, lease, ports
from pipeline.errors import DeployFailed, FailureKind, PreflightFailed
from pipeline.files import RunDir

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.backends import Check
    from pipeline.plan import Plan
    from pipeline.schema import Config

ANSWER_S = 20  # for one question to the daemon
PATIENCE_S = 20.0  # with a daemon that does not answer, at teardown
FOLLOW_S = 2.0  # for the last lines of a log
GIB = 2**30
_NO_DAEMON = "Start it (sudo systemctl start docker), or set backend.container.socket; see `docker info`."
_NO_GPU_RUNTIME = (
    "Install nvidia-container-toolkit, then: sudo nvidia-ctk runtime configure --runtime=docker && "
    "sudo systemctl restart docker"
)
_TROUBLE = (docker.errors.DockerException, requests.RequestException)
_followers: dict[str, threading.Thread] = {}


class Docker:
    """Starts, watches and removes containers. Works with what answers as Docker's API does."""

    def checks(self, config: "Config") -> "Iterator[tuple[str, Check]]":
        """The daemon answers, has the image or room for it, and can give GPUs if any are wanted."""
        yield "docker", _daemon
        yield "image", images.check
        if config.hardware.vendor == "nvidia" and config.gpus:
            yield "docker gpus", _gpus

    def prepare(self, plan: "Plan", tell: Tell) -> None:
        """Pull the image where it is missing.

        Raises:
            PreflightFailed: there is no such image, no way to it, no room for it.
        """
        images.provide(container.of(plan), log=RunDir(plan.run_dir).pipeline_log, tell=tell)

    def deploy(self, plan: "Plan", owned: lease.Lease) -> Deployment:
        """Create and start the container; the engine is not ready yet. Its log is followed into server.log.

        Raises:
            DeployFailed: Docker refuses; what it has made carries the label.
        """
        port = ports.free(plan.host)
        owned = replace(owned, port=port)
        lease.update(owned)
        argv = [part.replace("{port}", str(port)) for part in plan.argv]
        try:
            made = _client(owned.endpoint).containers.create(**_settings(plan, owned, argv, port))
            made.start()
        except _TROUBLE as error:
            raise _refused(error, plan) from error
        _follow(made, RunDir(plan.run_dir).server_log, owned.label)
        facts = {
            "container": str(made.id),
            **images.facts(made, str(container.of(plan).image)),
            "docker_run": container.run_line(plan, owned.label, argv, port),
        }
        return Deployment(lease=owned, url=f"http://{plan.host}:{port}", port=port, facts=facts)

    def death(self, deployment: Deployment) -> str | None:
        """`exit code 1`, or that there is no container; None while it runs, or while nobody can tell."""
        try:
            state = _state(deployment)
        except docker.errors.NotFound:
            return "removed from outside"
        except _TROUBLE:
            return None
        if state["Status"] in {"created", "running", "restarting", "paused"}:
            return None
        _settle(deployment.lease.label)
        killed = " (killed by the memory limit)" if state.get("OOMKilled") else ""
        return f"exit code {state['ExitCode']}{killed}"

    def owns_listener(self, deployment: Deployment) -> bool:
        """Whether our container runs and Docker publishes its port there."""
        try:
            found = _only(deployment)
        except _TROUBLE:
            return False
        published = found.attrs["NetworkSettings"]["Ports"].get(f"{deployment.port}/tcp") or []
        is_host = found.attrs["HostConfig"]["NetworkMode"] == "host"
        is_ours = is_host or any(one["HostPort"] == str(deployment.port) for one in published)
        return found.status == "running" and is_ours

    def teardown(self, owned: lease.Lease) -> tuple[str, ...]:
        """Stop and remove every container with the label; look that none is left and that the port is free.

        A daemon that does not answer is asked again for a while; then what may be left is named.
        """
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                remaining = _remove(owned)
                break
            except _TROUBLE as error:
                if time.monotonic() >= end:
                    return (container.may_run(owned, error),)
                time.sleep(0.5)
        _settle(owned.label)
        if not remaining and owned.port is not None and not ports.is_free(owned.host, owned.port):
            remaining = (f"port {owned.port} is still listened on",)
        return remaining


def _settings(plan: "Plan", owned: lease.Lease, argv: list[str], port: int) -> dict[str, Any]:
    """What the SDK's `containers.create` is given. The entrypoint is ours: official images have one of their own."""
    box = container.of(plan)
    secrets = {name: os.environ[ours] for name, ours in plan.secret_env.items() if os.environ.get(ours)}
    settings: dict[str, Any] = {
        "image": box.image,
        "entrypoint": [argv[0]],
        "command": argv[1:],
        "name": container.name(owned.label),
        "labels": {container.LABEL: owned.label},
        "environment": {**plan.env, **secrets},
        "mounts": [
            Mount(inside, here, type="bind", read_only=is_read_only)
            for here, inside, is_read_only in container.mounts(box)
        ],
        "network_mode": box.network,
        "shm_size": int(box.shm_size_gib * GIB),
        "ulimits": [Ulimit(name=name, soft=limit, hard=limit) for name, limit in container.limits(box)],
        "security_opt": ["no-new-privileges"],
        "init": True,
        "device_requests": _devices(plan),
    }
    if box.network != "host":
        settings["ports"] = {f"{port}/tcp": (plan.host, port)}
    if plan.slots.cores:
        settings["cpuset_cpus"] = container.cores(plan)
    if plan.gpus and plan.gpu_vendor == "amd":
        settings |= {"devices": list(container.AMD_DEVICES), "group_add": ["video"]}
    if box.memory_gib:
        settings |= dict.fromkeys(("mem_limit", "memswap_limit"), int(box.memory_gib * GIB))
    return settings


def _devices(plan: "Plan") -> list[DeviceRequest]:
    if not plan.gpus or plan.gpu_vendor != "nvidia":
        return []
    chosen: dict[str, Any] = {"device_ids": list(plan.slots.gpu_ids)} if plan.slots.gpu_ids else {"count": plan.gpus}
    return [DeviceRequest(capabilities=[["gpu"]], **chosen)]


def _client(endpoint: str | None) -> docker.DockerClient:
    """A client of its own for each question's thread of work: they are cheap, and sockets of dead daemons are not."""
    if endpoint:
        return docker.DockerClient(base_url=endpoint, version="auto", timeout=ANSWER_S)
    return docker.from_env(version="auto", timeout=ANSWER_S)


def _daemon(config: "Config") -> str:
    box = config.backend.container
    try:
        told = _client(box.socket if box else None).version()
    except _TROUBLE as error:
        raise PreflightFailed(
            f"Docker does not answer: {str(error).splitlines()[0]}", kind=FailureKind.BACKEND_DOWN, hint=_NO_DAEMON
        ) from error
    return f"{told['Version']} (API {told['ApiVersion']})"


def _gpus(config: "Config") -> str:
    box = config.backend.container
    try:
        runtimes = _client(box.socket if box else None).info().get("Runtimes", {})
    except _TROUBLE as error:
        raise PreflightFailed(f"Docker does not answer: {error}", kind=FailureKind.BACKEND_DOWN) from error
    if "nvidia" not in runtimes:
        raise PreflightFailed(
            f"The trial takes {config.gpus} GPUs, and this Docker has no NVIDIA runtime.",
            kind=FailureKind.NO_GPU,
            hint=_NO_GPU_RUNTIME,
        )
    return f"{config.gpus} by the NVIDIA runtime"


def _refused(error: Exception, plan: "Plan") -> DeployFailed:
    """Docker's refusals told apart. Source: seen with dockerd 20.10: codes and words of create and start."""
    words = str(getattr(error, "explanation", None) or error)
    kind, hint = FailureKind.LOAD_FAILED, "Run the docker_run line of record.json by hand."
    if isinstance(error, docker.errors.ImageNotFound):
        kind, hint = FailureKind.IMAGE_MISSING, f"docker pull {container.of(plan).image}"
    elif "could not select device driver" in words or "Unknown runtime" in words:
        kind, hint = FailureKind.NO_GPU, _NO_GPU_RUNTIME
    elif "address already in use" in words or "port is already allocated" in words:
        kind, hint = FailureKind.PORT_TAKEN, "Run the trial again: a free port is found each time."
    elif "bind source path does not exist" in words:
        kind, hint = (
            FailureKind.MODEL_MISSING,
            "Docker sees no such path: check model.path and mounts.",
        )
    elif not isinstance(error, docker.errors.APIError):
        kind, hint = FailureKind.BACKEND_DOWN, _NO_DAEMON
    return DeployFailed(f"Docker does not start the container: {words}", kind=kind, hint=hint)


def _follow(made: Container, log: Path, label: str) -> None:
    """Stream the container's words into `log` until it ends."""

    def copy() -> None:
        try:
            with log.open("ab", buffering=0) as file:
                for piece in made.logs(stream=True, follow=True):
                    file.write(piece)
        except _TROUBLE as error:
            with log.open("ab") as file:
                file.write(f"[the log breaks off here: {error}]\n".encode())

    follower = threading.Thread(target=copy, name=f"log of {label}", daemon=True)
    follower.start()
    _followers[label] = follower


def _settle(label: str) -> None:
    """Let the follower write the last lines."""
    follower = _followers.get(label)
    if follower:
        follower.join(timeout=FOLLOW_S)


def _only(deployment: Deployment) -> Container:
    return _client(deployment.lease.endpoint).containers.get(deployment.facts["container"])


def _state(deployment: Deployment) -> Mapping[str, Any]:
    state: Mapping[str, Any] = _only(deployment).attrs["State"]
    return state


def _remove(owned: lease.Lease) -> tuple[str, ...]:
    """Stop, then remove; what is still listed afterwards."""
    client = _client(owned.endpoint)
    for one in _labelled(client, owned.label):
        try:
            one.stop(timeout=math.ceil(owned.stop_grace_s))
            one.remove(force=True, v=True)
        except docker.errors.NotFound:  # somebody was faster: good
            continue
    return tuple(f"container {one.name}" for one in _labelled(client, owned.label))


def _labelled(client: docker.DockerClient, label: str) -> list[Container]:
    found: list[Container] = client.containers.list(
        all=True, filters={"label": f"{container.LABEL}={label}"}, ignore_removed=True
    )
    return found
