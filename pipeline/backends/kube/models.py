"""The ClusterBaseModel and ClusterServingRuntime of a trial: used if they exist, else created, never changed."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.backends import Tell
from pipeline.backends.kube import capacity, client, installed, manifests
from pipeline.backends.kube.capacity import Want
from pipeline.backends.kube.client import Api, ApiError, Unreachable
from pipeline.backends.kube.standing import Standing, standing
from pipeline.core.errors import FailureKind, ModelError, PreflightFailed

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.core.plan import Plan

Object = Mapping[str, Any]
T = TypeVar("T")
KINDS = {"ClusterBaseModel": "base_model", "ClusterServingRuntime": "serving_runtime"}
AWAY_S = 120.0  # that the API server may be away
AGAIN_S = 1.0
LOOK_S = 3.0  # between two looks at how far it is; a change of the model itself is told by a watch
TELL_S = 0.5
ELSEWHERE_S = 60.0  # for an agent of a node that can run the trial to begin, when another node has the model
LINES = 200


def refuse(wanted: Object, found: Object) -> None:
    """Check that what the cluster has under this name is what the trial needs.

    Raises:
        PreflightFailed: it is not what the trial needs, and is not ours to change.
    """
    kind, name = str(wanted["kind"]), wanted["metadata"]["name"]
    resource = f"{kind.lower()}s.ome.io"
    if "deletionTimestamp" in found["metadata"]:
        raise PreflightFailed(f"{kind} {name} is being deleted.", hint=f"kubectl get {resource} {name} -o yaml")
    differing = manifests.differences(wanted, found)
    if differing:
        raise PreflightFailed(
            f"{kind} {name} exists but differs: {'; '.join(differing)}. servetune never changes it.",
            hint=f"Set another name, backend.kubernetes.{KINDS[kind]}=..., or set backend.kubernetes.storage.uri and "
            f".path as in the existing one (kubectl get {resource} {name} -o yaml).",
        )


def unserved(model: Object, runtime: Object) -> None:
    """Check that OME serves the model by the runtime; both as in the cluster, or as they would be created.

    Raises:
        PreflightFailed: OME would not serve the model by the runtime.
    """
    reasons = manifests.unserved(model, runtime)
    if reasons:
        name = runtime["metadata"]["name"]
        raise PreflightFailed(
            f"ClusterServingRuntime {name} does not serve {model['metadata']['name']}: {'; '.join(reasons)}.",
            hint="Set backend.kubernetes.serving_runtime=null to have one created, or to one of: "
            "kubectl get clusterservingruntimes.ome.io",
        )


def provide(plan: "Plan", tell: Tell) -> None:
    """Have both in the cluster, and the model on a node that can run the trial.

    Raises:
        PreflightFailed: what is there is another one, the cluster refuses, the model cannot be had or does not come
            within `model_s`. What `tell` raises ends the waiting; what was made stays.
    """
    work = _Provision(plan)
    try:
        _beside(work, tell)
    finally:
        work.stopped.set()
        work.changed.set()


@dataclass
class _Provision:
    """The work of `provide`, in a thread of its own: the API server may take long to answer, and signals are heard."""

    plan: "Plan"
    words: str = "asking the cluster"
    error: Exception | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    changed: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            self._provide()
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits for this thread
            self.error = error

    def _provide(self) -> None:
        if self.plan.kubernetes is None:
            return
        api = client.connect(self.plan.kubernetes.cluster)
        model = self._have(api, manifests.base_model(self.plan))
        runtime = self._have(api, manifests.serving_runtime(self.plan, model))
        unserved(model, runtime)
        watcher = threading.Thread(target=self._watch, args=[api, model["metadata"]["name"]], daemon=True)
        watcher.start()
        self._wait(api, model["metadata"]["name"])

    def _have(self, api: Api, wanted: Object) -> Object:
        """The object as the cluster has it. Somebody else may have created it first, and differently."""
        found = self._patiently(lambda: _found_or_made(api, wanted))
        refuse(wanted, found)
        return found

    def _wait(self, api: Api, name: str) -> None:
        settings = self.plan.kubernetes
        want = capacity.want_of(settings, self.plan.gpus) if settings else Want("", 0)
        limit_s = settings.model_s if settings else 0.0
        end, elsewhere_end = time.monotonic() + limit_s, 0.0
        while not self.stopped.is_set():
            self.changed.clear()
            judged = self._patiently(lambda: _look(api, name, want))
            self.words = judged.told
            if judged.word == "ready":
                return
            if judged.word == "failed":
                raise failed(api, judged, name)
            elsewhere_end = (elsewhere_end or time.monotonic() + ELSEWHERE_S) if judged.word == "elsewhere" else 0.0
            if elsewhere_end and time.monotonic() >= elsewhere_end:
                raise elsewhere(judged)
            if time.monotonic() >= end:
                raise _late(judged, name, limit_s)
            self.changed.wait(min(LOOK_S, max(0.0, end - time.monotonic())))

    def _watch(self, api: Api, name: str) -> None:
        """Have every change looked at; whatever it is that goes wrong here, the next look says more."""
        while not self.stopped.is_set():
            with suppress(ApiError, Unreachable):
                fields = f"metadata.name={name}"
                _, version = api.snapshot("ClusterBaseModel", fields=fields)
                self.changed.set()
                for _event in api.watch("ClusterBaseModel", version=version, fields=fields):
                    self.changed.set()
                    if self.stopped.is_set():
                        return
            self.stopped.wait(AGAIN_S)

    def _patiently(self, ask: Callable[[], T]) -> T:
        """The answer, asked for again while the API server is away."""
        end = time.monotonic() + AWAY_S
        while True:
            try:
                return ask()
            except (Unreachable, ApiError) as error:
                is_away = isinstance(error, Unreachable) or error.code >= 500 or error.code == 429
                if not is_away or self.stopped.is_set() or time.monotonic() >= end:
                    raise _refusal(error) from error
                self.words = f"the API server does not answer ({error})"
                self.stopped.wait(AGAIN_S)


def _beside(work: _Provision, tell: Tell) -> None:
    thread = threading.Thread(target=work.run, name="model and runtime", daemon=True)
    thread.start()
    while thread.is_alive():
        tell(work.words)
        thread.join(timeout=TELL_S)
    if work.error:
        raise work.error


def _found_or_made(api: Api, wanted: Object) -> Object:
    kind, name = str(wanted["kind"]), str(wanted["metadata"]["name"])
    while True:
        found = api.get(kind, name)
        if found is not None:
            return found
        try:
            return api.create(wanted)
        except ApiError as error:
            if error.code != 409:  # somebody else was faster: theirs is looked at
                raise


def _look(api: Api, name: str, want: Want) -> Standing:
    found = api.get("ClusterBaseModel", name)
    if found is None:
        raise ModelError(
            f"ClusterBaseModel {name} was deleted while the trial waited for it.",
            hint="Run the trial again: a missing ClusterBaseModel is created.",
        )
    judged = standing(found, api.list("Node"), want)
    if judged.word != "coming":
        return judged
    progress = "; ".join(_progress(api, name))
    return Standing(judged.word, f"{judged.told}{f' ({progress})' if progress else ''}")


def _progress(api: Api, name: str) -> Iterator[str]:
    """What the agents write of the model, node by node: a ConfigMap for each, named like it, an entry per model."""
    with suppress(ApiError, Unreachable):  # nobody has to be allowed to read them
        for one in api.list("ConfigMap", namespace=installed.NAMESPACE):
            for key, text in (one.get("data") or {}).items():
                if key == name or key.endswith((f".{name}", f"_{name}")):
                    yield f"{one['metadata']['name']}: {_entry(text)}"


def _entry(text: str) -> str:
    try:
        told = json.loads(text)
        progress = told.get("progress")
        return f"{told.get('status', '')}{f' {json.dumps(progress)}' if progress else ''}".strip() or text[:80]
    except (ValueError, AttributeError):
        return text[:80]


def failed(api: Api, judged: Standing, name: str) -> ModelError:
    """The failure for a model whose agents gave up, with the last agent's message."""
    said = ""
    with suppress(ApiError, Unreachable):
        said = next(_said(api, name), "")
    return ModelError(
        f"OME could not provide the model: {judged.told}{f': {said}' if said else '.'}",
        kind=FailureKind.MODEL_MISSING,
        hint=f"kubectl -n ome logs -l app.kubernetes.io/component=ome-model-agent-daemonset | grep {name}; after "
        f"fixing the cause: kubectl delete clusterbasemodels.ome.io {name}",
    )


