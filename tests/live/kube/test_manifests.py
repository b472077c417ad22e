"""What is rendered for OME, sent to a real API server: nothing is refused, nothing is dropped."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir

from parts import lacking
from parts.kube_fixtures import KUBE_MARKS, Kube
from parts.ome_crds import KINDS, schema
from pipeline.backends.kube import client, manifests, rendering
from pipeline.config import planning
from pipeline.config.command_line import composed, to_config
from pipeline.core.places import CONF
from pipeline.core.plan import Assets, Plan
from pipeline.core.schema_backends import Cluster
from pipeline.models import ome_model
from pipeline.report import best
from support.cli import command
from support.places import ROOT, TESTS
from support.records import make_record

pytestmark = KUBE_MARKS
LABEL = "s-0-1a2b3c4d"
OWNER = {"apiVersion": "batch/v1", "kind": "Job", "name": f"st-{LABEL}", "uid": "1-2"}
ZONES = "{nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a, b]}]}]}"
RICH = (
    "backend.kubernetes.cpu='16'",
    "backend.kubernetes.memory=200Gi",
    "backend.kubernetes.storage.key=hub-token",
    "backend.kubernetes.image_pull_secrets=[mine]",
    "+backend.kubernetes.node_selector.pool=h100",
    "backend.kubernetes.tolerations=[{key: gpu, operator: Exists, effect: NoSchedule, tolerationSeconds: 5}]",
    f"backend.kubernetes.affinity={{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {ZONES}}}}}",
)
CLAIM = ("backend.kubernetes.storage.uri=pvc://ml:models/qwen", "backend.kubernetes.cluster.namespace=ml")


def planned(*overrides: str) -> Plan:
    with initialize_config_dir(str(ROOT / "conf")):
        config = to_config(composed(["backend=ome", *overrides]))
    files = Assets(model_path=ome_model.inside(config), tokenizer_dir=Path("tok"))
    return planning.make(config, files, sweep_id="s", number=0, run_dir=Path("out"))


def every(made: Plan) -> Iterator[dict[str, Any]]:
    yield manifests.base_model(made)
    yield manifests.serving_runtime(made)
    yield manifests.owner_job(made, LABEL, '{"pid": 1, "host": "a"}')
    yield manifests.inference_service(made, LABEL, owner=OWNER)
    made = replace(made, secret_env={"KEY": "OURS"})
    kept = manifests.secret(made, LABEL, {"KEY": "sk-1"}, OWNER)
    assert kept is not None
    yield {field: item for field, item in kept.items() if field != "stringData"}  # which is write-only


def dropped(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """What was sent and did not come back as it was."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for field, item in wanted.items():
            yield from dropped(item, found.get(field), f"{path}.{field}")
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for spot, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from dropped(one, other, f"{path}[{spot}]")
    elif wanted != found and not (wanted in ([], {}) and found is None):
        yield path


@pytest.fixture
def api(kube: Kube) -> client.Api:
    return client.connect(Cluster(kubeconfig=kube.cluster.kubeconfig, namespace=kube.namespace))


@pytest.mark.parametrize(
    "overrides",
    [
        ("runtime=sglang", "model=qwen3_8b", "hardware=h100", "tp_size=2", "page_size=64", "attention_backend=fa3"),
        ("runtime=sglang", "model=glm46_fp8", "hardware=h20", "tp_size=8", *RICH),
        ("runtime=sglang", "model=deepseek_v3", "hardware=h200", "tp_size=8", "kv_cache_dtype=fp8_e4m3"),
        ("runtime=vllm", "model=llama31_8b", "hardware=h100", "gpu_memory_utilization=0.85"),
        ("runtime=vllm", "model=mixtral_8x7b", "hardware=h100", "tensor_parallel_size=2", *RICH),
        ("runtime=vllm", "model=llama33_70b", "hardware=mi300x", "backend.kubernetes.gpu_resource=amd.com/gpu"),
        ("runtime=vllm", "model=qwen3_8b", "hardware=h100", *CLAIM),
        (
            "runtime=llamacpp",
            "backend.kubernetes.image=engine:1",
            "backend.kubernetes.storage.uri=local:///models/g.gguf",
        ),
    ],
    ids=["sglang", "fp8", "mla", "vllm", "moe", "amd", "claim", "gguf"],
)
def test_the_server_takes_every_object_as_it_is(api: client.Api, kube: Kube, overrides: tuple[str, ...]) -> None:
    for manifest in every(planned(*overrides)):
        sent = {**manifest, "metadata": {**manifest["metadata"], "namespace": kube.namespace}}
        answered = api.create(sent, dry_run=True)
        del sent["metadata"]["namespace"]  # an object of the whole cluster has none
        assert list(dropped(sent, answered)) == []


HOSTILE = ('a "b": c\n- d', "!!int 1", "1e3", "y", "😀 \u2028\x85", "$(HOME) $$(HOME)", "{% if %}}}", "~")


