"""Runs the engine in a Docker container on this machine; finds and removes it by its lease's label."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import docker.errors
import urllib3.exceptions
from docker.models.containers import Container
from docker.types import DeviceRequest, Mount, Ulimit

from pipeline.backends import (
    Deployment,
    Tell,
    container,
    container_removal,
    daemon,
    docker_checks,
    images,
    lease,
    ports,
)
from pipeline.core.errors import DeployFailed, FailureKind
from pipeline.core.files import RunDir
from pipeline.machine import identity, process

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.backends import Check
    from pipeline.core.plan import Plan
    from pipeline.core.schema import Config
    from pipeline.core.schema_hardware import Seen

LOOK_S = 2  # for a question that is asked several times a second
PORT_TRIES = 3
STOPPED = (137, 143)  # 128 + SIGKILL, SIGTERM: as Docker ends what still runs when it starts again
BESIDE_S = 1.0  # for what runs beside the engine to stop by itself
FOLLOW_S = 2.0  # for the last lines of a log
GIB = 2**30
_followers: dict[str, threading.Thread] = {}
_unanswered: set[str] = set()  # labels whose containers nobody could tell of for a while


class Docker:
    """Starts, watches and removes containers. Works with every server that implements Docker's API."""

    def checks(self, config: "Config") -> "Iterator[tuple[str, Check]]":
        """Check that the daemon answers, has the image or space for it, and can provide GPUs if the trial needs any."""
        return docker_checks.of(config)

    def gpus(self, config: "Config") -> "tuple[Seen, ...]":
        """This machine's, where the daemon is on it.

        Raises:
            PipelineError: a remote daemon does not answer, or has GPUs without saying which.
        """
        return docker_checks.gpus(config)

    def prepare(self, plan: "Plan", tell: Tell) -> None:
        """Pull the image where it is missing.

        Raises:
            PreflightFailed: there is no such image, no way to it, no room for it.
        """
        images.provide(container.of(plan), log=RunDir(plan.run_dir).pipeline_log, tell=tell)

    def await_room(self, plan: "Plan", tell: Tell) -> None:
        """Nothing: this machine's GPUs are pipeline.machine.slots' to give."""

    def deploy(self, plan: "Plan", owned: lease.Lease) -> Deployment:
        """Create and start the container; the engine is not ready yet. Its log is followed into server.log.

        Raises:
            DeployFailed: Docker refuses; what it has made carries the label.
        """
        owned, made = _started(plan, owned)
        port = owned.port or 0
        _follow(made, RunDir(plan.run_dir).server_log, owned.label)
        facts = {
            "container": str(made.id),
            **images.facts(made, str(container.of(plan).image)),
            "docker_run": container.run_line(plan, owned.label, _argv(plan, port), port),
        }
        return Deployment(lease=owned, url=f"http://{plan.host}:{port}", port=port, pid=owned.pid, facts=facts)

    def death(self, deployment: Deployment) -> str | None:
        """`exit code 1`, or that there is no container; None while it runs, or while nobody can tell."""
        try:
            state = _look(deployment, answer_s=LOOK_S)["State"]  # signals and deadlines must not wait for it
        except docker.errors.NotFound:
            return "its container was removed by somebody else"
        except daemon.TROUBLE:
            _unanswered.add(deployment.lease.label)
            return None
        if state["Status"] in {"created", "running", "restarting", "paused"}:
            return None
        _settle(deployment.lease.label)
        if state.get("OOMKilled"):
            return f"exit code {state['ExitCode']} (killed by the memory limit)"
        if state["ExitCode"] in STOPPED and deployment.lease.label in _unanswered:
            return f"code {state['ExitCode']} after Docker did not answer for a while; restarting it ends containers"
        return f"exit code {state['ExitCode']}"

    def condition(self, deployment: Deployment) -> str | None:
        """`Docker reports it as unhealthy: ...`, if the image has a health check, or that it is paused."""
        try:
            state = _look(deployment)["State"]
        except daemon.TROUBLE:
            return "Docker does not answer"
        health = state.get("Health") or {}
        said = next((one["Output"].strip() for one in reversed(health.get("Log") or []) if one["ExitCode"]), "")
        told = health.get("Status") or (state["Status"] if state["Status"] != "running" else None)
        return f"Docker reports it as {told}{f': {said}' if said else ''}" if told else None

    def owns_listener(self, deployment: Deployment) -> bool:
        """Whether our container runs and Docker publishes its port there.

        Raises:
            DeployFailed: Docker does not answer, so nobody can tell.
        """
        try:
            found = _look(deployment)
        except docker.errors.NotFound:
            return False
        except daemon.TROUBLE as error:
            silent = daemon.silent(error)
            raise DeployFailed(str(silent), kind=silent.kind, hint=silent.hint) from error
        published = found["NetworkSettings"]["Ports"].get(f"{deployment.port}/tcp") or []
        is_host = found["HostConfig"]["NetworkMode"] == "host"
        is_ours = is_host or any(one["HostPort"] == str(deployment.port) for one in published)
        return found["State"]["Status"] == "running" and is_ours

    def teardown(self, owned: lease.Lease) -> tuple[str, ...]:
        """Stop and remove every container with the label; look that none is left and that the port is free.

        What ran beside it on this machine (genai-bench) carries the label, too.
        """
        remaining = (*process.stop_labelled(owned.label, grace_s=BESIDE_S), *container_removal.remove(owned))
        _settle(owned.label)
        is_same_boot = owned.owner.boot_id == identity.of().boot_id  # else whoever has the port now is not ours
        if not remaining and is_same_boot and owned.port is not None and not ports.is_free(owned.host, owned.port):
            remaining = (f"something still listens on port {owned.port}",)
        return remaining


