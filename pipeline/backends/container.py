"""A trial's container as text: its name, its label, the equivalent `docker run` command. Pure."""

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.backends import lease
from pipeline.core.errors import DeployFailed

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.core.plan import Plan
    from pipeline.core.schema_backends import Container

LABEL = "servetune.lease"
AMD_DEVICES = ("/dev/kfd", "/dev/dri")  # https://rocm.docs.amd.com/projects/install-on-linux, "Running ROCm Docker"


def of(plan: "Plan") -> "Container":
    """What the plan says of the container.

    Raises:
        DeployFailed: nothing: it was made for a backend without containers.
    """
    if plan.container is None:
        raise DeployFailed("backend=docker needs backend.container: set it as in conf/backend/docker.yaml.")
    return plan.container


def name(label: str) -> str:
    """The container's name."""
    return f"servetune-{label}"


def limits(box: "Container") -> Iterator[tuple[str, int]]:
    """The ulimits that are set."""
    yield from ((kind, limit) for kind, limit in box.ulimits.items() if limit is not None)


def cores(plan: "Plan") -> str:
    """The cores of the container, as Docker takes them."""
    return ",".join(map(str, plan.slots.cores))


def mounts(box: "Container") -> Iterator[tuple[str, str, bool]]:
    """Each mount: path here, path inside, whether it is read-only."""
    for mount in (*box.mounts, *box.writable_mounts):
        here, _, inside = mount.partition(":")
        yield here, inside or here, mount in box.mounts


def _mount(here: str, inside: str, *, is_read_only: bool) -> str:
    """The mount for `docker run --mount`, which unlike -v does not create a missing folder."""
    return f"type=bind,source={here},target={inside}{',readonly' if is_read_only else ''}"


def may_run(owned: lease.Lease, error: Exception) -> str:
    """The message when nobody can tell whether the container is gone, with the command that removes it."""
    place = f"-H {owned.endpoint} " if owned.endpoint else ""
    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    remove = f"docker {place}rm -f {name(owned.label)}"
    return f"container {name(owned.label)} may still be running: Docker did not remove it ({told}); {remove}"


def run_line(plan: "Plan", label: str, argv: Sequence[str], port: int | str) -> str:
    """The equivalent `docker run` command, without the values of secrets."""
    box = of(plan)
    words = ["docker", "run", "--name", name(label), "--label", f"{LABEL}={label}", "--init"]
    words += ["--network", box.network, "--security-opt", "no-new-privileges", "--shm-size", f"{box.shm_size_gib:g}g"]
    words += [] if box.network == "host" else ["-p", f"{plan.host}:{port}:{port}"]
    words += ["--memory", f"{box.memory_gib:g}g"] if box.memory_gib else []
    words += ["--cpuset-cpus", cores(plan)] if plan.slots.cores else []
    words += [word for name, limit in limits(box) for word in ("--ulimit", f"{name}={limit}")]
    for here, inside, is_read_only in mounts(box):
        words += ["--mount", _mount(here, inside, is_read_only=is_read_only)]
    words += [word for name, text in plan.env.items() for word in ("-e", f"{name}={text}")]
    words += [word for name in plan.secret_env for word in ("-e", name)]  # docker takes the value from its environment
    if plan.gpus and plan.gpu_vendor == "nvidia":
        words += ["--gpus", f'"device={",".join(plan.slots.gpu_ids)}"' if plan.slots.gpu_ids else str(plan.gpus)]
    if plan.gpus and plan.gpu_vendor == "amd":
        words += [*(word for device in AMD_DEVICES for word in ("--device", device)), "--group-add", "video"]
    return shlex.join([*words, "--entrypoint", argv[0], str(box.image), *argv[1:]])
