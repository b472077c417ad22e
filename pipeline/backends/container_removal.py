"""Removes a trial's containers by their label, from a daemon that may be slow, hang, or be down for a while."""

import math
import time
from contextlib import closing
from dataclasses import dataclass

import docker
import docker.errors
from docker.models.containers import Container

from pipeline.backends import container, daemon
from pipeline.backends.lease import Lease
from pipeline.backends.patience import Patience
from pipeline.machine import process

PATIENCE_S = 20.0  # with a daemon that does not answer, beyond the engine's own time to stop
AGAIN_S = 0.5  # between two tries
LEAST_S = 1  # for an answer, however late it is
SETTLE_S = 2.0  # that a daemon may take for a container that nobody waits for any more


def remove(owned: Lease) -> tuple[str, ...]:
    """Stop and remove every container with the label, then look: what is left, in words. Idempotent.

    A daemon that does not answer, or refuses, is asked again while the patience and the running deadline last; then
    what may be left is named, with the command that removes it.
    """
    removal = _Removal(owned, Patience.of(owned.stop_grace_s, PATIENCE_S))
    while True:
        try:
            return removal.attempt()
        except daemon.TROUBLE as error:
            if removal.patience.left_s <= AGAIN_S:
                return (container.may_run(owned, error),)
            time.sleep(AGAIN_S)


@dataclass
class _Removal:
    """One removal: of what, and how long it may take."""

    owned: Lease
    patience: Patience

    def attempt(self) -> tuple[str, ...]:
        with closing(daemon.connect(self.owned.endpoint, answer_s=self._answer_s())) as client:
            if self._is_half_made:
                process.wait_until(lambda: bool(self._found(client)), timeout_s=SETTLE_S, interval_s=0.2)
            for one in self._found(client):
                self._remove(client, one)
            return tuple(f"container {one.name}" for one in self._found(client))

    @property
    def _is_half_made(self) -> bool:
        """Whether the daemon was asked for a container, and nobody waited for the end of that."""
        return self.owned.port is not None and self.owned.pid is None

    def _answer_s(self) -> int:
        return max(LEAST_S, min(daemon.ANSWER_S, math.ceil(self.patience.left_s)))

    def _found(self, client: docker.DockerClient) -> list[Container]:
        client.api.timeout = self._answer_s()
        found: list[Container] = client.containers.list(
            all=True, filters={"label": f"{container.LABEL}={self.owned.label}"}, ignore_removed=True
        )
        return found

    def _remove(self, client: docker.DockerClient, one: Container) -> None:
        start = time.monotonic()
        try:
            client.api.timeout = self._answer_s()
            one.stop(timeout=math.ceil(self.patience.grace_s))
            self.patience.extend(min(time.monotonic() - start, self.patience.grace_s))
            client.api.timeout = self._answer_s()
            one.remove(force=True, v=True)
        except docker.errors.NotFound:  # somebody was faster: good
            return
