"""Runs the engine in Kubernetes with OME: one InferenceService per trial, owned by a Job (a dead man's switch)."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backends import Deployment, Tell, lease
from pipeline.backends.kube import access, arrival, client, creation, manifests, removal, rollout, room
from pipeline.backends.kube.logs import Follower
from pipeline.backends.kube.watching import View
from pipeline.core.errors import ConfigError, DeployFailed, FailureKind
from pipeline.core.files import RunDir
from pipeline.core.redact import Secrets
from pipeline.engines import diagnose

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.backends import Check
    from pipeline.core.plan import Plan
    from pipeline.core.schema import Config
    from pipeline.core.schema_backends import Kubernetes
    from pipeline.core.schema_hardware import Seen

LOG_LINES = 2000
TAIL_LINES = 15


@dataclass
class _Trial:
    """What this process has to do with a trial."""

    view: View
    uid: str = ""  # of the pod
    way: access.Way | None = None
    follower: Follower | None = None

    def close(self) -> None:
        self.view.close()
        if self.way:
            self.way.close()


_trials: dict[str, _Trial] = {}  # by label; a Deployment holds no client and no thread


class Ome:
    """Starts, watches and removes InferenceServices."""

    def checks(self, config: "Config") -> "Iterator[tuple[str, Check]]":
        """The cluster answers, grants us the rights, and has OME, nodes with GPUs, and the model or its source."""
        from pipeline.backends.kube import checks

        return checks.of(config)

    def gpus(self, config: "Config") -> "tuple[Seen, ...]":
        """The nodes', by their labels.

        Raises:
            PipelineError: the cluster cannot be asked, or its nodes do not say which GPUs they have.
        """
        from pipeline.backends.kube import gpus

        return gpus.of(config)

    def prepare(self, plan: "Plan", tell: Tell) -> None:
        """Have the model on a node and the runtime in the cluster, made where they are missing.

        Raises:
            PreflightFailed: the model cannot be had.
        """
        from pipeline.backends.kube import models

        models.provide(plan, tell)

    def await_room(self, plan: "Plan", tell: Tell) -> None:
        """Wait until the trial's GPUs are not other trials' any more, saying whose they are.

        Raises:
            DeployFailed: the cluster refuses to say, or does not answer.
        """
        room.wait(plan, tell)

    def deploy(self, plan: "Plan", owned: lease.Lease) -> Deployment:
        """Create the trial's objects and wait until the engine's process has been started; it is not ready yet.

        Raises:
            DeployFailed: the cluster refuses, cannot, or takes too long; what was made carries the label.
        """
        kubernetes = _settings(plan)
        cluster = client.resolved(kubernetes.cluster)
        owned, kubernetes = replace(owned, cluster=cluster), replace(kubernetes, cluster=cluster)
        lease.update(owned)
        plan, api = replace(plan, kubernetes=kubernetes), client.connect(cluster)
        trial = _trials[owned.label] = _Trial(View(api, manifests.name(owned.label)))
        creation.create(api, plan, owned)
        pod = _started(trial, plan, kubernetes)
        trial.uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
        trial.follower = Follower(api, name, RunDir(plan.run_dir).server_log, lambda: _has_ended(trial))
        trial.way = access.open_way(api, plan, kubernetes, owned, name)
        if trial.way.forwarder:
            owned = replace(owned, port=trial.way.port, pid=trial.way.forwarder.pid)
            lease.update(owned)
        facts = {
            "cluster": api.host,
            "namespace": api.namespace,
            "access": trial.way.how,
            **_facts(trial.view.name, pod),
        }
        return Deployment(lease=owned, url=trial.way.url, port=trial.way.port, facts=facts)

    def death(self, deployment: Deployment) -> str | None:
        """`exit code 1`, or what became of the pod; None while it runs, or while nobody can tell."""
        trial = _trials.get(deployment.lease.label)
        if trial is None:
            return "it was torn down"
        how = rollout.death(trial.view.seen(), trial.uid)
        if how is None and trial.way and not trial.way.is_open:
            return "the port-forward to the engine ended; see pipeline.log"
        if how and trial.follower:
            trial.follower.settle()
            how = rollout.death(trial.view.seen(), trial.uid) or how  # a kubelet's reason comes after the exit code
        return how

    def condition(self, deployment: Deployment) -> str | None:
        """`Startup probe failed: HTTP 503; InferenceService EngineReady False MinimumReplicasUnavailable: ...`."""
        trial = _trials.get(deployment.lease.label)
        return rollout.condition(trial.view.seen()) if trial else None

    def owns_listener(self, deployment: Deployment) -> bool:
        """Whether our pod runs and our way to it is open: the forwarder listens on a port that it has found itself."""
        trial = _trials.get(deployment.lease.label)
        return trial is not None and trial.way is not None and trial.way.is_open and not _has_ended(trial)

    def teardown(self, owned: lease.Lease) -> tuple[str, ...]:
        """Remove every object with the label and look that none is left.

        What runs beside it on this machine (the port-forward, genai-bench) carries the label, too.
        """
        trial = _trials.pop(owned.label, None)
        if trial:
            trial.close()
        try:
            return removal.remove(owned)
        finally:
            if trial and trial.follower:  # not before: it copies what the engine says of its end
                trial.follower.close()


def _settings(plan: "Plan") -> "Kubernetes":
    if plan.kubernetes is None:
        raise ConfigError("backend=ome needs backend.kubernetes: set it as in conf/backend/ome.yaml.")
    return plan.kubernetes


def _has_ended(trial: _Trial) -> bool:
    return rollout.death(trial.view.seen(), trial.uid) is not None


def _started(trial: _Trial, plan: "Plan", kubernetes: "Kubernetes") -> rollout.Object:
    """The pod in which the engine runs.

    Raises:
        DeployFailed: with the end of its log where it has ended already.
    """
    try:
        return arrival.wait_started(trial.view, kubernetes, room.queue(trial.view, kubernetes, plan.gpus))
    except arrival.Crashed as crash:
        raise _crashed(trial.view, crash.broken, RunDir(plan.run_dir).server_log) from crash


def _crashed(view: View, broken: rollout.Broken, log: Path) -> DeployFailed:
    """The engine's own reason first, as of one that dies later (pipeline/trial/health.py)."""
    pod = rollout.engine_pod(view.seen()) or {}
    text = _last_words(view.api, pod)
    log.write_text(text, "utf-8")
    found = diagnose.server_death(rollout.how(rollout.ended(pod) or {}), text)
    message = f"{broken.message} {found.reason}".strip()
    tail = [f"  | {line}" for line in str(Secrets(os.environ).hide(text)).splitlines()[-TAIL_LINES:]]
    if found.kind == FailureKind.SERVER_DIED:  # it says no more than that
        found = replace(found, kind=broken.kind, hint=broken.hint)
    return DeployFailed("\n".join([message, f"Last lines of {log}:", *tail]), kind=found.kind, hint=found.hint)


def _last_words(api: client.Api, pod: rollout.Object) -> str:
    """The last lines of the ended run; another run may have begun since."""
    name, status = pod["metadata"]["name"], rollout.container(pod)
    is_again = bool(status.get("restartCount"))
    try:
        return api.log(name, container=rollout.CONTAINER, lines=LOG_LINES, previous=is_again)
    except client.Unreachable:
        return ""


def _facts(name: str, pod: rollout.Object) -> dict[str, str]:
    status = rollout.container(pod)
    return {
        "inference_service": name,
        "pod": pod["metadata"]["name"],
        "node": pod["spec"]["nodeName"],
        "pod_ip": str(pod["status"].get("podIP", "")),
        "image": str(status.get("image", "")),
        "image_id": str(status.get("imageID", "")),
    }
