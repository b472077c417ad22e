"""Plays OME's controller and its model agent: InferenceServices become Deployments, models become labels of nodes."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from parts import ome_render, ome_status
from parts.kube_api import OME, Api
from parts.ome_behaviour import Behaviour, Settings
from parts.ome_render import InvalidError, Parts, model_label

FINALIZER = "inferenceservice.finalizers"
RENDERED = "ome-tests/rendered"  # an annotation: what the Deployment was made from


@dataclass
class Controller:
    """Level-triggered: each round looks at everything, so an API server that was gone costs a round only."""

    api: Api
    first_seen: dict[str, float] = field(default_factory=dict)  # models, by uid

    def sync(self, settings: Settings) -> None:
        nodes = self.api.list("/api/v1/nodes")
        self._sync_models(nodes, settings)
        for service in self.api.list(f"{OME}/inferenceservices"):
            meta = service["metadata"]
            behaviour = settings.of(meta["namespace"], meta["name"])
            if not behaviour.is_ignored:
                self._sync_service(service, behaviour)

    def _sync_service(self, service: Any, behaviour: Behaviour) -> None:
        path, finalizers = _path(service), service["metadata"].get("finalizers", [])
        if "deletionTimestamp" in service["metadata"]:
            if FINALIZER in finalizers and not behaviour.holds_finalizer:
                self.api.patch(path, {"metadata": {"finalizers": [one for one in finalizers if one != FINALIZER]}})
            return
        if FINALIZER not in finalizers:
            self.api.patch(path, {"metadata": {"finalizers": [*finalizers, FINALIZER]}})
        if "engine" not in service["spec"]:
            return  # OME makes no pods for it, and says nothing
        try:
            status = self._serve(service, behaviour)
        except InvalidError as error:
            status = ome_status.invalid(service, error)
        self._tell(service, status)

    def _serve(self, service: Any, behaviour: Behaviour) -> dict[str, Any]:
        parts = Parts(service, self._runtime(service), self._model(service))
        made = self._apply_deployment(ome_render.deployment(parts))
        space = f"/api/v1/namespaces/{parts.namespace}"
        for one in ome_render.services(parts):
            if self.api.find(f"{space}/services/{one['metadata']['name']}") is None:
                self.api.create(f"{space}/services", one)
        pods = self.api.list(f"{space}/pods", labelSelector=f"ome.io/inferenceservice={parts.name}")
        return ome_status.of(service, made, pods, behaviour)

    def _apply_deployment(self, wanted: Any) -> Any:
        digest = sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
        wanted["metadata"]["annotations"] = {RENDERED: digest}
        folder = f"/apis/apps/v1/namespaces/{wanted['metadata']['namespace']}/deployments"
        path = f"{folder}/{wanted['metadata']['name']}"
        there = self.api.find(path)
        if there is None:
            return self.api.create(folder, wanted)
        if there["metadata"].get("annotations", {}).get(RENDERED) == digest:
            return there
        return self.api.patch(path, wanted)

    def _runtime(self, service: Any) -> Any:
        """Named, as this project does; OME's own choice of one is not played."""
        reference = service["spec"].get("runtime", {"name": ""})
        found = self._named(service, reference, "ServingRuntime")
        if found is None:
            raise InvalidError("RuntimeNotRecognized", f"serving runtime {reference['name']} not found")
        if found["spec"].get("disabled"):
            raise InvalidError("RuntimeDisabled", f"Specified runtime {reference['name']} is disabled")
        return found

    def _model(self, service: Any) -> Any:
        reference = service["spec"]["model"]
        found = self._named(service, reference, "BaseModel")
        if found is None:
            words = f"No BaseModel or ClusterBaseModel with the name: {reference['name']}"
            raise InvalidError("BaseModelNotFound", words)
        return found

    def _named(self, service: Any, reference: Any, kind: str) -> Any:
        space = f"/namespaces/{service['metadata']['namespace']}" if reference.get("kind") == kind else ""
        plural = f"{kind.lower()}s" if space else f"cluster{kind.lower()}s"
        return self.api.find(f"{OME}{space}/{plural}/{reference['name']}") if reference["name"] else None

    def _sync_models(self, nodes: list[Any], settings: Settings) -> None:
        models = [*self.api.list(f"{OME}/clusterbasemodels"), *self.api.list(f"{OME}/basemodels")]
        for model in models:
            self._sync_model(model, nodes, settings)
        self._forget({model_label(model) for model in models}, nodes)

    def _sync_model(self, model: Any, nodes: list[Any], settings: Settings) -> None:
        meta = model["metadata"]
        behaviour = settings.of(meta.get("namespace", ""), meta["name"])
        age = time.monotonic() - self.first_seen.setdefault(meta["uid"], time.monotonic())
        names = [node["metadata"]["name"] for node in nodes]
        if age < behaviour.download_s or not names:
            self._tell(model, {"state": "In_Transit", "lifecycle": "In_Transit"}, kind=kind_of(model))
            return
        word = "Failed" if behaviour.download_fails else "Ready"
        for node in nodes:
            if node["metadata"].get("labels", {}).get(model_label(model)) != word:
                self._label(node, model_label(model), word)
        lists = {"nodesReady": [], "nodesFailed": [], f"nodes{word}": names}
        self._tell(model, {"state": word, "lifecycle": word, **lists}, kind=kind_of(model))

    def _forget(self, known: set[str], nodes: list[Any]) -> None:
        for node in nodes:
            for label in node["metadata"].get("labels", {}):
                if label.startswith("models.ome.io/") and label not in known:
                    self._label(node, label, None)

    def _label(self, node: Any, label: str, value: str | None) -> None:
        self.api.patch(f"/api/v1/nodes/{node['metadata']['name']}", {"metadata": {"labels": {label: value}}})

    def _tell(self, thing: Any, status: Any, kind: str = "inferenceservices") -> None:
        if all(thing.get("status", {}).get(name) == item for name, item in status.items()):
            return
        self.api.patch(f"{_path(thing, kind)}/status", {"status": status})


def kind_of(model: Any) -> str:
    return "basemodels" if "namespace" in model["metadata"] else "clusterbasemodels"


def _path(thing: Any, kind: str = "inferenceservices") -> str:
    meta = thing["metadata"]
    space = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    return f"{OME}{space}/{kind}/{meta['name']}"
