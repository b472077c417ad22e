"""What OME is told of a model, and by which runtime it is served."""

import re
from dataclasses import replace
from typing import Any

import pytest

from pipeline.backends.kube import manifests
from pipeline.core.errors import ConfigError
from pipeline.models import ome_model
from support.clustered import ARCH, LABEL, configured, planned


@pytest.mark.parametrize(
    ("changes", "kubernetes", "uri", "path"),
    [
        ({}, {}, "hf://Qwen/Qwen3-8B@abc", "/mnt/data/models/Qwen/Qwen3-8B"),
        ({"revision": None}, {}, "hf://Qwen/Qwen3-8B", "/mnt/data/models/Qwen/Qwen3-8B"),
        ({}, {"storage": {"path": "/raid/models/q"}}, "hf://Qwen/Qwen3-8B@abc", "/raid/models/q"),
        ({"path": "/raid/models/mine"}, {}, "local:///raid/models/mine", "/raid/models/mine"),
        ({}, {"storage": {"uri": "local:///raid/q"}}, "local:///raid/q", "/raid/q"),
        ({}, {"storage": {"uri": "oci://n/a/b/b/o/q"}}, "oci://n/a/b/b/o/q", "/mnt/data/models/Qwen/Qwen3-8B"),
        (
            {},
            {"storage": {"uri": "pvc://ns:claim/q/w"}, "cluster": {"namespace": "ns"}},
            "pvc://ns:claim/q/w",
            "/opt/ml/model",
        ),
    ],
    ids=["hub", "no-revision", "own-path", "host-path", "local", "oci", "claim"],
)
def test_a_model_comes_from_where_it_is(
    changes: dict[str, Any], kubernetes: dict[str, Any], uri: str, path: str
) -> None:
    config = configured(model=changes, **kubernetes)
    storage = manifests.base_model(planned(config))["spec"]["storage"]
    assert storage["storageUri"] == uri
    assert str(ome_model.inside(config)) == path
    assert storage.get("path") == (None if uri.startswith("pvc") else path)


@pytest.mark.parametrize(
    ("kubernetes", "words"),
    [
        ({"storage": {"uri": "s3://b/x"}}, "storage.uri=s3://b/x: OME accepts such a URI but never downloads"),
        ({"storage": {"uri": "az://b/x"}}, "never downloads"),
        ({"storage": {"uri": "gs://b/x"}}, "never downloads"),
        ({"storage": {"uri": "github://b/x"}}, "never downloads"),
        ({"storage": {"uri": "https://b/x"}}, "OME does not support this source"),
        ({"storage": {"uri": "/models/x"}}, "OME does not know its scheme. Expected hf://, oci://, local://"),
        ({"storage": {"uri": "hf://"}}, "OME does not know its scheme"),
        ({"storage": {"uri": "local://models"}}, "expected an absolute path"),
        ({"storage": {"uri": "pvc://claim/x"}}, "expected pvc://namespace:claim/path"),
        ({"storage": {"uri": "pvc://ns:claim"}}, "expected pvc://namespace:claim/path"),
        ({"storage": {"uri": "pvc://ns:claim/x"}}, "set backend.kubernetes.cluster.namespace=ns. A claim"),
        ({"storage": {"uri": "pvc://ns:claim/x"}, "cluster": {"namespace": "other"}}, "the trial's namespace is other"),
    ],
)
def test_a_place_that_ome_cannot_take_from_is_refused_with_the_reason(kubernetes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        planned(configured(**kubernetes))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"repo": None}, "for model=qwen3_8b there is no source that a cluster can reach"),
        ({"arch": None}, "OME reads the architecture from the claim"),
    ],
)
def test_a_model_that_cannot_be_named_is_refused(model: dict[str, Any], words: str) -> None:
    claim = {"storage": {"uri": "pvc://ns:c/x"}, "cluster": {"namespace": "ns"}} if "arch" in model else {}
    with pytest.raises(ConfigError, match=words):
        planned(configured(model=model, **claim))


@pytest.mark.parametrize(
    ("arch", "runtime", "said"),
    [
        ({}, "servetune-llamacpp-small-qwen3forcausallm", {"modelParameterSize": "8.2B"}),
        ({"parameters_b": 0.596}, "servetune-llamacpp-small-qwen3forcausallm", {"modelParameterSize": "596M"}),
        ({"parameters_b": 70.0}, "servetune-llamacpp-large-qwen3forcausallm", {"modelParameterSize": "70B"}),
        ({"experts": 8}, "servetune-llamacpp-moe-qwen3forcausallm", {"modelParameterSize": "8.2B"}),
        ({"quantization": "fp8"}, "servetune-llamacpp-small-qwen3forcausallm-fp8", {"quantization": "fp8"}),
        ({"quantization": "awq"}, "servetune-llamacpp-small-qwen3forcausallm-int4", {"quantization": "int4"}),
        (
            {"quantization": "compressed-tensors", "weights_gib": 8},
            "servetune-llamacpp-small-qwen3forcausallm-fp8",
            {"quantization": "fp8"},
        ),
        (
            {"quantization": "compressed-tensors", "weights_gib": 4},
            "servetune-llamacpp-small-qwen3forcausallm-int4",
            {"quantization": "int4"},
        ),
        ({"quantization": "mxfp4"}, "servetune-llamacpp-small-qwen3forcausallm-mxfp4", {"quantization": "mxfp4"}),
    ],
    ids=["8B", "small", "large", "experts", "fp8", "awq", "wide", "narrow", "other"],
)
def test_a_preset_serves_the_model_it_is_made_for(arch: dict[str, Any], runtime: str, said: dict[str, str]) -> None:
    made = planned(configured(model={"arch": {**ARCH, **arch}}))
    model, preset = manifests.base_model(made), manifests.serving_runtime(made)
    assert preset["metadata"]["name"] == runtime
    assert said.items() <= model["spec"].items()
    assert manifests.unserved(model, preset) == ()
    assert preset["spec"]["supportedModelFormats"][0]["autoSelect"] is False


def test_a_preset_leaves_the_trials_words_to_the_trial() -> None:
    runner = manifests.serving_runtime(planned())["spec"]["engineConfig"]["runner"]
    assert set(runner) == {"name", "image", "ports"}


def test_a_model_that_is_not_known_is_served_by_a_runtime_for_any() -> None:
    made = planned(configured(model={"arch": None}))
    model, preset = manifests.base_model(made), manifests.serving_runtime(made)
    assert model["metadata"]["annotations"] == {"ome.oracle.com/skip-config-parsing": "true"}
    assert preset["metadata"]["name"] == "servetune-llamacpp"
    assert "modelSizeRange" not in preset["spec"]
    assert manifests.unserved(model, preset) == ()


def test_gguf_files_are_called_so() -> None:
    config = configured()
    config = replace(config, runtime=replace(config.runtime, needs_gguf=True))
    assert manifests.base_model(planned(config))["spec"]["modelFormat"]["name"] == "gguf"


def test_names_of_ones_own_are_kept() -> None:
    made = planned(configured(base_model="mine", serving_runtime="ours"))
    service = manifests.inference_service(made, LABEL, owner=None)
    assert (service["spec"]["model"]["name"], service["spec"]["runtime"]["name"]) == ("mine", "ours")


@pytest.mark.parametrize(
    ("text", "name"), [("qwen3_8b", "qwen3-8b"), ("GLM 4.6", "glm-4-6"), ("4bit", "m-4bit"), ("a__b-", "a-b")]
)
def test_a_name_for_ome_begins_with_a_letter(text: str, name: str) -> None:
    assert ome_model.dns(text) == name
