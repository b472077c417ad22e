"""Options of conf/ as plain data, and the part of a runtime that memory sums depend on."""

from typing import Any

import yaml

from pipeline.core.places import CONF
from support.records import CONFIG

MEMORY = {
    "sglang": ("mem_fraction_static", "kv_cache_dtype", "context_length", "max_running_requests"),
    "vllm": ("gpu_memory_utilization", "kv_cache_dtype", "max_model_len", "max_num_seqs"),
}
GPU_KNOBS = {
    "sglang": ("tp_size", "pp_size", "dp_size"),
    "vllm": ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"),
}


def group(name: str, option: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CONF / name / f"{option}.yaml").read_text())
    return found


def runtime(engine: str, **changes: Any) -> dict[str, Any]:
    fields = dict(zip(("fraction", "kv_dtype", "context", "max_requests"), MEMORY[engine], strict=True))
    made = {"memory": {"plan": engine, **fields}, "gpu_knobs": GPU_KNOBS[engine], **changes}
    return {**CONFIG["runtime"], "name": engine, **made}
