"""What vLLM makes of its arguments. Source: vllm 0.33.0, the lines named below."""

from dataclasses import dataclass
from typing import Any

from standin.errors import RefusedError
from standin.gpu import Gpu
from standin.latency import Knobs
from standin.model import Model

DEFAULT_BLOCK = 16  # config/cache.py:456
_KV_TOKENS_PER_GIB = 8000  # invented; the real one depends on the model
_FP8 = ("auto", "float16", "bfloat16", "fp8", "fp8_e4m3")


@dataclass(frozen=True)
class Backend:
    """What an attention backend takes: v1/attention/backend.py:303-329 and the backends' own files."""

    majors: tuple[int, ...]
    block: int  # it takes every multiple, see supports_block_size at line 122
    kv_dtypes: tuple[str, ...]
    is_mla: bool = False


BACKENDS: dict[str, Backend] = {
    "FLASH_ATTN": Backend((8, 9, 10, 11, 12), 16, _FP8),
    "FLASHINFER": Backend((8, 9, 10, 11, 12), 16, (*_FP8, "fp8_e5m2", "nvfp4")),
    "TRITON_ATTN": Backend((7, 8, 9, 10, 11, 12), 16, (*_FP8, "fp8_e5m2")),
    "FLEX_ATTENTION": Backend((7, 8, 9, 10, 11, 12), 16, ("auto", "float16", "bfloat16")),
    "FLASH_ATTN_MLA": Backend((9,), 16, ("auto", "float16", "bfloat16"), is_mla=True),
    "FLASHMLA": Backend((9, 10), 64, _FP8, is_mla=True),
    "FLASHINFER_MLA": Backend((10,), 32, _FP8, is_mla=True),
    "CUTLASS_MLA": Backend((10,), 128, _FP8, is_mla=True),
    "TRITON_MLA": Backend((7, 8, 9, 10, 11, 12), 16, _FP8, is_mla=True),
}
# platforms/cuda.py:84-178
_MHA = ("FLASH_ATTN", "FLASHINFER", "TRITON_ATTN", "FLEX_ATTENTION")
_MHA_10 = ("FLASHINFER", "FLASH_ATTN", "TRITON_ATTN", "FLEX_ATTENTION")
_MLA = ("FLASH_ATTN_MLA", "FLASHMLA", "FLASHINFER_MLA", "TRITON_MLA")
_MLA_10 = ("FLASHINFER_MLA", "CUTLASS_MLA", "FLASH_ATTN_MLA", "FLASHMLA", "TRITON_MLA")


@dataclass(frozen=True)
class Resolved:
    """What the arguments came to."""

    args: dict[str, Any]
    backend: str  # the one that was chosen; the configuration does not tell it
    block_size: int
    num_gpu_blocks: int
    warnings: list[str]

    def knobs(self) -> Knobs:
        """What the latency depends on."""
        return Knobs(
            page_size=self.block_size,
            chunk=self.args["max_num_batched_tokens"],
            backend=self.backend,
            max_running=self.args["max_num_seqs"],
            tp=self.args["tensor_parallel_size"],
            has_graphs=not self.args["enforce_eager"],
            is_kv_8_bit="fp8" in str(self.args["kv_cache_dtype"]),
            has_prefix_cache=self.args["enable_prefix_caching"],
        )


