"""What is known of an image before anything is deployed, asked of a real dockerd: nothing is pulled."""

from dataclasses import replace
from typing import Any

import pytest
from docker import DockerClient

from parts.dockerd import Dockerd
from parts.llama import free_port
from pipeline.backends import images
from pipeline.backends.docker import Docker
from pipeline.core.errors import FailureKind, PreflightFailed
from pipeline.core.schema import Config
from pipeline.core.schema_backends import Container
from support.records import make_config

pytestmark = pytest.mark.live


@pytest.fixture
def config(dockerd: Dockerd) -> Config:
    """Of a trial of an image of unknown size that is nowhere."""
    made = make_config()
    backend = replace(made.backend, container=Container(socket=dockerd.host))
    return replace(made, backend=backend, runtime=replace(made.runtime, image="servetune-test/none:1"))


def asked(config: Config, **changes: Any) -> Config:
    """With changes of the container."""
    box = config.backend.container
    assert box is not None
    return replace(config, backend=replace(config.backend, container=replace(box, **changes)))


def test_the_check_tells_an_image_that_is_here(config: Config, image: str, client: DockerClient) -> None:
    said = images.check(asked(config, image=image, pull="never"))
    assert said == f"{image} is present ({client.images.get(image).id})"


def test_the_check_tells_what_a_pull_takes_and_pulls_nothing(
    config: Config, dockerd: Dockerd, client: DockerClient
) -> None:
    before = [one.id for one in client.images.list(all=True)]
    said = images.check(replace(config, runtime=replace(config.runtime, image_gib=0.01)))
    assert said.startswith("servetune-test/none:1 will be pulled: about 0.01 GiB on disk, ")
    assert said.endswith(f" GiB free in {dockerd.root}/data")
    assert [one.id for one in client.images.list(all=True)] == before


def test_the_check_refuses_an_image_that_is_larger_than_the_disk(config: Config, dockerd: Dockerd) -> None:
    large = replace(config, runtime=replace(config.runtime, image_gib=1e6))
    with pytest.raises(PreflightFailed, match=rf"needs about 1e\+06 GiB; {dockerd.root}/data has") as caught:
        images.check(large)
    assert caught.value.kind == FailureKind.DISK_FULL
    assert "docker system df" in caught.value.hint
    assert "size on disk unknown" in images.check(asked(large, image="somebody/elses:1"))


def test_the_check_refuses_what_may_not_be_pulled(config: Config) -> None:
    with pytest.raises(PreflightFailed, match="is missing") as caught:
        images.check(asked(config, pull="never"))
    assert caught.value.kind == FailureKind.IMAGE_MISSING


def test_the_check_of_a_daemon_that_is_down(config: Config) -> None:
    with pytest.raises(PreflightFailed, match="Docker does not answer") as caught:
        images.check(asked(config, socket=f"tcp://127.0.0.1:{free_port()}"))
    assert caught.value.kind == FailureKind.BACKEND_DOWN


def test_the_doctor_and_every_trial_check_the_image(config: Config) -> None:
    assert "image" in [name for name, _ in Docker().checks(config)]
