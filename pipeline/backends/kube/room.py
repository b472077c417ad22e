"""Waits for GPUs that other trials in the cluster have: before a trial is created, and while its pod has no node."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.backends import Tell
from pipeline.backends.kube import capacity, client, creation, manifests
from pipeline.backends.kube.capacity import Lack, Object, Want
from pipeline.backends.kube.client import Api, ApiError, Unreachable
from pipeline.backends.kube.rollout import Broken, Verdict, Waiting

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.backends.kube.watching import View
    from pipeline.core.plan import Plan
    from pipeline.core.schema_backends import Kubernetes

AGAIN_S = 3.0  # between two looks
SHARE = 10  # a look that takes long (thousands of pods) is taken so many times less often
TELL_S = 0.5
AWAY_S = 300.0  # that the API server may be away
MANAGED = "=".join(manifests.MANAGED_BY)
Ask = Callable[[], Lack | None]


def wait(plan: "Plan", tell: Tell) -> None:
    """Wait until other trials no longer hold the GPUs that the plan needs. What `tell` raises ends the wait.

    What else keeps the trial from them is left to the scheduler, which may know better: a node that will be added,
    pods that have to give way.

    Raises:
        DeployFailed: the cluster refuses to say, or does not answer.
    """
    if plan.kubernetes is None or not plan.gpus:
        return
    want = capacity.want_of(plan.kubernetes, plan.gpus)
    api = client.connect(plan.kubernetes.cluster)
    try:
        wait_for_trials(lambda: _lack(api, want), tell)
    finally:
        api.close()


def wait_for_trials(ask: Ask, tell: Tell) -> None:
    """Wait until `ask` no longer names trials. Raises as `wait`."""
    while True:
        begin = time.monotonic()
        found = _answer(ask)
        if found is None or found.by != "trials":
            return
        end = time.monotonic() + _pause_s(begin)
        is_told = False
        while not is_told or time.monotonic() < end:
            tell(found.words)
            is_told = True
            time.sleep(TELL_S)


def queue(view: "View", settings: "Kubernetes", gpus: int) -> "Queue":
    """The queue of the trial whose objects `view` watches."""
    return Queue(view.api, capacity.want_of(settings, gpus), view.name, settings.wait_for_gpus_s)


@dataclass
class Queue:
    """Who holds the GPUs that a trial's pod waits for. Asks the cluster on demand, at most every few seconds."""

    api: Api
    want: Want
    own: str  # the trial's name
    patience_s: float  # with others than trials
    _next: float = 0.0  # time of the next look
    _known: Lack | None = None
    _is_known: bool = False
    _others_since: float | None = None

    def judge(self, broken: Broken) -> Verdict:
        """The verdict when the scheduler reports missing GPUs: `broken` if nobody will release them."""
        self._look()
        found = self._known
        if not self._is_known or (found and found.by == "nobody"):
            return broken
        if found is None:  # the scheduler has not tried again; or a right to see all pods, or memory is lacking
            return Waiting(f"{broken.message} Now enough seem to be free.", "schedule")
        if found.by == "trials":
            self._others_since = None
            return Waiting(found.words, "schedule", is_untimed=True)
        self._others_since = self._others_since or time.monotonic()
        if time.monotonic() < self._others_since + self.patience_s:
            return Waiting(f"waits for other pods: {found.words}", "schedule", is_untimed=True)
        return _held(broken, found)

    def _look(self) -> None:
        """Update what is known; keep the old state if the cluster does not answer."""
        begin = time.monotonic()
        if begin < self._next:
            return
        try:
            self._known = capacity.lack(self.api.list("Node"), _pods(self.api), self.want, own=self.own)
            self._is_known = True
        except (ApiError, Unreachable):
            pass
        self._next = begin + _pause_s(begin)


def _lack(api: Api, want: Want) -> Lack | None:
    """What a trial without a pod lacks."""
    pods = _pods(api)
    return capacity.lack(api.list("Node"), [*pods, *_podless(api, pods)], want)


def _held(broken: Broken, found: Lack) -> Broken:
    hint = "End those pods, or set backend.kubernetes.wait_for_gpus_s to wait for them."
    return replace(broken, message=f"{broken.message} {found.words}.", hint=f"{hint} {broken.hint}")


def _answer(ask: Ask) -> Lack | None:
    try:
        found: Lack | None = creation.insist(ask, patience_s=AWAY_S)
    except ApiError as error:
        raise creation.refused(error, "the list of pods that hold GPUs") from error
    return found


def _pause_s(begin: float) -> float:
    return max(AGAIN_S, SHARE * (time.monotonic() - begin))


def _pods(api: Api) -> list[Object]:
    """The pods of all namespaces, or only of the trials' namespace without the right to read others."""
    try:
        return [*api.list("Pod", fields=capacity.UNFINISHED, everywhere=True)]
    except ApiError as error:
        if error.code != creation.FORBIDDEN:
            raise
        return [*api.list("Pod", fields=capacity.UNFINISHED)]


def _podless(api: Api, pods: Sequence[Object]) -> list[Object]:
    """The future pods of trials that were just created: among waiting trials, the first to see free GPUs gets them."""
    known = {capacity.trial_of(pod) for pod in pods}
    services = api.list("InferenceService", labels=MANAGED)
    return [
        _pod_to_be(one)
        for one in services
        if one["metadata"]["name"] not in known and "deletionTimestamp" not in one["metadata"]
    ]


def _pod_to_be(service: Object) -> Object:
    meta = service["metadata"]
    labels = {**(meta.get("labels") or {}), capacity.SERVICE: meta["name"]}
    runner = (service["spec"].get("engine") or {}).get("runner") or {}
    return {"metadata": {**meta, "labels": labels}, "spec": {"containers": [runner]}}
