"""The error messages of SGLang alone: rows of pipeline.engines.death_patterns."""

from pipeline.core.errors import FailureKind as Kind
from pipeline.engines import death_hints as hints
from pipeline.engines.death_hints import SGLANG, Pattern

DEVICE: tuple[Pattern, ...] = (
    Pattern(SGLANG, r"No accelerator \(CUDA, XPU", Kind.NO_GPU, hints.GPU, "sglang 0.5.23 srt/utils/common.py:1124"),
)
PORT: tuple[Pattern, ...] = (
    Pattern(
        SGLANG,
        r"is not available in \d+ seconds",
        Kind.PORT_TAKEN,
        hints.PORT,
        "sglang 0.5.23 srt/utils/network.py:103",
    ),
)
MODEL: tuple[Pattern, ...] = (
    Pattern(
        SGLANG,
        r"Cannot find any model weights|^ValueError: \S+ is not a file\.$",
        Kind.MODEL_MISSING,
        hints.MISSING,
        "sglang 0.5.23 srt/model_loader/loader.py:580, and load_format=gguf with a folder, seen",
    ),
)
COMBINATIONS: tuple[Pattern, ...] = (
    Pattern(
        SGLANG,
        r"Backend requires SM|backend for (prefill|decode) (requires|is only)|--kv-cache-dtype\S* \S*\s?requires",
        Kind.UNSUPPORTED_COMBINATION,
        hints.BACKEND,
        "sglang 0.5.23 srt/layers/attention/attention_registry.py:244, srt/arg_groups/attention_hook.py:204",
    ),
    Pattern(
        SGLANG,
        r"SGLANG_CPU_OMP_THREADS_BIND is not set|NUMA index \d+ .* is out of range",
        Kind.UNSUPPORTED_COMBINATION,
        hints.RANKS,
        "sglang 0.5.23 srt/utils/numa_utils.py:463,477",
    ),
    Pattern(
        SGLANG,
        r"NameError: name 'Batch(Prefill|Decode)\w+' is not defined|0 active drivers \(",
        Kind.UNSUPPORTED_COMBINATION,
        hints.PLAIN_KERNELS,
        "sglang 0.5.23 srt/layers/attention/flashinfer_backend.py:523, triton 3.8 runtime/driver.py:20, on a CPU",
    ),
    Pattern(
        SGLANG,
        r"requires that CPU has AMX support|requires Intel AMX support",
        Kind.UNSUPPORTED_COMBINATION,
        hints.KERNEL,
        "sglang 0.5.23 srt/layers/quantization/fp8.py:1291, and of the KV cache, seen",
    ),
    Pattern(
        SGLANG,
        r"object has no attribute 'init_cpu_graph_state'",
        Kind.UNSUPPORTED_COMBINATION,
        hints.CPU_GRAPHS,
        "sglang 0.5.23 with enable_torch_compile on a CPU, seen",
    ),
    Pattern(
        SGLANG,
        r"^ImportError: Please install \S+",
        Kind.LOAD_FAILED,
        hints.PACKAGE,
        "sglang 0.5.23 srt/layers/quantization/bitsandbytes.py, seen",
    ),
    Pattern(
        SGLANG,
        r"Cannot find model module\. ",
        Kind.UNSUPPORTED_COMBINATION,
        hints.ANOTHER_VERSION,
        "sglang 0.5.23 srt/model_loader/utils.py:155",
    ),
)
MEMORY: tuple[Pattern, ...] = (
    Pattern(
        SGLANG,
        r"Not enough memory\. Please try to increase|leave no GPU memory for the KV|Not enough GPU memory for hybrid",
        Kind.KV_CACHE_TOO_SMALL,
        hints.POOL,
        "sglang 0.5.23 srt/model_executor/pool_configurator.py:96, srt/mem_cache/kv_cache_configurator.py:3051",
    ),
    Pattern(
        SGLANG,
        r"(Prefill|Decode) out of memory\. Try to lower",
        Kind.KV_CACHE_TOO_SMALL,
        "The KV cache filled up under load: raise {memory} or lower {batch}.",
        "sglang 0.5.23 srt/mem_cache/allocation.py:239,613",
    ),
)
