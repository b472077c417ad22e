"""A level that is measured in the engine's cluster: its Job, and its results out of a log."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.backends import Deployment, lease
from pipeline.backends.kube import manifests
from pipeline.bench import Job, beside, command
from pipeline.core.errors import BenchFailed
from pipeline.core.plan import Plan
from pipeline.core.schema import ClusterBench, Config
from pipeline.core.schema_backends import Cluster
from pipeline.core.values import now
from pipeline.machine import identity
from support.clustered import LABEL, TARGET, configured, planned

FACTS = {"node": "node-1", "pod_ip": "192.0.2.7"}
PVC = "pvc://ns:claim/qwen"


def measured(config: Config, **facts: str) -> tuple[Plan, Job]:
    made = planned(config)
    owned = lease.Lease(
        label=LABEL, backend=TARGET["target"], owner=identity.of(), run_dir=Path("/runs/s/0"), created_at=now(),
        stop_grace_s=1, host="127.0.0.1", cluster=Cluster(namespace="ns"),
    )  # fmt: skip
    deployment = Deployment(lease=owned, url="http://127.0.0.1:4000", port=4000, facts={**FACTS, **facts})
    job = command.job(config, made, made.levels[0], url=deployment.url, label=LABEL)
    return made, beside.placed(job, config, made, made.levels[0], deployment)


def config(uri: str | None = None, **box: Any) -> Config:
    made = configured(cluster={"namespace": "ns"}, **({"storage": {"uri": uri}} if uri else {}))
    bench = replace(made.bench, location="cluster", cluster=ClusterBench(image="bench:1", **box))
    return replace(made, bench=bench)


def pod(job: Job) -> Mapping[str, Any]:
    assert job.beside is not None
    spec: Mapping[str, Any] = job.beside.manifest["spec"]["template"]["spec"]
    return spec


def test_asks_the_engine_at_its_pod_on_its_node() -> None:
    _, job = measured(config())
    (container,) = pod(job)["containers"]
    given = dict(zip(container["args"][2::2], container["args"][3::2], strict=True))
    assert container["args"][:2] == ["genai-bench", "benchmark"]
    assert given["--api-base"] == "http://192.0.2.7:8080"
    assert pod(job)["nodeName"] == "node-1"
    assert container["image"] == "bench:1"
    assert job.beside is not None
    assert job.beside.manifest["metadata"]["name"] == f"{manifests.name(LABEL)}-b1"  # of one user
    assert job.beside.manifest["metadata"]["labels"][manifests.LABEL] == LABEL


def test_an_address_of_ipv6_is_written_as_urls_want_it() -> None:
    _, job = measured(config(), pod_ip="fd00::7")
    assert "http://[fd00::7]:8080" in job.argv


@pytest.mark.parametrize(
    ("uri", "source", "mount"),
    [
        pytest.param(
            None,
            {"hostPath": {"path": "/mnt/data/models/Qwen/Qwen3-8B", "type": "Directory"}},
            {"mountPath": "/mnt/data/models/Qwen/Qwen3-8B"},
            id="of-the-node",
        ),
        pytest.param(
            PVC,
            {"persistentVolumeClaim": {"claimName": "claim", "readOnly": True}},
            {"mountPath": "/opt/ml/model", "subPath": "qwen"},
            id="of-a-claim",
        ),
    ],
)
def test_the_tokenizer_is_the_models(uri: str | None, source: Any, mount: Any) -> None:
    _, job = measured(config(uri))
    assert pod(job)["volumes"][1] == {"name": "model", **source}
    assert pod(job)["containers"][0]["volumeMounts"][1] == {"name": "model", "readOnly": True, **mount}


def test_a_tokenizer_of_ones_own_needs_no_model() -> None:
    _, job = measured(config(tokenizer="/tokenizers/qwen"))
    assert [volume["name"] for volume in pod(job)["volumes"]] == ["scratch"]


def test_a_backend_without_pods_is_refused() -> None:
    with pytest.raises(BenchFailed, match="needs backend=ome"):
        measured(config(), pod_ip="")


def printed(folder: Path, script: str) -> str:
    """What a container prints whose genai-bench is this Python script."""
    line = ["sh", "-c", beside.SCRIPT, "sh", sys.executable, "-c", script]
    env = {"TMPDIR": str(folder), "PATH": "/usr/bin:/bin"}
    return subprocess.run(line, capture_output=True, text=True, check=True, env=env).stdout


WRITES = """
import pathlib
pathlib.Path("results/level").mkdir(parents=True)
pathlib.Path("results/level/a b.json").write_text("[1]")
pathlib.Path("results/level/plot.png").write_text("large")
print("hello")
raise SystemExit(%d)
"""


@pytest.mark.parametrize("code", [0, 3])
def test_results_come_through_the_log(code: int, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    log = printed(tmp_path / "there", WRITES % code)
    (tmp_path / "here").mkdir()
    assert beside.unpack(log, tmp_path / "here") == (code, "hello\n\n")
    assert {path.name: json.loads(path.read_text()) for path in (tmp_path / "here").iterdir()} == {"a b.json": [1]}
    assert list((tmp_path / "there").iterdir()) == [], "nothing is left in the container"


def test_a_call_without_results_still_says_how_it_ended(tmp_path: Path) -> None:
    assert beside.unpack(printed(tmp_path, "raise SystemExit(2)"), tmp_path) == (2, "\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda log: log.replace(beside.END, ""), "left no results in its log", id="cut-off"),
        pytest.param(lambda log: log.replace("H4sI", "AAAA"), "cannot be read", id="garbled"),
        pytest.param(lambda _: "sh: genai-bench: not found", "ends with: sh: genai-bench: not found", id="none"),
        pytest.param(lambda _: "", "ends with: nothing", id="empty"),
    ],
)
def test_a_log_that_is_not_whole_is_told(change: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(BenchFailed, match=words):
        beside.unpack(change(printed(tmp_path, WRITES % 0)), tmp_path)