def test_hostile_values_arrive_as_they_are(api: client.Api) -> None:
    made = replace(planned("runtime=vllm", "model=qwen3_8b"), argv=("engine", *HOSTILE), env={"A": HOSTILE[0]})
    sent = manifests.inference_service(made, LABEL, owner=None)
    runner = api.create(sent, dry_run=True)["spec"]["engine"]["runner"]
    assert runner["args"] == [rendering.unexpanded(word) for word in HOSTILE]
    assert runner["env"][0]["value"] == HOSTILE[0]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("InferenceService", "spec.engine.replicas"),
        ("InferenceService", "spec.engine.runner.argz"),
        ("InferenceService", "spec.engine.nodeSelector.any"),
        ("InferenceService", "spec.more"),
        ("InferenceService", "more"),
        ("ClusterBaseModel", "spec.modelSize"),
        ("ClusterBaseModel", "spec.modelConfiguration.any"),
        ("ClusterBaseModel", "spec.storage.parameters.region"),
        ("ClusterServingRuntime", "spec.engineConfig.runner.resources.limits.gpu"),
        ("ClusterServingRuntime", "spec.engineConfig.size"),
    ],
)
def test_what_the_server_drops_is_what_we_say_it_would(api: client.Api, kind: str, path: str) -> None:
    (manifest,) = (one for one in every(planned("runtime=sglang", "model=qwen3_8b")) if one["kind"] == kind)
    node: Any = manifest
    *parents, last = path.split(".")
    for part in parents:
        node = node.setdefault(part, {})
    node[last] = "1"
    lost = [found.removeprefix(".") for found in dropped(manifest, api.create(manifest, dry_run=True))]
    assert lost == list(manifests.unknown_fields(schema(kind), manifest))
    assert lost in ([], [path])


def test_the_definitions_of_the_cluster_are_those_of_the_tests(api: client.Api) -> None:
    for kind in KINDS:
        found = api.get("CustomResourceDefinition", f"{kind.lower()}s.ome.io")
        assert found is not None
        (version,) = found["spec"]["versions"]
        (manifest,) = (one for one in every(planned("runtime=sglang", "model=qwen3_8b")) if one["kind"] == kind)
        assert manifests.unknown_fields(version["schema"]["openAPIV3Schema"], manifest) == ()


def test_a_runtime_of_the_installed_ome_may_stay_as_it_is(api: client.Api, kube: Kube) -> None:
    """An object that was made and read back is no different from the one that is wanted."""
    made = planned("runtime=sglang", "model=qwen3_8b")
    for wanted in (manifests.base_model(made), manifests.serving_runtime(made)):
        api.create(wanted)
        found = api.get(wanted["kind"], wanted["metadata"]["name"])
        assert found is not None
        assert manifests.differences(wanted, found) == ()
    assert kube.namespace


def test_ome_makes_the_engine_of_the_trial_from_them(api: client.Api, kube: Kube) -> None:
    """Every word of the plan is a word of the engine's process, with a runtime and a model of our own making."""
    argv = ("python3", str(TESTS / "fakes" / "stub_engine.py"), "--port", "{port}", "--parallel", "4")
    made = replace(planned("runtime=sglang", "model=qwen3_8b"), argv=argv, env={"STUB_HOST": "0.0.0.0"}, gpus=1)
    kube.add_node("one", gpus=1)
    for manifest in (manifests.base_model(made), manifests.serving_runtime(made)):
        api.create(manifest)
    api.create(manifests.inference_service(made, LABEL, owner=None))
    kube.wait_ready(manifests.name(LABEL))
    (pod,) = kube.pods(manifests.name(LABEL))
    (container,) = pod["spec"]["containers"]
    assert [*container["command"], *container["args"]] == [word.replace("{port}", "8080") for word in argv]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert pod["metadata"]["labels"][manifests.LABEL] == LABEL


def test_a_dry_run_is_what_kubectl_takes(kube: Kube, tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        lacking("kubectl is not installed")
    asked = ("runtime=sglang", "hardware=h100", "backend=ome", "model=qwen3_8b", "page_size=null,64", "tp_size=1,2,999")
    told = subprocess.run([*command(sweep=True), *asked, "dry_run=true"], capture_output=True, check=True, cwd=ROOT)
    documents = list(yaml.safe_load_all(told.stdout))
    shared, own = ["ClusterBaseModel", "ClusterServingRuntime"], ["Job", "InferenceService"]
    assert [one["kind"] for one in documents] == shared + 5 * own
    assert applied(kube, told.stdout, tmp_path) == len(documents)


def test_the_winner_is_what_kubectl_takes(kube: Kube, tmp_path: Path) -> None:
    overrides = ("runtime=sglang", "hardware=h100", "model=qwen3_8b", "page_size=64")
    with initialize_config_dir(str(CONF)):
        winner = make_record(config=to_config(composed(overrides)), overrides=overrides)
    best.write(tmp_path / "best", winner, [winner], None)
    files = sorted((tmp_path / "best" / "ome").iterdir())
    assert applied(kube, b"".join(path.read_bytes() for path in files), tmp_path) == len(files) == 3


def applied(kube: Kube, documents: bytes, home: Path) -> int:
    """How many objects kubectl would have made."""
    line = ["kubectl", "--namespace", kube.namespace, "apply", "--dry-run=server", "--validate=false", "-f", "-"]
    env = {**os.environ, "KUBECONFIG": str(kube.cluster.kubeconfig), "HOME": str(home)}
    done = subprocess.run(line, input=documents, capture_output=True, env=env, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.count(b"created (server dry run)")
