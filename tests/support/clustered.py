"""Plans of trials in a cluster, for tests that need no cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.backends.kube import manifests
from pipeline.config import planning
from pipeline.core.plan import Assets, Plan
from pipeline.core.schema import Config
from pipeline.models import ome_model
from support.records import make_config

LABEL = "s-0-1a2b3c4d"
OWNER = {"apiVersion": "batch/v1", "kind": "Job", "name": f"st-{LABEL}", "uid": "u-1"}
ARCH = {
    "name": "Qwen3ForCausalLM", "attention": "gqa", "layers": 36, "hidden_size": 4096, "heads": 32, "kv_heads": 8,
    "head_dim": 128, "parameters_b": 8.191, "active_parameters_b": 8.191, "weights_gib": 15.26, "dtype": "bfloat16",
    "context_tokens": 40960,
}  # fmt: skip
MODEL = {"name": "qwen3_8b", "repo": "Qwen/Qwen3-8B", "revision": "abc", "served_name": "qwen3-8b", "arch": ARCH}
TARGET = {"name": "ome", "target": "pipeline.backends.ome.Ome"}


def configured(
    *, model: dict[str, Any] | None = None, hardware: dict[str, Any] | None = None, **kubernetes: Any
) -> Config:
    return make_config(
        model={**MODEL, **(model or {})},
        backend={**TARGET, "kubernetes": {"image": "engine:1", **kubernetes}},
        hardware={"name": "box", "gpu_count": 2, "vendor": "nvidia", **(hardware or {})},
    )


def planned(config: Config | None = None, **changes: Any) -> Plan:
    config = config or configured()
    files = Assets(model_path=ome_model.inside(config), tokenizer_dir=Path("/tok"))
    return replace(planning.make(config, files, sweep_id="s", number=0, run_dir=Path("/runs/s/0")), **changes)


def every(made: Plan) -> list[dict[str, Any]]:
    return [
        manifests.base_model(made),
        manifests.serving_runtime(made),
        manifests.owner_job(made, LABEL, "{}"),
        manifests.inference_service(made, LABEL, owner=OWNER),
    ]
