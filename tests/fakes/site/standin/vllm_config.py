"""vLLM's resolved configuration as its development server tells it. Source: vllm 0.33.0 config/vllm.py:349."""

from typing import Any

from standin.vllm_resolve import Resolved

# part: its fields, named as the arguments are
_SAME = {
    "model_config": ("model", "tokenizer", "dtype", "seed", "max_model_len", "quantization", "enforce_eager"),
    "cache_config": ("gpu_memory_utilization", "enable_prefix_caching", "num_gpu_blocks_override"),
    "parallel_config": (
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "enable_expert_parallel",
        "decode_context_parallel_size",
    ),
    "scheduler_config": (
        "max_num_batched_tokens",
        "max_num_seqs",
        "max_num_active_seqs",
        "max_num_queued_reqs",
        "enable_chunked_prefill",
        "async_scheduling",
        "stream_interval",
        "max_num_partial_prefills",
    ),
    "load_config": ("load_format",),
}


def nested(resolved: Resolved) -> dict[str, Any]:
    """Part by part; an argument that a version has not is not told."""
    args = resolved.args
    told = {part: {name: args[name] for name in names if name in args} for part, names in _SAME.items()}
    told["model_config"]["served_model_name"] = args["served_model_name"][0]
    told["model_config"]["dtype"] = "torch.bfloat16" if args["dtype"] == "auto" else f"torch.{args['dtype']}"
    told["cache_config"] |= {
        "block_size": resolved.block_size,
        "user_specified_block_size": args["block_size"] is not None,
        "cache_dtype": args["kv_cache_dtype"],
        "num_gpu_blocks": resolved.num_gpu_blocks,
    }
    told["scheduler_config"]["policy"] = args["scheduling_policy"]
    asked = args.get("attention_config") or {}
    # What was asked, not what was chosen: the choice is only logged
    told["attention_config"] = {**asked, "backend": args["attention_backend"] or asked.get("backend")}
    told["compilation_config"] = _compilation(args)
    return {**told, "speculative_config": args.get("speculative_config")}


def _compilation(args: dict[str, Any]) -> dict[str, Any]:
    """config/vllm.py:2453-2470: the largest captured batch is min(2 * max_num_seqs, 512)."""
    largest = 0 if args["enforce_eager"] else min(2 * args["max_num_seqs"], 512)
    mode = "NONE" if args["enforce_eager"] else "FULL_AND_PIECEWISE"
    return {"cudagraph_mode": mode, "max_cudagraph_capture_size": largest, **(args.get("compilation_config") or {})}
