"""What is known of a trial's objects while they come, change and go."""

import threading
from collections.abc import Iterator
from typing import Any, cast

from pipeline.backends.kube import rollout
from pipeline.backends.kube.client import Api
from pipeline.backends.kube.watching import View
from pipeline.machine import process
from support.engine_pods import UID, pod

TOLD_S = 30
EVICTED = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "evicting"}


class _Cluster:
    """One pod that is there until `delete`, then is told as deleted; or is missing when all is listed again."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.breaks = breaks
        self.is_deleted = threading.Event()
        self.is_closed = threading.Event()

    def snapshot(self, kind: str, **_: Any) -> tuple[list[dict[str, Any]], str]:
        is_there = kind == "Pod" and not self.is_deleted.is_set()
        return ([pod({"running": {}}, conditions=[EVICTED] if self.breaks else [])] if is_there else []), "1"

    def watch(self, kind: str, **_: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        if kind != "Pod" or self.is_deleted.is_set():
            self.is_closed.wait()
            return
        self.is_deleted.wait()
        if not self.breaks:
            yield "DELETED", pod({"running": {}}, conditions=[EVICTED])

    def close(self) -> None:
        self.is_closed.set()


def _told(cluster: _Cluster) -> str | None:
    view = View(cast("Api", cluster), "st-x")
    try:
        assert process.wait_until(lambda: bool(view.seen().pods), timeout_s=TOLD_S)
        assert rollout.death(view.seen(), UID) is None
        assert not view.seen().is_removed
        cluster.is_deleted.set()
        assert process.wait_until(lambda: view.seen().is_removed, timeout_s=TOLD_S)
        return rollout.death(view.seen(), UID)
    finally:
        cluster.is_deleted.set()
        view.close()


def test_a_deleted_pods_last_state_says_why() -> None:
    assert _told(_Cluster()) == "Kubernetes ended its pod: EvictionByEvictionAPI: evicting"


def test_a_pod_that_is_gone_after_the_watch_broke_is_told_by_what_was_seen_last() -> None:
    assert _told(_Cluster(breaks=True)) == "Kubernetes ended its pod: EvictionByEvictionAPI: evicting"
