"""Manifests against a definition's schema, and against what a cluster has."""

import json
from typing import Any

import pytest

from parts.ome_crds import KINDS, schema
from pipeline.backends.kube import manifests
from support.clustered import ARCH, LABEL, configured, every, planned

OURS = "safetensors 1.0.0 transformers Qwen3ForCausalLM"


@pytest.mark.parametrize("spot", range(4), ids=["model", "runtime", "job", "service"])
def test_ome_knows_every_field_that_is_rendered(spot: int) -> None:
    rich = configured(
        cpu="1", memory="1Gi", node_selector={"a": "b"}, tolerations=[{"key": "x", "operator": "Exists"}],
        affinity={"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        image_pull_secrets=["s"], storage={"key": "hub"},
    )  # fmt: skip
    made = every(planned(rich, secret_env={"K": "V"}, env={"A": "1"}))[spot]
    if made["kind"] in KINDS:
        assert manifests.unknown_fields(schema(made["kind"]), made) == ()


@pytest.mark.parametrize(
    ("path", "item", "unknown"),
    [
        ("spec.engine.replicas", 1, ("spec.engine.replicas",)),
        ("spec.engine.runner.arg", [], ("spec.engine.runner.arg",)),
        ("spec.engine.nodeSelector", {"any": "label"}, ()),
        ("spec.engine.runner.resources", {"limits": {"any/thing": "1"}}, ()),
        ("spec.engine.runner.env", [{"name": "A"}, {"name": "B", "text": "1"}], ("spec.engine.runner.env[1].text",)),
        ("spec.engine.runner.livenessProbe", {"httpGet": {"port": "http"}}, ()),
        ("spec.more", {"a": {"b": 1}}, ("spec.more",)),
        ("more", 1, ("more",)),
        ("status", {"any": {"thing": 1}}, ()),
        ("metadata", {"name": "x", "labels": {"a": "b"}}, ()),
    ],
    ids=["field", "typo", "any-key", "quantities", "in-a-list", "int-or-string", "object", "root", "kept", "metadata"],
)
def test_a_field_that_the_server_would_drop_is_named(path: str, item: object, unknown: tuple[str, ...]) -> None:
    made = manifests.inference_service(planned(), LABEL, owner=None)
    node: Any = made
    *parents, last = path.split(".")
    for part in parents:
        node = node[part]
    node[last] = item
    assert manifests.unknown_fields(schema("InferenceService"), made) == unknown


@pytest.mark.parametrize(
    ("rule", "unknown"),
    [
        ({"type": "object"}, ("spec.a",)),
        ({"type": "object", "x-kubernetes-preserve-unknown-fields": True}, ()),
        ({"type": "object", "additionalProperties": True}, ()),
        ({"type": "object", "additionalProperties": {"type": "object"}}, ("spec.a.b",)),
        ({"x-kubernetes-preserve-unknown-fields": True, "properties": {"a": {"type": "object"}}}, ("spec.a.b",)),
        ({"type": "object", "x-kubernetes-embedded-resource": True}, ("spec.a",)),
    ],
    ids=["closed", "preserved", "open", "values", "preserved-beside-known", "embedded"],
)
def test_every_way_of_a_schema_to_keep_a_field_is_known(rule: dict[str, Any], unknown: tuple[str, ...]) -> None:
    made = {"kind": "X", "spec": {"a": {"b": 1}}}
    assert manifests.unknown_fields({"type": "object", "properties": {"spec": rule}}, made) == unknown


# What is there already


def changed(made: dict[str, Any], path: str, item: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(made))
    node = found
    *parents, last = path.split(".")
    for part in parents:
        node = node[part]
    node[last] = item
    return found


@pytest.mark.parametrize(
    ("path", "item", "told"),
    [
        ("metadata.labels", {}, ()),
        ("spec.vendor", "other", ()),
        ("spec.storage.nodeSelector", {"a": "b"}, ()),
        ("spec.disabled", True, ("spec.disabled is True",)),
        ("spec.storage.path", "/raid", ("spec.storage.path is '/raid', expected '/mnt/data/models/Qwen/Qwen3-8B'",)),
        (
            "spec.storage.storageUri",
            "hf://o",
            ("spec.storage.storageUri is 'hf://o', expected 'hf://Qwen/Qwen3-8B@abc'",),
        ),
        ("spec.modelFormat", {"name": "gguf"}, ("spec.modelFormat.name is 'gguf', expected 'safetensors'",)),
    ],
)
def test_a_model_that_is_there_must_be_the_same_files(path: str, item: object, told: tuple[str, ...]) -> None:
    wanted = manifests.base_model(planned())
    assert manifests.differences(wanted, wanted) == ()
    assert manifests.differences(wanted, changed(wanted, path, item)) == told


@pytest.mark.parametrize(
    ("path", "item", "told"),
    [
        ("spec.engineConfig.runner.image", "other:2", ()),
        ("spec.modelSizeRange", {"min": "1B", "max": "9B"}, ()),
        ("spec.engineConfig", {}, ("spec.engineConfig is missing: OME would start no engine",)),
        ("spec.disabled", True, ("spec.disabled is True",)),
        (
            "spec.supportedModelFormats",
            [{"modelFormat": {"name": "safetensors"}, "modelArchitecture": "LlamaForCausalLM"}],
            (f"spec.supportedModelFormats has no entry for {OURS}; it has safetensors LlamaForCausalLM",),
        ),
    ],
    ids=["image", "size", "no-engine", "disabled", "another-model"],
)
def test_a_runtime_that_is_there_must_serve_the_model(path: str, item: object, told: tuple[str, ...]) -> None:
    wanted = manifests.serving_runtime(planned())
    assert manifests.differences(wanted, wanted) == ()
    assert manifests.differences(wanted, changed(wanted, path, item)) == told


@pytest.mark.parametrize(
    ("arch", "sizes", "is_served"),
    [
        ({}, {"min": "1B", "max": "9B"}, True),
        ({}, {"min": "1B", "max": "8B"}, False),
        ({"parameters_b": 0.6}, {"min": "0.5B", "max": "1B"}, True),
        ({"parameters_b": 0.6}, {"min": "600M", "max": "600M"}, True),
    ],
)
def test_ome_serves_models_of_the_runtimes_size_only(arch: dict[str, Any], sizes: Any, is_served: bool) -> None:
    made = planned(configured(model={"arch": {**ARCH, **arch}}))
    runtime = changed(manifests.serving_runtime(made), "spec.modelSizeRange", sizes)
    assert (manifests.unserved(manifests.base_model(made), runtime) == ()) == is_served


def test_a_runtime_for_a_model_that_is_there_has_the_models_own_words() -> None:
    made = planned()
    found = changed(manifests.base_model(made), "spec.modelFramework", {"name": "transformers", "version": "4.51.0"})
    assert manifests.unserved(found, manifests.serving_runtime(made)) != ()
    assert manifests.unserved(found, manifests.serving_runtime(made, found)) == ()


def test_anything_else_must_say_all_that_is_wanted() -> None:
    wanted = manifests.inference_service(planned(), LABEL, owner=None)
    assert manifests.differences(wanted, changed(wanted, "spec.engine.added", 1)) == ()
    found = changed(wanted, "spec.engine.runner.args", ["--other"])
    assert len(manifests.differences(wanted, found)) == 1
    assert manifests.differences(wanted, found)[0].startswith("spec.engine.runner.args is ['--other'], expected [")
