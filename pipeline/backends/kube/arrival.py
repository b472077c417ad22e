"""Waits until the engine's process has been started in its pod, or says at once why it never will be."""

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.backends.kube import creation
from pipeline.backends.kube.client import ApiError
from pipeline.backends.kube.rollout import Broken, Object, Phase, Running, Verdict, Waiting, verdict
from pipeline.backends.kube.room import Queue
from pipeline.backends.kube.watching import View
from pipeline.core.errors import DeployFailed, FailureKind

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.core.schema_backends import Kubernetes

DOUBT_S = 4.0  # that something which may be out of date has to last
log = logging.getLogger(__name__)


class Crashed(Exception):
    """The engine's process was started, and has ended: its log says why."""

    def __init__(self, broken: Broken) -> None:
        super().__init__(broken.message)
        self.broken = broken


@dataclass
class _Patience:
    """The limits of the phases, each from its own beginning, and how long a doubtful verdict lasts."""

    settings: "Kubernetes"
    ends: dict[Phase, float] = field(default_factory=dict)
    doubt_end: float | None = None
    told: str = ""

    def check(self, judged: Verdict) -> None:
        """Raises DeployFailed or Crashed where waiting is of no use any more."""
        now = time.monotonic()
        if isinstance(judged, Broken):
            self.doubt_end = self.doubt_end or now + DOUBT_S
            if judged.is_sure or now >= self.doubt_end:
                raise _failure(judged)
        elif isinstance(judged, Waiting):
            self.doubt_end = None
            self._tell(judged.words)
            if judged.is_untimed:
                self.ends.pop(judged.phase, None)
                return
            limit_s = self._limit_s(judged.phase)
            if now >= self.ends.setdefault(judged.phase, now + limit_s):
                raise _late(judged, limit_s)

    def _limit_s(self, phase: Phase) -> float:
        return self.settings.schedule_s if phase == "schedule" else self.settings.image_s

    def _tell(self, words: str) -> None:
        if words != self.told:
            self.told = words
            log.info(words)


def wait_started(view: View, settings: "Kubernetes", queue: Queue) -> Object:
    """The pod in which the engine runs. `queue` says whose the GPUs are that it lacks: it waits for other trials.

    Raises:
        DeployFailed: it never will, or did not within `schedule_s`, `wait_for_gpus_s` and `image_s`.
        Crashed: it was started and has ended.
    """
    patience = _Patience(settings)
    while True:
        try:
            view.check()
        except ApiError as error:
            raise creation.refused(error, "the watch of the trial's objects") from error
        judged = verdict(view.seen(), gpu_resource=settings.gpu_resource)
        if isinstance(judged, Running):
            return judged.pod
        patience.check(queue.judge(judged) if isinstance(judged, Broken) and judged.lacks_gpus else judged)
        view.pause()


def _failure(broken: Broken) -> Exception:
    if broken.kind == FailureKind.CRASH_LOOP:
        return Crashed(broken)
    return DeployFailed(broken.message, kind=broken.kind, hint=broken.hint)


def _late(waiting: Waiting, limit_s: float) -> DeployFailed:
    if waiting.phase == "schedule":
        is_ignored = waiting.is_ignored
        return DeployFailed(
            f"No node was found within {limit_s:g} s: {waiting.words}",
            kind=FailureKind.BACKEND_DOWN if is_ignored else FailureKind.UNSCHEDULABLE,
            hint="Check that OME's controller runs: kubectl -n ome get pods"
            if is_ignored
            else "Free a node, or raise backend.kubernetes.schedule_s if the cluster adds nodes later.",
        )
    return DeployFailed(
        f"The engine's container was not started within {limit_s:g} s: {waiting.words}",
        kind=FailureKind.REGISTRY_UNREACHABLE,
        hint="Raise backend.kubernetes.image_s if the image is still being pulled (kubectl get events).",
    )
