"""What backend=docker does with a server, on a real dockerd: start, watch, tell its death, remove it, look."""

import io
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from fakes import make_plan
from parts.dockerd import Dockerd
from pipeline.backends import Deployment, container, docker_checks, lease, ports
from pipeline.backends.docker import PORT_TRIES, Docker
from pipeline.core.errors import DeployFailed, FailureKind
from pipeline.core.files import RunDir
from pipeline.core.plan import Plan
from pipeline.core.schema_backends import Container
from pipeline.machine import process
from support.places import TESTS

pytestmark = pytest.mark.live
ENGINE = ("python3", str(TESTS / "fakes" / "stub_engine.py"), "--port", "{port}")
Deploy = Callable[..., Deployment]


@pytest.fixture
def plan(dockerd: Dockerd, image: str, tmp_path: Path) -> Plan:
    run_dir = tmp_path / "sweep" / "0"
    run_dir.mkdir(parents=True)
    box = Container(image=image, socket=dockerd.host, pull="never", shm_size_gib=0.1, mounts=(str(TESTS),))
    made = make_plan(run_dir, backend="pipeline.backends.docker.Docker", argv=ENGINE, container=box)
    return replace(made, stop_grace_s=1, env={"OF_THE_PLAN": "1", "STUB_HOST": "0.0.0.0"})


@pytest.fixture
def deploy(plan: Plan) -> Iterator[Deploy]:
    """Deploy the plan, with changes; all is taken down at the end."""
    made = []

    def start(**changes: Any) -> Deployment:
        own = replace(plan, **changes)
        owned = lease.make(own)
        lease.update(owned)
        made.append(owned)
        return Docker().deploy(own, owned)

    yield start
    for owned in made:
        Docker().teardown(lease.current(owned))


def answers(deployment: Deployment) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", deployment.port), timeout=1) as connection:
            connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return b"200" in connection.recv(64)
    except OSError:
        return False


def test_a_container_answers_on_loopback_and_is_gone_afterwards(deploy: Deploy, client: DockerClient) -> None:
    deployment = deploy()
    assert process.wait_until(lambda: answers(deployment), timeout_s=180)
    assert Docker().owns_listener(deployment)
    assert Docker().death(deployment) is None
    (made,) = client.containers.list(filters={"label": f"{container.LABEL}={deployment.lease.label}"})
    assert made.attrs["HostConfig"]["Privileged"] is False
    (published,) = made.attrs["NetworkSettings"]["Ports"][f"{deployment.port}/tcp"]
    assert published["HostIp"] == "127.0.0.1"
    assert not any(mount["RW"] for mount in made.attrs["Mounts"])
    assert [Docker().teardown(deployment.lease) for _ in range(2)] == [(), ()]
    assert client.containers.list(all=True, ignore_removed=True) == []


def test_tells_the_exit_code_and_keeps_the_log(deploy: Deploy, plan: Plan) -> None:
    deployment = deploy(argv=("python3", "-c", "print('last words'); raise SystemExit(7)"))
    assert process.wait_until(lambda: Docker().death(deployment) == "exit code 7", timeout_s=180)
    assert "last words" in RunDir(plan.run_dir).server_log.read_text()


def test_tells_a_death_by_the_memory_limit(deploy: Deploy, plan: Plan) -> None:
    box = replace(plan.container, memory_gib=0.05) if plan.container else None
    deployment = deploy(argv=("python3", "-c", "x = bytearray(300_000_000)"), container=box)
    assert process.wait_until(lambda: Docker().death(deployment) is not None, timeout_s=180)
    assert Docker().death(deployment) == "exit code 137 (killed by the memory limit)"


def test_a_removal_from_outside_is_a_death(deploy: Deploy, client: DockerClient) -> None:
    deployment = deploy()
    client.containers.get(deployment.facts["container"]).remove(force=True)
    assert Docker().death(deployment) == "its container was removed by somebody else"


def test_gpus_without_an_nvidia_runtime_leave_nothing_behind(deploy: Deploy, client: DockerClient) -> None:
    with pytest.raises(DeployFailed) as caught:
        deploy(gpus=1, gpu_vendor="nvidia")
    assert caught.value.kind == FailureKind.NO_GPU
    assert "nvidia-container-toolkit" in caught.value.hint
    (created,) = client.containers.list(all=True, ignore_removed=True)
    label = created.labels[container.LABEL]
    assert Docker().teardown(next(owned for owned in lease.all_registered() if owned.label == label)) == ()
    assert client.containers.list(all=True, ignore_removed=True) == []