def resolve(given: dict[str, Any], model: Model, gpu: Gpu) -> Resolved:
    """The resolved arguments.

    Raises:
        RefusedError: the real one would not start.
    """
    args = dict(given)
    names = args["served_model_name"]
    args["served_model_name"] = [names] if isinstance(names, str) else names or [args["model"]]
    args["max_model_len"] = args["max_model_len"] or model.context_len
    for name in ("enable_chunked_prefill", "enable_prefix_caching", "async_scheduling"):
        args[name] = True if args[name] is None else args[name]
    _batch(args, gpu)
    _check(args, gpu)
    backend, warnings = _attention(args, model, gpu)
    block = args["block_size"] or max(DEFAULT_BLOCK, BACKENDS[backend].block)
    room = args["gpu_memory_utilization"] * gpu.memory_gib * args["tensor_parallel_size"]
    return Resolved(args, backend, block, int(room * _KV_TOKENS_PER_GIB) // block, warnings)


def _batch(args: dict[str, Any], gpu: Gpu) -> None:
    """engine/arg_utils.py:2973-3006 and 3166-3235, for an API server; 80 GiB of SM80 are an A100."""
    if gpu.memory_gib >= 160:
        tokens, seqs = 16384, 1024
    elif gpu.memory_gib >= 70 and gpu.sm != 80:
        tokens, seqs = 8192, 1024
    else:
        tokens, seqs = 2048, 256
    if args.get("performance_mode") == "throughput":
        tokens, seqs = tokens * 2, seqs * 2
    asked_seqs = args["max_num_seqs"]
    args["max_num_seqs"] = asked_seqs or seqs
    if args["max_num_batched_tokens"] is None:
        if not args["enable_chunked_prefill"]:
            tokens = max(args["max_model_len"], tokens)
        args["max_num_batched_tokens"] = min(args["max_num_seqs"] * args["max_model_len"], tokens)
    if asked_seqs is None:
        args["max_num_seqs"] = min(args["max_num_seqs"], args["max_num_batched_tokens"])


def _check(args: dict[str, Any], gpu: Gpu) -> None:
    """config/parallel.py:1072, config/scheduler.py:318-336."""
    tokens, seqs, longest = args["max_num_batched_tokens"], args["max_num_seqs"], args["max_model_len"]
    world = args["tensor_parallel_size"] * args["pipeline_parallel_size"]
    if world > gpu.count:
        raise RefusedError(
            "ParallelConfig",
            f"World size ({world}) is larger than the number of available GPUs ({gpu.count}) in this node. "
            "If this is intentional and you are using:\n- ray, set '--distributed-executor-backend ray'.",
        )
    if tokens < longest and not args["enable_chunked_prefill"]:
        raise RefusedError(
            "SchedulerConfig",
            f"max_num_batched_tokens ({tokens}) is smaller than max_model_len ({longest}). This effectively limits "
            "the maximum sequence length to max_num_batched_tokens and makes vLLM reject longer sequences. "
            "Please increase max_num_batched_tokens or decrease max_model_len.",
        )
    if tokens < seqs:
        raise RefusedError(
            "SchedulerConfig",
            f"max_num_batched_tokens ({tokens}) must be greater than or equal to max_num_seqs ({seqs}).",
        )


def _attention(args: dict[str, Any], model: Model, gpu: Gpu) -> tuple[str, list[str]]:
    """platforms/cuda.py:420-515: a backend that was asked for must fit; else the first that does."""
    asked = args["attention_backend"] or (args.get("attention_config") or {}).get("backend")
    if asked is not None:
        if reasons := _reasons(asked, args, model, gpu):
            words = f"Selected backend AttentionBackendEnum.{asked} is not valid for this configuration. "
            raise RefusedError("ValueError", f"{words}Reason: {reasons}", by_rank=True)
        return asked, []
    order = (_MLA_10 if gpu.major == 10 else _MLA) if model.is_mla else (_MHA_10 if gpu.major == 10 else _MHA)
    against = {name: _reasons(name, args, model, gpu) for name in order}
    found = next((name for name in order if not against[name]), None)
    if found is None:
        told = ", ".join(f"{name}: [{', '.join(reasons)}]" for name, reasons in against.items())
        words = f"No valid attention backend found for cuda with AttentionSelectorConfig(). Reasons: {{{told}}}."
        raise RefusedError("ValueError", words, by_rank=True)
    excluded = [name for name in order[: order.index(found)] if against[name] == ["block_size not supported"]]
    if not excluded:
        return found, []
    warning = (
        f"--block-size {args['block_size']} precluded higher-priority backend(s) {', '.join(excluded)}. "
        f"Using {found} instead, which may result in reduced performance. "
        "Consider removing --block-size to auto-select the optimal block size."
    )
    return found, [warning]


def _reasons(name: str, args: dict[str, Any], model: Model, gpu: Gpu) -> list[str]:
    takes = BACKENDS.get(name)
    if takes is None:
        return ["compute capability not supported"]
    wrong = {
        "kv_cache_dtype not supported": args["kv_cache_dtype"] not in takes.kv_dtypes,
        "block_size not supported": (args["block_size"] or takes.block) % takes.block != 0,
        "MLA not supported": model.is_mla and not takes.is_mla,
        "non-MLA not supported": takes.is_mla and not model.is_mla,
        "compute capability not supported": gpu.major not in takes.majors,
    }
    return [reason for reason, is_so in wrong.items() if is_so]
