"""What SGLang makes of its arguments. Source: sglang 0.5.23 srt/, the lines named below."""

import math
from dataclasses import dataclass
from typing import Any

from standin.errors import RefusedError
from standin.gpu import Gpu
from standin.latency import Knobs
from standin.model import Model

_KV_TOKENS_PER_GIB = 8000  # invented; the real one depends on the model


# 0.5.10's parser calls them otherwise than its ServerArgs does
_RENAMED = {
    "tensor_parallel_size": "tp_size",
    "pipeline_parallel_size": "pp_size",
    "data_parallel_size": "dp_size",
    "expert_parallel_size": "ep_size",
}


@dataclass(frozen=True)
class Resolved:
    """What /server_info tells."""

    args: dict[str, Any]
    warnings: list[str]
    max_total_num_tokens: int
    max_running: int  # the scheduler's own; the argument stays as it was given

    def knobs(self) -> Knobs:
        """What the latency depends on."""
        return Knobs(
            page_size=self.args["page_size"],
            chunk=self.args["chunked_prefill_size"],
            backend=self.args["decode_attention_backend"] or self.args["attention_backend"],
            max_running=self.max_running,
            tp=self.args["tp_size"],
            has_graphs=not self.args["disable_cuda_graph"],
            is_kv_8_bit="fp8" in str(self.args["kv_cache_dtype"]),
            has_prefix_cache=not self.args["disable_radix_cache"],
        )


def resolve(given: dict[str, Any], model: Model, gpu: Gpu) -> Resolved:
    """The resolved arguments.

    Raises:
        RefusedError: the real one would not start.
    """
    args = {_RENAMED.get(name, name): item for name, item in given.items()}
    args["served_model_name"] = args["served_model_name"] or args["model_path"]
    args["tokenizer_path"] = args["tokenizer_path"] or args["model_path"]
    _memory(args, gpu)
    warnings = _attention(args, model, gpu)
    chunk, page = args["chunked_prefill_size"], args["page_size"]
    if chunk > 0 and chunk % page:  # arg_groups/validation_hook.py:244
        raise RefusedError("AssertionError", "chunked_prefill_size must be divisible by page_size")
    _check_ranks(args, model, gpu)
    room = args["mem_fraction_static"] * gpu.memory_gib * args["tp_size"]
    tokens = (args["max_total_tokens"] or int(room * _KV_TOKENS_PER_GIB)) // page * page
    return Resolved(args, warnings, tokens, _max_running(args, model, tokens))


