"""The Docker daemon: how to connect to it, and the error when it does not answer."""

import re

import docker
import docker.errors
import requests

from pipeline.core.errors import FailureKind, PreflightFailed

ANSWER_S = 20  # for one question
TROUBLE = (docker.errors.DockerException, requests.RequestException)
OBJECT = re.compile(r"<[\w.]+ object at 0x[0-9a-f]+>:? ?")  # in the words of libraries; new each time
NOT_RUNNING = "Start Docker (sudo systemctl start docker), or set backend.container.socket; see `docker info`."


def connect(endpoint: str | None, *, answer_s: int = ANSWER_S) -> docker.DockerClient:
    """A client for the daemon at `endpoint` (None: DOCKER_HOST, else Docker's own default).

    Raises:
        docker.errors.DockerException: nobody answers there.
    """
    if endpoint:
        return docker.DockerClient(base_url=endpoint, version="auto", timeout=answer_s)
    return docker.from_env(version="auto", timeout=answer_s)


def silent(said: Exception | str) -> PreflightFailed:
    """The failure of a daemon that does not answer."""
    first, *_ = OBJECT.sub("", str(said)).splitlines() or [type(said).__name__]
    return PreflightFailed(f"Docker does not answer: {first}", kind=FailureKind.BACKEND_DOWN, hint=NOT_RUNNING)
