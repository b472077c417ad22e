"""Whole trials of runtime=sglang backend=ome by the command line; engine and genai-bench are the stand-ins."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fakes.tiny_hf import write_tiny_hf
from parts import ingress
from parts.kube_api import OME
from parts.kube_fixtures import KUBE_MARKS, Kube
from parts.ome_objects import service, wait_until_up
from pipeline.backends.kube import manifests
from pipeline.core.errors import FailureKind
from pipeline.machine import process
from support import forked
from support.cli import Result, command, stub_overrides
from support.places import ROOT, TESTS
from support.rights import ome_role, roles

pytestmark = KUBE_MARKS
Command = Callable[..., Sequence[str]]
Run = Callable[..., Result]


@pytest.fixture
def argv(kube: Kube, tmp_path: Path) -> Command:
    """The command of a trial or a sweep in the test's namespace, on a node with two GPUs and an installed OME."""
    kube.add_node("one", gpus=2)
    kube.install_ome()
    wait_until_up(kube.cluster)

    def make(*overrides: str, sweep: bool = False, module: str = "pipeline") -> Sequence[str]:
        return [
            *command(sweep=sweep, module=module),
            *stub_overrides(tmp_path / "out", write_tiny_hf(tmp_path / "tiny")),
            "runtime=sglang",
            "model=local",
            "hardware=h100",
            "hardware.vendor=null",
            "backend=ome",
            f"backend.kubernetes.cluster.namespace={kube.namespace}",
            "backend.kubernetes.image=tests/engine:1",
            f"+runtime.env.PYTHONPATH={TESTS}/fakes/site",
            "runtime.stop_grace_s=2",
            *overrides,
        ]

    return make


@pytest.fixture
def run(argv: Command, tmp_path: Path) -> Run:
    """Run it to its end."""

    def go(*overrides: str, **how: Any) -> Result:
        done = forked.run(argv(*overrides, **how), timeout_s=200)
        return Result(code=done.returncode, out=done.stdout, err=done.stderr, folder=tmp_path / "out")

    return go


def objects(kube: Kube) -> list[str]:
    """All that is in the namespace and not Kubernetes' own, by kind and name."""
    paths = {
        "InferenceService": kube.ome,
        "Job": f"/apis/batch/v1/namespaces/{kube.namespace}/jobs",
        "Secret": f"{kube.core}/secrets",
        "Pod": f"{kube.core}/pods",
        "Deployment": f"/apis/apps/v1/namespaces/{kube.namespace}/deployments",
    }
    found = {kind: kube.api.list(path) for kind, path in paths.items()}
    names = [f"{kind} {one['metadata']['name']}" for kind, items in found.items() for one in items]
    return sorted(name for name in names if "-token-" not in name)  # of accounts


@pytest.fixture
def bystanders(kube: Kube) -> Iterator[None]:
    """Somebody's own objects in the namespace of the trials, one of them a trial of another machine."""
    label = "other-0-1a2b3c4d"
    kube.create(service("somebodys", "none", "none"))
    kube.create(service(manifests.name(label), "none", "none", labels={manifests.LABEL: label}))
    kube.api.create(f"{kube.core}/secrets", {"metadata": {"name": "somebodys"}, "stringData": {"key": "k"}})
    before = objects(kube)
    yield
    assert objects(kube) == before


def test_a_sweep_leaves_results_and_nothing_else(run: Run, kube: Kube, bystanders: None) -> None:
    """With the rights of templates/ome/rbac.yaml and no others."""
    user = kube.add_user("servetune", *roles(), ome_role())
    begun = objects(kube)
    result = run(
        "attention_backend=flashinfer,fa3",
        "page_size=32,64",
        f"backend.kubernetes.cluster.kubeconfig={user}",
        sweep=True,
    )
    assert result.code == 0, result.err + result.out
    records = result.records
    assert [record.status for record in records] == ["ok"] * 4
    for record in records:
        assert record.settings is not None
        assert record.settings["page_size"] == record.config.knobs["page_size"]
        assert record.settings["attention_backend"] == record.config.knobs["attention_backend"]
        assert (record.deployment["node"], record.deployment["access"]) == ("one", "port_forward")
        assert record.teardown is not None
        assert record.teardown.is_clean
    assert len({record.deployment["inference_service"] for record in records}) == 4
    assert (result.folder / "0" / "server.log").read_text()
    assert objects(kube) == begun
    assert kube.api.list(f"{OME}/clusterbasemodels"), "the model is kept for the next sweep"


