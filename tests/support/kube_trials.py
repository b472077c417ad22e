"""The configuration of a trial in a test's namespace: one GPU, the model `tiny`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parts.kube_fixtures import Kube
from pipeline.config import planning
from pipeline.core.plan import Assets, Plan
from pipeline.core.schema import Config
from pipeline.models import ome_model
from support import records

MODEL = {"name": "tiny", "repo": "tests/tiny", "served_name": "tiny"}
HOME = "/mnt/data/models/tests/tiny"  # where a node has it


def config(cluster: Mapping[str, Any], *, gpus: int = 1, **settings: Any) -> Config:
    """`settings` are those of backend.kubernetes."""
    backend = {"name": "ome", "target": "pipeline.backends.ome.Ome", "kubernetes": {"cluster": cluster, **settings}}
    runtime = {**records.CONFIG["runtime"], "image": "tests/engine:1"}
    return records.make_config(
        model=MODEL, backend=backend, runtime=runtime, hardware={"name": "test", "gpu_count": gpus}
    )


def of(kube: Kube, *, gpus: int = 1, **settings: Any) -> Config:
    """As the administrator, in the test's namespace."""
    cluster = {"kubeconfig": str(kube.cluster.kubeconfig), "namespace": kube.namespace}
    return config(settings.pop("cluster", cluster), gpus=gpus, **settings)


def planned(configured: Config, run_dir: Path) -> Plan:
    assets = Assets(model_path=ome_model.inside(configured), tokenizer_dir=run_dir)
    return planning.make(configured, assets, sweep_id="test", number=0, run_dir=run_dir)