def _started(plan: "Plan", owned: lease.Lease) -> tuple[lease.Lease, Container]:
    """A container that runs. Docker takes no port that we hold; where somebody is faster, another one is tried.

    Raises:
        DeployFailed: Docker refuses.
    """
    tries_left = PORT_TRIES
    while True:
        tries_left -= 1
        try:
            return _start(plan, replace(owned, port=ports.free(plan.host)))
        except DeployFailed as refused:
            if refused.kind != FailureKind.PORT_TAKEN or container_removal.remove(owned) or not tries_left:
                raise


def _start(plan: "Plan", owned: lease.Lease) -> tuple[lease.Lease, Container]:
    """The lease knows the port before there is a container, and the process once there is one."""
    lease.update(owned)
    try:
        made = daemon.connect(owned.endpoint).containers.create(**_settings(plan, owned))
        made.start()
        made.reload()
    except daemon.TROUBLE as error:
        if isinstance(error, docker.errors.APIError):  # an answer: whoever listens on that port is not ours
            lease.update(replace(owned, port=None))
        raise _refused(error, plan) from error
    owned = replace(owned, pid=made.attrs["State"]["Pid"] or None)
    lease.update(owned)
    return owned, made


def _argv(plan: "Plan", port: int) -> list[str]:
    return [part.replace("{port}", str(port)) for part in plan.argv]


def _settings(plan: "Plan", owned: lease.Lease) -> dict[str, Any]:
    """What the SDK's `containers.create` is given. The entrypoint is ours: official images have one of their own."""
    box, port = container.of(plan), owned.port or 0
    argv = _argv(plan, port)
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


def _refused(error: Exception, plan: "Plan") -> DeployFailed:
    """Docker's refusals told apart. Source: seen with dockerd 20.10: codes and words of create and start."""
    words = str(getattr(error, "explanation", None) or error)
    kind, hint = FailureKind.LOAD_FAILED, "Run the docker_run command in record.json by hand."
    if isinstance(error, docker.errors.ImageNotFound):
        kind, hint = FailureKind.IMAGE_MISSING, f"Run: docker pull {container.of(plan).image}"
    elif "could not select device driver" in words or "Unknown runtime" in words:
        kind, hint = FailureKind.NO_GPU, docker_checks.TOOLKIT
    elif "address already in use" in words or "port is already allocated" in words:
        kind, hint = FailureKind.PORT_TAKEN, "Run the trial again: a free port is found each time."
    elif "bind source path does not exist" in words:
        kind, hint = FailureKind.MODEL_MISSING, "Check model.path and the mounts: Docker does not see this path."
    elif not isinstance(error, docker.errors.APIError):
        kind, hint = FailureKind.BACKEND_DOWN, daemon.NOT_RUNNING
    return DeployFailed(f"Docker could not start the container: {words}", kind=kind, hint=hint)


def _follow(made: Container, log: Path, label: str) -> None:
    """Stream the container's words into `log` until it ends."""

    def copy() -> None:
        with log.open("ab", buffering=0) as file:
            try:
                for piece in made.logs(stream=True, follow=True):
                    file.write(piece)
            except (*daemon.TROUBLE, urllib3.exceptions.HTTPError) as error:
                file.write(f"[the log breaks off here: {error}]\n".encode())

    follower = threading.Thread(target=copy, name=f"log of {label}", daemon=True)
    follower.start()
    _followers[label] = follower


def _settle(label: str) -> None:
    """Let the follower write the last lines."""
    follower = _followers.get(label)
    if follower:
        follower.join(timeout=FOLLOW_S)


def _look(deployment: Deployment, *, answer_s: int = daemon.ANSWER_S) -> Mapping[str, Any]:
    """What Docker knows of the container now."""
    with closing(daemon.connect(deployment.lease.endpoint, answer_s=answer_s)) as client:
        found: Mapping[str, Any] = client.containers.get(deployment.facts["container"]).attrs
    return found
