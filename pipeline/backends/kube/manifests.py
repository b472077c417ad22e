"""A trial's objects in a Kubernetes cluster, as plain dicts from the templates in templates/ome. Pure.

Each manifest is read back as YAML and compared with the plan: no value can become anything but itself.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pipeline.backends.kube import rendering
from pipeline.backends.kube.compared import differences, unknown_fields, unserved
from pipeline.core.errors import ConfigError

if TYPE_CHECKING:  # for the keeper, see backends/__init__.py
    from pipeline.core.plan import OmeModel, Plan
    from pipeline.core.schema_backends import Kubernetes

__all__ = [
    "LABEL",
    "MANAGED_BY",
    "OWNER",
    "BenchCall",
    "base_model",
    "bench_job",
    "differences",
    "inference_service",
    "name",
    "owner_job",
    "secret",
    "serving_runtime",
    "unknown_fields",
    "unserved",
]
Manifest = dict[str, Any]
LABEL = "servetune.io/lease"
MANAGED_BY = ("app.kubernetes.io/managed-by", "servetune")
OWNER = "servetune.io/owner"  # the owner Job's annotation: whose trial it is
NAME_LENGTH = 52  # OME's objects are called <name>-engine and longer; the limit of a label's value is 63
RUNNER = "ome-container"  # the name that OME demands
STARTUP_PERIOD_S = 5
STARTUP_SLACK = 6  # more probes than we wait for, so that a slow start is ended and told by us, not by the kubelet


@dataclass(frozen=True, kw_only=True)
class BenchCall:
    """A call of genai-bench in a cluster."""

    number: int  # of the level
    node: str
    image: str
    script: str  # of sh, which runs argv
    argv: tuple[str, ...]
    env: Mapping[str, str]
    requests: Mapping[str, str]  # cpu, memory
    deadline_s: float
    needs_model: bool  # for its tokenizer


def name(label: str) -> str:
    """The name of the trial's objects in its namespace, a DNS label."""
    clean = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
    whole = f"st-{clean}"
    if clean == label and len(whole) <= NAME_LENGTH:
        return whole
    digest = hashlib.sha256(label.encode()).hexdigest()[:8]
    return f"st-{digest}-{clean[-(NAME_LENGTH - 12) :]}".replace("--", "-").rstrip("-")


def owner_job(plan: "Plan", label: str, owner_json: str) -> Manifest:
    """The dead-man's switch, which owns the trial's other objects.

    Raises:
        ConfigError: a value that a manifest cannot hold.
    """
    values = {"annotations": {OWNER: owner_json}, "lifetime_s": _settings(plan).lifetime_s}
    made = rendering.fill("owner.yaml.j2", **_common(plan, label), **values)
    rendering.must_hold(
        made,
        ("metadata.name", name(label)),
        ("metadata.labels", _labels(label)),
        ("metadata.annotations", values["annotations"]),
    )
    return made


def inference_service(plan: "Plan", label: str, *, owner: Mapping[str, str] | None) -> Manifest:
    """The trial's engine. `owner` (apiVersion, kind, name, uid) is the Job's.

    Raises:
        ConfigError: a value that a manifest, or OME, cannot hold.
    """
    box, model = _settings(plan), _model(plan)
    command, *args = (rendering.unexpanded(word.replace("{port}", str(box.port))) for word in plan.argv)
    values = {
        "owner": dict(owner) if owner else None,
        "model": model.name,
        "runtime": model.runtime,
        "grace_s": math.ceil(plan.stop_grace_s),
        "node_selector": dict(box.node_selector),
        "tolerations": [dict(one) for one in box.tolerations],
        "affinity": box.affinity,
        "pull_secrets": [{"name": secret} for secret in box.image_pull_secrets],
        "shm": f"{math.ceil(box.shm_size_gib * 1024)}Mi",
        "image": box.image,
        "command": [command],
        "args": args,
        "env": _env(plan, label),
        "port": box.port,
        "resources": _resources(plan),
        "health": plan.health.path,
        "startup_period_s": STARTUP_PERIOD_S,
        "startup_failures": math.ceil(plan.health.timeout_s / STARTUP_PERIOD_S) + STARTUP_SLACK,
    }
    made = rendering.fill("inferenceservice.yaml.j2", **_common(plan, label), **values)
    rendering.must_hold(made, *_promised(label, values))
    rendering.refuse_braces(made["spec"]["engine"]["runner"])
    return made


def bench_job(plan: "Plan", label: str, call: BenchCall) -> Manifest:
    """genai-bench beside the engine.

    Raises:
        ConfigError: a value that a manifest cannot hold.
    """
    box = _settings(plan)
    volume, mount = _model_volume(plan) if call.needs_model else (None, None)
    scratch = {"name": "scratch", "emptyDir": {}}
    values = {
        "deadline_s": math.ceil(call.deadline_s),
        "node": call.node,
        "tolerations": [dict(one) for one in box.tolerations],
        "pull_secrets": [{"name": secret} for secret in box.image_pull_secrets],
        "image": call.image,
        "command": ["sh", "-c", call.script, "sh"],
        "args": [rendering.unexpanded(word) for word in call.argv],
        "env": [{"name": name, "value": rendering.unexpanded(text)} for name, text in call.env.items()],
        "resources": {"requests": dict(call.requests)},
        "mounts": [{"name": "scratch", "mountPath": "/tmp"}, *filter(None, [mount])],  # noqa: S108 - in the container
        "volumes": [scratch, *filter(None, [volume])],
    }
    common = {**_common(plan, label), "name": f"{name(label)}-b{call.number}"}
    made = rendering.fill("bench.yaml.j2", **common, **values)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    rendering.must_hold({"kind": "Job", **container}, *((word, values[word]) for word in ("image", "args", "env")))
    return made