def test_a_container_of_somebody_else_is_left_alone(deploy: Deploy, image: str, client: DockerClient) -> None:
    other = client.containers.run(
        image, ["-c", "import time; time.sleep(60)"], entrypoint=["python3"], detach=True, name="servetune-not-ours"
    )
    try:
        deployment = deploy()
        assert Docker().teardown(deployment.lease) == ()
        assert [one.id for one in client.containers.list()] == [other.id]
    finally:
        other.remove(force=True)


def test_a_secret_reaches_the_engine_alone(deploy: Deploy, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVETUNE_API_KEY", "sk-very-secret")
    script = "import os; print('seen', len(os.environ['ENGINE_KEY']))"
    deployment = deploy(argv=("python3", "-c", script), secret_env={"ENGINE_KEY": "SERVETUNE_API_KEY"})
    assert process.wait_until(lambda: Docker().death(deployment) is not None, timeout_s=180)
    assert "seen 14" in RunDir(plan.run_dir).server_log.read_text()
    kept = [path.read_text(errors="replace") for path in plan.run_dir.rglob("*") if path.is_file()]
    assert not any("sk-very-secret" in text for text in [*kept, str(deployment.facts)])
    assert os.environ["SERVETUNE_API_KEY"] == "sk-very-secret"


def test_a_mount_that_is_not_there_is_told_and_not_made(deploy: Deploy, plan: Plan, tmp_path: Path) -> None:
    box = replace(plan.container, mounts=(str(tmp_path / "none"),)) if plan.container else None
    with pytest.raises(DeployFailed) as caught:
        deploy(container=box)
    assert caught.value.kind == FailureKind.MODEL_MISSING
    assert not (tmp_path / "none").exists()


def test_only_what_is_asked_to_be_is_writable(deploy: Deploy, plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    box = replace(plan.container, writable_mounts=(f"{tmp_path}/kept:/kept",)) if plan.container else None
    deployment = deploy(argv=("python3", "-c", "open('/kept/it', 'w')"), container=box)
    assert process.wait_until(lambda: Docker().death(deployment) == "exit code 0", timeout_s=180)
    assert (tmp_path / "kept" / "it").exists()


def test_a_port_that_is_always_taken_is_told_after_three_tries(
    deploy: Deploy, client: DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        given = [other.getsockname()[1]] * PORT_TRIES
        monkeypatch.setattr(ports, "free", lambda _host: given.pop())
        with pytest.raises(DeployFailed) as caught:
            deploy()
        assert (caught.value.kind, given) == (FailureKind.PORT_TAKEN, [])
        assert client.containers.list(all=True, ignore_removed=True) == []
        (owned,) = lease.all_registered()
        assert Docker().teardown(owned) == ()


def test_a_port_that_is_still_listened_on_is_named_unless_the_machine_was_restarted(deploy: Deploy) -> None:
    owned = deploy().lease
    assert Docker().teardown(owned) == ()
    with socket.create_server(("127.0.0.1", owned.port or 0)):
        assert Docker().teardown(owned) == (f"something still listens on port {owned.port}",)
        assert Docker().teardown(replace(owned, owner=replace(owned.owner, boot_id="before"))) == ()


def test_an_unhealthy_container_is_told(deploy: Deploy, plan: Plan, image: str, client: DockerClient) -> None:
    check = "HEALTHCHECK --interval=1s --retries=1 CMD echo no GPU any more; exit 1"
    made, _ = client.images.build(fileobj=io.BytesIO(f"FROM {image}\n{check}\n".encode()), tag="unhealthy:1", rm=True)
    try:
        box = replace(plan.container, image="unhealthy:1") if plan.container else None
        deployment = deploy(container=box)
        wanted = "Docker reports it as unhealthy: no GPU any more"
        assert process.wait_until(lambda: Docker().condition(deployment) == wanted, timeout_s=180)
        assert Docker().death(deployment) is None
        Docker().teardown(deployment.lease)
    finally:
        client.images.remove(str(made.id))


def test_a_healthy_one_has_nothing_to_tell(deploy: Deploy) -> None:
    assert Docker().condition(deploy()) is None


@pytest.mark.parametrize(
    ("info", "has_hook", "how"),
    [
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, False, "the NVIDIA runtime"),
        ({"Runtimes": {"runc": {}}}, True, "NVIDIA's hook (nvidia-container-runtime-hook)"),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}, False, "CDI"),
        ({"Runtimes": {"runc": {}}, "DiscoveredDevices": [{"ID": "amd.com/gpu=0"}]}, False, None),
    ],
)
def test_knows_by_what_docker_gives_gpus(info: dict[str, Any], has_hook: bool, how: str | None) -> None:
    assert docker_checks.gpu_support(info, has_hook=has_hook) == how