def test_trials_in_parallel_share_the_gpus_of_the_cluster(run: Run, kube: Kube) -> None:
    """Three workers, two GPUs: the third worker's trial waits for one, and fails for want of none."""
    knobs = ("attention_backend=flashinfer,fa3", "page_size=32,64")
    long = ("+runtime.env.STANDIN_FAULT=slow_start:8", "runtime.health.timeout_s=60")  # longer than a worker's start
    result = run(*knobs, *long, "hydra/launcher=parallel", "hydra.launcher.n_jobs=3", sweep=True)
    assert result.code == 0, result.err + result.out
    assert [record.status for record in result.records] == ["ok"] * 4
    assert "waits for 1 nvidia.com/gpu: st-" in result.out
    assert objects(kube) == []


def test_an_engine_that_dies_in_its_pod_is_diagnosed(run: Run, kube: Kube) -> None:
    failure = run("+runtime.env.STANDIN_FAULT=oom_at_load").record.failure
    assert failure is not None
    assert failure.kind == FailureKind.OOM_GPU
    assert objects(kube) == []


def test_an_engine_is_reached_by_a_gateway(run: Run, kube: Kube) -> None:
    """Health check, warm-up and what the engine made of its flags; nothing is forwarded."""
    with ingress.serving(kube.api) as url:
        record = run(f"backend.kubernetes.url='{url}/{{namespace}}/{{name}}'").record
    assert record.status == "ok", record.failure
    assert record.deployment["access"] == "url"
    assert record.settings is not None
    assert record.settings["model_path"].endswith("/tiny")
    assert objects(kube) == []


def test_an_engine_is_reached_by_its_service(argv: Command, kube: Kube, tmp_path: Path) -> None:
    """As from a pod of the same cluster, whose DNS knows the Service as soon as there is an address behind it."""
    hosts = tmp_path / "hosts"
    hosts.touch()
    env = {**os.environ, "PYTHONPATH": str(TESTS / "fakes" / "dns"), "STANDIN_HOSTS": str(hosts)}
    words = argv("backend.kubernetes.access=in_cluster")
    with subprocess.Popen(words, cwd=ROOT, env=env, start_new_session=True) as us:
        try:
            assert process.wait_until(lambda: bool(engines(kube)), timeout_s=180)
            [(name, pod_ip)] = engines(kube).items()
            hosts.write_text(f"{name}-engine.{kube.namespace}.svc {pod_ip}\n")
            assert us.wait(timeout=120) == 0
        finally:
            us.terminate()
    record = Result(code=0, out="", err="", folder=tmp_path / "out").record
    assert (record.status, record.deployment["access"]) == ("ok", "in_cluster")
    assert [level.status for level in record.levels] == ["ok", "ok"]
    assert objects(kube) == []


def test_a_cluster_without_gpus_is_told_before_anything_is_made(run: Run, kube: Kube) -> None:
    kube.api.delete("/api/v1/nodes/one")
    kube.add_node("bare")
    result = run()
    assert (result.code, result.records) == (2, [])
    assert "none of the cluster's 1 nodes has any" in result.err
    assert not result.folder.exists()
    assert objects(kube) == []


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill-9-of-all-of-us"])
def test_nothing_outlives_a_trial_that_is_stopped(argv: Command, kube: Kube, end: signal.Signals) -> None:
    """After kill -9 there is no keeper either: the cluster itself removes all when the owner Job's time is over."""
    own = ("backend.keeper=false", "backend.kubernetes.lifetime_s=15") if end == signal.SIGKILL else ()
    words = argv("+runtime.env.STANDIN_FAULT=hang_at_start", "runtime.health.timeout_s=60", *own)
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as us:
        try:
            assert process.wait_until(lambda: bool(engines(kube)), timeout_s=180)
        finally:
            os.killpg(us.pid, end)
            us.communicate(timeout=60)
    assert process.wait_until(lambda: objects(kube) == [], timeout_s=180), objects(kube)


def engines(kube: Kube) -> dict[str, str]:
    """The address of the running pod by the name of its InferenceService; the owner Job's pod is not one of them."""
    pods = kube.api.list(f"{kube.core}/pods")
    named = [(pod["metadata"]["labels"].get("ome.io/inferenceservice"), pod["status"]) for pod in pods]
    return {name: status["podIP"] for name, status in named if name and status["phase"] == "Running"}
