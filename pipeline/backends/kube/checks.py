"""Checks a cluster before a trial is deployed there; each failure names the command that fixes it.

Sends few requests: one per rule, one list per kind, seconds in all. The answers are judged in capacity, installed,
supplies and models.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.backends.kube import capacity, client, installed, manifests, models, standing, supplies
from pipeline.backends.kube.client import Api, ApiError, Unreachable
from pipeline.backends.kube.rights import RULES, Rule
from pipeline.core.errors import FailureKind, NotAsked, PreflightFailed

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.backends import Check
    from pipeline.core.plan import Plan
    from pipeline.core.schema import Config
    from pipeline.core.schema_backends import Kubernetes

Object = Mapping[str, Any]
OME_KINDS = ("InferenceService", "ClusterBaseModel", "ClusterServingRuntime")
ANSWER_S = 5.0  # for one question: a preflight is over in seconds
FORBIDDEN = 403
GRANT = "kubectl apply -f templates/ome/rbac.yaml"
__all__ = ["RULES", "Rule", "of"]
T = TypeVar("T")


def of(config: "Config") -> "Iterator[tuple[str, Check]]":
    """The cluster answers and lets us, has OME, nodes, the model or a way to it, and room in its quotas."""
    settings = config.backend.kubernetes
    if settings is None:
        return
    asked = _Preflight(config, settings)
    yield "cluster", asked.check(asked.reached)
    yield "rights in the cluster", asked.check(asked.rights)
    yield "OME's definitions", asked.check(asked.definitions)
    yield "OME's controller", asked.check(asked.controller)
    yield "nodes", asked.check(asked.room)
    if not asked.is_claim:
        yield "OME's model agent", asked.check(asked.agent)
    else:
        yield "claim of the model", asked.check(asked.claim)
    yield "base model", asked.check(asked.base_model)
    yield "serving runtime", asked.check(asked.serving_runtime)
    yield "quota", asked.check(asked.quota)
    if settings.image_pull_secrets:
        yield "image pull secrets", asked.check(asked.pull_secrets)


class _Preflight:
    """One preflight: connects once, and asks for what several checks look at once."""

    def __init__(self, config: "Config", settings: "Kubernetes") -> None:
        self.config = config
        self.settings = settings
        self.is_claim = (settings.storage.uri or "").startswith("pvc://")
        self.want = capacity.want_of(settings, config.gpus)
        self.silence: PreflightFailed | None = None

    def check(self, ask: Callable[[], str]) -> "Check":
        """The question as a check. Once the cluster was silent, it is not asked again."""

        def answer(_config: "Config") -> str:
            if self.silence:
                raise NotAsked("see cluster", kind=self.silence.kind)
            try:
                return ask()
            except Unreachable as error:
                self.silence = PreflightFailed(
                    f"The cluster at {self.api.host} cannot be reached: {error}",
                    kind=FailureKind.BACKEND_DOWN,
                    hint="Check kubectl cluster-info and backend.kubernetes.cluster.",
                )
                raise self.silence from error
            except ApiError as error:
                raise _refused(error) from error

        return answer

    @cached_property
    def api(self) -> Api:
        try:
            return client.connect(self.settings.cluster, answer_s=ANSWER_S)
        except PreflightFailed as error:
            self.silence = error
            raise

    @cached_property
    def nodes(self) -> list[dict[str, Any]]:
        return self.api.list("Node")

    @cached_property
    def agents(self) -> Object | None:
        daemons = _allowed(lambda: self.api.list("DaemonSet", namespace=installed.NAMESPACE))
        return None if daemons is None else installed.agent(daemons)

    @cached_property
    def ome_pods(self) -> list[dict[str, Any]]:
        return _allowed(lambda: self.api.list("Pod", namespace=installed.NAMESPACE)) or []

    @cached_property
    def schemas(self) -> dict[str, Mapping[str, Any]]:
        """The schemas of the definitions that we have the right to read."""
        plural = {kind: client.KINDS[kind][1] for kind in OME_KINDS}
        found = {
            kind: _allowed(lambda name=f"{name}.ome.io": self.api.get("CustomResourceDefinition", name))  # type: ignore[misc]
            for kind, name in plural.items()
        }
        return {kind: installed.schema(one) for kind, one in found.items() if one}

    @cached_property
    def plan(self) -> "Plan":
        """The trial's, for its manifests only: nothing of it is on this machine."""
        from pipeline.config import planning
        from pipeline.core import plan
        from pipeline.models import ome_model

        here = Path("/nonexistent")
        assets = plan.Assets(model_path=ome_model.inside(self.config), tokenizer_dir=here)
        return planning.make(self.config, assets, sweep_id="preflight", number=0, run_dir=here)

    @cached_property
    def model(self) -> Object | None:
        return self.api.get("ClusterBaseModel", self._model_name)

    @property
    def _model_name(self) -> str:
        return str(manifests.base_model(self.plan)["metadata"]["name"])

    def reached(self) -> str:
        """The server's version, and that the trials' namespace is there."""
        told = self.api.ask("GET", "/version")
        name = self.api.namespace
        try:
            is_there = self.api.get("Namespace", name) is not None
        except ApiError as error:
            if error.code != FORBIDDEN:
                raise
            return f"Kubernetes {told['gitVersion']} at {self.api.host}, namespace {name} (not checked)"
        if not is_there:
            raise PreflightFailed(f"The cluster has no namespace {name}.", hint=f"kubectl create namespace {name}")
        return f"Kubernetes {told['gitVersion']} at {self.api.host}, namespace {name}"

    def rights(self) -> str:
        """Whoever may do all is asked one question only."""
        if self._may(Rule("*", "*", ("*",), "cluster"), "*"):
            return "all"
        needed = [rule for rule in RULES if rule.is_needed]
        missing = [(rule, [verb for verb in rule.verbs if not self._may(rule, verb)]) for rule in needed]
        lacking = [str(Rule(rule.group, rule.resource, tuple(verbs), rule.place)) for rule, verbs in missing if verbs]
        if lacking:
            raise PreflightFailed(
                f"Your account lacks rights in namespace {self.api.namespace}: {'; '.join(lacking)}.", hint=GRANT
            )
        return f"{len(needed)} rules granted"

    def definitions(self) -> str:
        try:
            found = self.api.ask("GET", client.path("InferenceService", "", None).rpartition("/")[0])["resources"]
        except ApiError as error:
            if error.code != 404:
                raise
            found = []
        names = {one["name"] for one in found}
        told = installed.definitions({client.KINDS[kind][1]: client.KINDS[kind][1] in names for kind in OME_KINDS})
        if "ClusterBaseModel" in self.schemas and self.is_claim:
            self._insist_on_claims()
        installed.pruned({kind: self._unknown(kind) for kind in self.schemas})
        return told if self.schemas else f"{told}; fields not checked: no right to read the definitions"

    def controller(self) -> str:
        found = _allowed(lambda: self.api.list("Deployment", namespace=installed.NAMESPACE))
        if found is None:
            return f"not checked: no right to read namespace {installed.NAMESPACE}"
        return installed.controller(found, self.ome_pods, self._log)

    def agent(self) -> str:
        if self.agents is None:
            return f"not checked: no right to read namespace {installed.NAMESPACE}"
        told = installed.agents(self.agents, self.ome_pods, capacity.usable(self.nodes, self.want), self._log)
        model = self.model or manifests.base_model(self.plan)
        path, uri = model["spec"]["storage"].get("path"), model["spec"]["storage"]["storageUri"]
        is_kept = path and not uri.startswith(("local://", "vendor://"))
        return f"{told}; {installed.under(path, installed.root(self.agents))}" if is_kept else told

    def room(self) -> str:
        pods = (
            _allowed(lambda: self.api.list("Pod", fields=capacity.UNFINISHED, everywhere=True))
            if self.want.gpus
            else []
        )
        return capacity.survey(self.nodes, pods, self.want)

    def claim(self) -> str:
        return supplies.claim(str(self.settings.storage.uri), self.api.namespace, self._claim)

    def base_model(self) -> str:
        wanted = manifests.base_model(self.plan)
        if self.model is None:
            storage = wanted["spec"]["storage"]
            gated = self.config.model.gated and not storage.get("key")
            warned = "; gated: set backend.kubernetes.storage.key unless the agent has a token" if gated else ""
            return f"{self._model_name} does not exist: it will be created from {storage['storageUri']}{warned}"
        models.refuse(wanted, self.model)
        judged = standing.standing(self.model, self.nodes, self.want)
        if judged.word == "failed":
            raise models.failed(self.api, judged, self._model_name)
        if judged.word == "elsewhere":
            raise models.elsewhere(judged)
        return judged.told if judged.word == "ready" else f"{judged.told}: the trial will wait for it"

    def serving_runtime(self) -> str:
        model = self.model or manifests.base_model(self.plan)
        wanted = manifests.serving_runtime(self.plan, model)
        name = wanted["metadata"]["name"]
        found = self.api.get("ClusterServingRuntime", name)
        if found is None:
            return f"{name} does not exist: it will be created"
        models.refuse(wanted, found)
        models.unserved(model, found)
        return f"{name} serves {model['metadata']['name']}"

    def quota(self) -> str:
        found = _allowed(lambda: self.api.list("ResourceQuota"))
        return "not checked: no right to read quotas" if found is None else supplies.quota(found, self.want)

    def pull_secrets(self) -> str:
        found = {name: self.api.get("Secret", name) for name in self.settings.image_pull_secrets}
        return supplies.pull_secrets(found, self.api.namespace)

    def _insist_on_claims(self) -> None:
        if not installed.has_claims(self.schemas["ClusterBaseModel"]):
            raise installed.no_claims()

    def _unknown(self, kind: str) -> tuple[str, ...]:
        makers: Mapping[str, Callable[[], Object]] = {
            "InferenceService": lambda: manifests.inference_service(self.plan, "preflight", owner=None),
            "ClusterBaseModel": lambda: manifests.base_model(self.plan),
            "ClusterServingRuntime": lambda: manifests.serving_runtime(self.plan),
        }
        return manifests.unknown_fields(self.schemas[kind], makers[kind]())

    def _claim(self, name: str) -> Object | None:
        return self.api.get("PersistentVolumeClaim", name)

    def _log(self, pod: str, container: str) -> str:
        """The log of the container's ended run, else of the current one."""
        for is_previous in (True, False):
            log = self.api.log(pod, container=container, lines=20, previous=is_previous, namespace=installed.NAMESPACE)
            if log.strip():
                return log
        return ""

    def _may(self, rule: Rule, verb: str) -> bool:
        resource, _, below = rule.resource.partition("/")
        places = {"namespace": self.api.namespace, "ome": installed.NAMESPACE, "cluster": ""}
        what = {"group": rule.group, "resource": resource, "subresource": below, "verb": verb}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "metadata": {},
            "spec": {"resourceAttributes": {**what, "namespace": places[rule.place]}},
        }
        return bool(self.api.create(review)["status"]["allowed"])


def _allowed(ask: "Callable[[], T]") -> "T | None":
    """The answer; None where we may not know."""
    try:
        return ask()
    except ApiError as error:
        if error.code != FORBIDDEN:
            raise
        return None


def _refused(error: ApiError) -> PreflightFailed:
    if error.code == 401:
        return PreflightFailed(
            f"The cluster rejected our credentials: {str(error) or 'Unauthorized'}.",
            kind=FailureKind.BACKEND_DOWN,
            hint="Log in again, then check: kubectl auth whoami",
        )
    hint = GRANT if error.code == FORBIDDEN else "kubectl get --raw /readyz?verbose"
    return PreflightFailed(f"The cluster refused the request: {error}", hint=hint)