def elsewhere(judged: Standing) -> ModelError:
    """The failure for a model that is on other nodes than the trial's."""
    return ModelError(
        f"{judged.told}.",
        kind=FailureKind.UNSCHEDULABLE,
        hint="kubectl -n ome get pods -o wide shows whether an agent runs on the other nodes; or set "
        "backend.kubernetes.node_selector and the model's storage.nodeSelector to the same nodes.",
    )


def _said(api: Api, name: str) -> Iterator[str]:
    """Lines of the agents' logs about the model, the last first."""
    for pod in api.list("Pod", namespace=installed.NAMESPACE):
        if installed.AGENT not in pod["metadata"]["name"]:
            continue
        container = pod["spec"]["containers"][0]["name"]
        log = api.log(pod["metadata"]["name"], container=container, lines=LINES, namespace=installed.NAMESPACE)
        lines = [line for line in log.splitlines() if name in line]
        worst = [line for line in lines if "err" in line.lower() or "fail" in line.lower()] or lines
        yield from reversed(worst)


def _late(judged: Standing, name: str, limit_s: float) -> ModelError:
    return ModelError(
        f"The model did not arrive within backend.kubernetes.model_s={limit_s:g} s: {judged.told}.",
        kind=FailureKind.STEP_TIMED_OUT,
        hint=f"Raise it if the download still runs: kubectl get clusterbasemodels.ome.io {name} -o yaml",
    )


def _refusal(error: Exception) -> PreflightFailed:
    if isinstance(error, Unreachable):
        return PreflightFailed(
            f"The API server has not answered for {AWAY_S:g} s: {error}",
            kind=FailureKind.BACKEND_DOWN,
            hint="kubectl get --raw /readyz",
        )
    hint = "kubectl apply -f templates/ome/rbac.yaml" if getattr(error, "code", 0) == 403 else None
    return PreflightFailed(f"The cluster refused the request: {error}", hint=hint)