def _model_volume(plan: "Plan") -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's folder as the engine has it, for its tokenizer."""
    from pipeline.models.ome_model import PVC  # not for the keeper, which starts with every trial

    mount: dict[str, Any] = {"name": "model", "mountPath": str(plan.model_path), "readOnly": True}
    claim = PVC.match(_model(plan).uri)
    if claim:
        source = {"persistentVolumeClaim": {"claimName": claim["claim"], "readOnly": True}}
        return {"name": "model", **source}, {**mount, "subPath": claim["path"]}
    return {"name": "model", "hostPath": {"path": str(plan.model_path), "type": "Directory"}}, mount


def base_model(plan: "Plan") -> Manifest:
    """The ClusterBaseModel.

    Raises:
        ConfigError: a value that a manifest cannot hold.
    """
    model = _model(plan)
    told = {
        "vendor": model.vendor,
        "version": model.version,
        "modelArchitecture": model.architecture,
        "modelParameterSize": model.parameters,
        "quantization": model.quantization,
        "maxTokens": model.max_tokens,
    }
    metadata = {field: text for field, text in told.items() if text is not None}
    made = rendering.fill("clusterbasemodel.yaml.j2", model=asdict(model), metadata=metadata, labels=dict([MANAGED_BY]))
    rendering.must_hold(
        made,
        ("metadata.name", model.name),
        ("spec.storage.storageUri", model.uri),
        *((f"spec.{field}", text) for field, text in metadata.items()),
    )
    return made


def serving_runtime(plan: "Plan", model: Mapping[str, Any] | None = None) -> Manifest:
    """The ClusterServingRuntime, for the plan's model or for `model`, a ClusterBaseModel that is there.

    OME serves a model only by a runtime with the same words for it, and a word that only one of them has counts as
    another one. Source: OME, pkg/runtimeselector/matcher.go.

    Raises:
        ConfigError: a value that a manifest cannot hold.
    """
    told, box = _model(plan), _settings(plan)
    spec = (model or base_model(plan))["spec"]
    names = ("modelFormat", "modelFramework", "modelArchitecture", "quantization")
    served = {field: spec[field] for field in names if spec.get(field) is not None}
    values = {"model": asdict(told), "format": {**served, "autoSelect": False}, "image": box.image, "port": box.port}
    made = rendering.fill("clusterservingruntime.yaml.j2", **values, labels=dict([MANAGED_BY]))
    runner = "spec.engineConfig.runner"
    rendering.must_hold(
        made,
        ("metadata.name", told.runtime),
        ("spec.supportedModelFormats", [values["format"]]),
        (f"{runner}.name", RUNNER),
        (f"{runner}.image", box.image),
    )
    return made


def secret(
    plan: "Plan", label: str, values: Mapping[str, str], owner: Mapping[str, str] | None = None
) -> Manifest | None:
    """The Secret that the engine's variables are read from; None where there is nothing to keep.

    `values` are by the engine's name for the variable. No other manifest has them.
    """
    kept = {variable: values[variable] for variable in plan.secret_env if values.get(variable)}
    if not kept:
        return None
    common = _common(plan, label)
    metadata: dict[str, Any] = {field: item for field, item in common.items() if item}
    if owner:
        metadata["ownerReferences"] = [dict(owner)]
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "stringData": kept}


def _common(plan: "Plan", label: str) -> dict[str, Any]:
    return {"name": name(label), "namespace": _settings(plan).cluster.namespace, "labels": _labels(label)}


def _labels(label: str) -> dict[str, str]:
    return {LABEL: label, **dict([MANAGED_BY])}


def _settings(plan: "Plan") -> "Kubernetes":
    if plan.kubernetes is None:
        raise ConfigError("backend=ome needs backend.kubernetes: set it as in conf/backend/ome.yaml.")
    return plan.kubernetes


def _model(plan: "Plan") -> "OmeModel":
    if plan.ome_model is None:
        raise ConfigError("backend=ome needs backend.kubernetes: set it as in conf/backend/ome.yaml.")
    return plan.ome_model


def _env(plan: "Plan", label: str) -> list[dict[str, Any]]:
    """A secret that is not set here is left out by the kubelet: it is optional."""
    plain = [{"name": variable, "value": rendering.unexpanded(text)} for variable, text in plan.env.items()]
    reference = {"name": name(label), "optional": True}
    return [
        *plain,
        *({"name": one, "valueFrom": {"secretKeyRef": {**reference, "key": one}}} for one in plan.secret_env),
    ]


def _resources(plan: "Plan") -> dict[str, dict[str, Any]]:
    box = _settings(plan)
    gpus = {box.gpu_resource: plan.gpus} if plan.gpus else {}
    asked = {word: amount for word, amount in (("cpu", box.cpu), ("memory", box.memory)) if amount}
    parts: dict[str, dict[str, Any]] = {"limits": gpus, "requests": {**asked, **gpus}}
    return {word: amounts for word, amounts in parts.items() if amounts}


def _promised(label: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What must stand in an InferenceService, by its path."""
    engine, runner = "spec.engine", "spec.engine.runner"
    yield from (("metadata.name", name(label)), ("metadata.labels", _labels(label)))
    yield from (("spec.model.name", values["model"]), ("spec.runtime.name", values["runtime"]))
    yield from ((f"{runner}.{field}", values[field]) for field in ("image", "command", "args", "env", "resources"))
    yield from ((f"{runner}.{probe}.httpGet.path", values["health"]) for probe in ("startupProbe", "readinessProbe"))
    given = {"nodeSelector": "node_selector", "tolerations": "tolerations", "affinity": "affinity"}
    yield from ((f"{engine}.{field}", values[word]) for field, word in given.items() if values[word])