def _max_running(args: dict[str, Any], model: Model, tokens: int) -> int:
    """mem_cache/kv_cache_configurator.py:3124."""
    estimated = max(min(int(tokens / model.context_len * 512), 4096), 2048)
    asked = args["max_running_requests"]
    return min(estimated, asked // args["dp_size"] if asked else tokens // 2)


def _memory(args: dict[str, Any], gpu: Gpu) -> None:
    """arg_groups/memory_hook.py:85-342, without the reserve for CUDA graphs, DeepEP and vision."""
    chunk, small, large = next(
        sizes
        for below, sizes in (
            (20, (2048, 8, 8)),
            (35, (4096, 48, 160)),
            (60, (4096, 32, 160)),
            (160, (8192, 256, 512)),
            (math.inf, (16384, 512, 512)),
        )
        if gpu.memory_gib < below
    )
    if args["chunked_prefill_size"] is None:
        args["chunked_prefill_size"] = chunk
    graphs = small if args["tp_size"] < 4 else large
    _graphs(args, min(graphs, args["max_running_requests"] or graphs))
    if args["mem_fraction_static"] is None:
        tokens = args["chunked_prefill_size"] if args["chunked_prefill_size"] > 0 else args["max_prefill_tokens"]
        reserved = 512 + max(tokens, 2048) * 1.5 + args["tp_size"] * args["pp_size"] / 8 * 1024
        if gpu.memory_gib > 60:
            reserved = max(reserved, 10 * 1024)
        total = gpu.memory_gib * 1024
        args["mem_fraction_static"] = round((total - reserved) / total, 3)


def _graphs(args: dict[str, Any], computed: int) -> None:
    """0.5.23 tells the sizes in a part of its own (model_executor/cuda_graph_config.py:146), 0.5.10 in the argument."""
    if "cuda_graph_config" not in args:
        args["cuda_graph_max_bs"] = args["cuda_graph_max_bs"] or computed
        return
    backend = "disabled" if args["disable_cuda_graph"] else "full"
    decode = {"backend": backend, "max_bs": args["cuda_graph_max_bs_decode"] or computed}
    asked = args["cuda_graph_config"] or {}
    args["cuda_graph_config"] = {
        "decode": decode | asked.get("decode", {}),
        "prefill": {"backend": "disabled", "max_bs": args["chunked_prefill_size"]} | asked.get("prefill", {}),
    }


def _attention(args: dict[str, Any], model: Model, gpu: Gpu) -> list[str]:
    """In the order of arg_groups/overrides.py:1120-1363 and arg_groups/attention_hook.py:180-240."""
    if args["attention_backend"] is None:
        args["attention_backend"] = _default_backend(model, gpu)
    backends = {args["attention_backend"], args["prefill_attention_backend"], args["decode_attention_backend"]}
    warnings = _page(args, backends, model, gpu)
    if "trtllm_mla" in backends and gpu.major not in (10, 12):
        raise RefusedError(
            "ValueError",
            "TRTLLM MLA backend is only supported on Blackwell GPUs (SM100/SM12x). Please use a different backend.",
        )
    if "cutedsl_mla" in backends and gpu.major != 10:
        raise RefusedError(
            "ValueError",
            "CuteDSL MLA backend is only supported on Blackwell GPUs (SM100). Please use a different backend.",
        )
    if "trtllm_mha" in backends and gpu.major not in (9, 10, 12):
        raise RefusedError(
            "ValueError",
            "TRTLLM MHA backend for prefill requires Hopper (SM90), Blackwell (SM100), or SM120 GPUs. "
            "Please use a different prefill backend.",
        )
    if args["attention_backend"] == "fa3" and args["kv_cache_dtype"] == "fp8_e5m2":
        args["attention_backend"] = "triton"
        warnings.append("FlashAttention3 only supports fp8_e4m3 if using FP8; Setting attention backend to triton.")
    return warnings


def _default_backend(model: Model, gpu: Gpu) -> str:
    """arg_groups/model_override_base.py:277, CUDA alone."""
    if gpu.major == 9:
        return "fa3"
    if model.is_mla:
        return "flashinfer" if gpu.major == 10 else "triton"
    return "trtllm_mha" if gpu.major == 10 else "flashinfer"


# backend, page sizes it takes, what it takes instead, its words: arg_groups/overrides.py:1144-1198
_PAGES: tuple[tuple[str, tuple[int, ...], str], ...] = (
    ("flashmla", (64,), "FlashMLA only supports a page_size of 64, change page_size to 64."),
    ("trtllm_mla", (32, 64), "TensorRT-LLM MLA only supports page_size of 32 or 64, changing page_size from {} to 64."),
    ("cutedsl_mla", (32, 64), "CuteDSL MLA only supports page_size of 32 or 64, changing page_size from {} to 64."),
    (
        "trtllm_mha",
        (16, 32, 64, 128),
        "TensorRT-LLM MHA only supports page_size of 16, 32, 64 or 128, changing page_size from {} to 64.",
    ),
    ("hpc_ops", (64,), "HPC-Ops attention only supports a page_size of 64, changing page_size from {} to 64."),
)


def _page(args: dict[str, Any], backends: set[Any], model: Model, gpu: Gpu) -> list[str]:
    warnings = []
    for backend, pages, words in _PAGES:
        if backend in backends and args["page_size"] not in pages:
            warnings.append(words.format(args["page_size"]))
            args["page_size"] = 64
    if "fa4" in backends and not model.is_mla and gpu.major == 10:
        warnings.append(
            "FA4 backend only supports page size 128 for non-MLA model architectures, "
            f"changing page_size from {args['page_size']} to 128."
        )
        args["page_size"] = 128
    if args["page_size"] is None:
        args["page_size"] = 1
    return warnings


def _check_ranks(args: dict[str, Any], model: Model, gpu: Gpu) -> None:
    """What only the scheduler processes find out."""
    if args["tp_size"] * args["pp_size"] * args["dp_size"] > gpu.count:
        words = (
            "CUDA error: invalid device ordinal\nCUDA kernel errors might be asynchronously reported at some other "
            "API call, so the stacktrace below might be incorrect."
        )
        raise RefusedError("torch.AcceleratorError", words, by_rank=True)
    fits_fa3 = gpu.major == 9 or (gpu.major == 8 and not model.is_mla)
    if args["attention_backend"] == "fa3" and not fits_fa3:  # layers/attention/attention_registry.py:243
        words = "FlashAttention v3 Backend requires SM>=80 and SM<=90. Please use `--attention-backend flashinfer`."
        raise RefusedError("AssertionError", words, by_rank=True)
