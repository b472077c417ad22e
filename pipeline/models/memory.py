"""The memory check before deploying: whether weights and KV cache fit the GPUs. Pure.

A trial is refused only if the engine cannot start (or serve one request of the traffic) even under the most favourable
assumptions: WEIGHT_SLACK off the weights, no activations, nothing else on the GPU. If the tokens of the busiest level
do not all fit the remaining memory, the trial is only warned: requests will queue or be preempted.

Not modelled: with pipeline parallelism, the first stage holds the embedding and the last one the output matrix; with
tensor parallelism, every GPU holds the norms and an MLA model's low-rank projections.
"""

import math
from collections.abc import Mapping

from pipeline.core import scenario
from pipeline.core.findings import Finding
from pipeline.core.schema import Architecture, Config
from pipeline.core.schema_engine import Memory
from pipeline.core.values import Scalar, value
from pipeline.engines import catalogue

RULES = frozenset({"does_not_fit", "kv_too_small", "tight", "memory_unknown"})
Knobs = Mapping[str, Scalar | None]
GIB = 2**30
MIB_PER_GIB = 1024
# DeepSeek-V3's files hold 2.1 % and GLM-4.6's 2.4 % for a layer that is loaded for speculation only
WEIGHT_SLACK = 0.03
_DTYPE_BYTES = {"bfloat16": 2.0, "float16": 2.0, "float32": 4.0}
_KV_BYTES = {"bf16": 2.0, "fp16": 2.0, "half": 2.0, "float": 4.0, **_DTYPE_BYTES}
_FP4_BYTES = 0.5 + 1 / 16  # a byte of scale for 16 values: vLLM 0.33.0, utils/torch_utils.py:542
# what takes memory from elsewhere or changes the model: the sum would be of something else
_BEYOND = ("quantization", "cpu_offload_gb", "offload_group_size", "kv_cache_memory_bytes", "hf_overrides")
_SHORT = ("tp", "pp", "dp", "q", "json_model_override_args")  # beside the knobs' own names, in runtime.extra_args
_CONTEXT_PARALLEL = ("dcp_size", "decode_context_parallel_size")
VLLM_FRACTION = 0.92  # where no catalogue says it; 0.9 up to vLLM 0.19.1


@value
class Parallelism:
    """How a trial spreads over GPUs."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1  # replicas, each with its own share of the requests
    attention_data: int = 1  # replicas of the attention only, inside `tensor`
    context: int = 1  # GPUs of `tensor` that share a request's tokens


@value
class Need:
    """The memory needed on one GPU, in GiB; of several GPUs, on the fullest."""

    gpu_gib: float
    weights_gib: float
    least_weights_gib: float  # on the kindest reading
    reserve_gib: float  # activations, CUDA graphs, and what the engine is told to leave
    kv_gib: float  # for `requests` of `request_tokens` at once
    least_kv_gib: float  # without which the engine does not start, or serves no request
    least_kv_tokens: int
    most_gib: float  # at most for weights and KV cache
    requests: int  # of the busiest level, in one replica
    request_tokens: int  # the longest request of the traffic

    @property
    def total_gib(self) -> float:
        """Everything, with the busiest level's tokens."""
        return self.weights_gib + self.reserve_gib + self.kv_gib


def check(config: Config, knobs: Knobs) -> tuple[Finding, ...]:
    """The findings about a trial's memory; empty if it cannot be computed. `knobs`: after rewriting."""
    if config.runtime.memory and config.hardware.gpu_memory_gib and config.model.arch is None:
        return (_unknown(config),)
    found = need(config, knobs)
    if found is None:
        return ()
    if found.least_weights_gib > found.most_gib:
        return (_does_not_fit(config, found),)
    if found.least_weights_gib + found.least_kv_gib > found.most_gib:
        return (_kv_too_small(config, found),)
    return (_tight(config, knobs, found),) if found.total_gib > found.gpu_gib else ()


def need(config: Config, knobs: Knobs) -> Need | None:
    """The sum; None without the numbers, or where a knob changes what is summed."""
    memory, arch, gpu = config.runtime.memory, config.model.arch, config.hardware.gpu_memory_gib
    if memory is None or arch is None or gpu is None or _is_beyond(config, knobs, memory):
        return None
    size = _kv_size(knobs.get(memory.kv_dtype), arch)
    if size is None:
        return None
    spread = parallelism(config, knobs)
    request = math.ceil(max(tokens.input + tokens.output for tokens in map(scenario.longest, config.traffic.scenarios)))
    requests = _requests(config, knobs, memory, spread)
    each = kv_bytes_per_token(arch, spread, size) / GIB
    least_tokens = _least_tokens(knobs, memory, arch, request)
    weights = weights_gib(arch, spread, splits_experts=memory.plan == "vllm")
    reserve, most = _shares(config, knobs, memory, spread, gpu)
    return Need(
        gpu_gib=gpu,
        weights_gib=weights * math.ceil(arch.layers / spread.pipeline) * spread.pipeline / arch.layers,
        least_weights_gib=weights * _least_share(arch) * (1 - WEIGHT_SLACK),
        reserve_gib=reserve,
        kv_gib=each * requests * request,
        least_kv_gib=each * least_tokens * (_least_kv_size(knobs.get(memory.kv_dtype), arch) / size),
        least_kv_tokens=least_tokens,
        most_gib=most,
        requests=requests,
        request_tokens=request,
    )


def _is_beyond(config: Config, knobs: Knobs, memory: Memory) -> bool:
    """Whether a knob changes what is summed, or runtime.extra_args asks for what the sum reads from knobs."""
    read = (memory.fraction, memory.kv_dtype, memory.context, memory.max_requests, *config.runtime.gpu_knobs)
    said = {arg.partition("=")[0].lstrip("-").replace("-", "_") for arg in config.runtime.extra_args}
    return any(knobs.get(name) for name in _BEYOND) or not said.isdisjoint((*read, *_BEYOND, *_SHORT))


def parallelism(config: Config, knobs: Knobs) -> Parallelism:
    """Tensor, pipeline and data parallelism are the runtime's gpu_knobs, in this order."""
    sizes = [_whole(knobs, name) or 1 for name in config.runtime.gpu_knobs]
    tensor, pipeline, data = (*sizes, 1, 1, 1)[:3]
    context = next((size for name in _CONTEXT_PARALLEL if (size := _whole(knobs, name))), 1)
    attention = min(tensor, _whole(knobs, "attn_dp_size") or 1)
    return Parallelism(tensor=tensor, pipeline=pipeline, data=data, attention_data=attention, context=context)


def kv_bytes_per_token(arch: Architecture, spread: Parallelism, size: float) -> float:
    """Bytes of KV cache that one token takes on one GPU; `size`: bytes of one element.

    MHA and GQA: a key and a value of head_dim for each KV head, in each layer of the stage. Heads are split over the
    GPUs of `tensor`, one at least on each. MLA: one vector of kv_lora_rank + qk_rope_head_dim, the same on every GPU.
    GPUs of `context` take turns with the tokens.
    Source: SGLang 0.5.23, model_executor/pool_configurator.py:379 and :492, configs/model_config.py:1700;
    vLLM 0.33.0, v1/kv_cache_interface.py (FullAttentionSpec, MLAAttentionSpec), config/model.py:1663;
    DeepSeek-V2, arXiv 2405.04434, table 1.
    """
    layers = math.ceil(arch.layers / spread.pipeline)
    if arch.attention == "mla":
        elements = (arch.kv_lora_rank or 0) + (arch.qk_rope_head_dim or 0)
    else:
        gpus = max(1, spread.tensor // spread.attention_data // spread.context)
        elements = 2 * max(1, arch.kv_heads // gpus) * arch.head_dim
    return layers * elements * size / spread.context


def weights_gib(arch: Architecture, spread: Parallelism, *, splits_experts: bool = False) -> float:
    """Weights of one GPU: split over tensor (experts within it) and pipeline, not over replicas.

    `splits_experts`: replicas share the experts, as vLLM's do (docs/serving/data_parallel_deployment.md). The experts'
    part follows from both counts: active = rest + experts * experts_per_token / experts.
    """
    whole = arch.weights_gib / (spread.tensor * spread.pipeline)
    if not splits_experts or spread.data == 1 or not arch.experts or arch.experts == arch.experts_per_token:
        return whole
    used = (arch.experts_per_token or 1) / arch.experts
    part = min(1.0, (1 - arch.active_parameters_b / arch.parameters_b) / (1 - used))
    return whole * (1 - part + part / spread.data)


def _least_share(arch: Architecture) -> float:
    """The share of the files that is loaded at least: a tied matrix stored twice (Qwen3-0.6B) is loaded once."""
    if arch.quantization:
        return 1.0
    return min(1.0, arch.parameters_b * 1e9 * _DTYPE_BYTES[arch.dtype] / GIB / arch.weights_gib)


def _kv_size(dtype: Scalar | None, arch: Architecture) -> float | None:
    """Bytes of one element of the KV cache; None for a format that is not known here."""
    name = str(dtype or "auto")
    if name == "auto":
        return _DTYPE_BYTES[arch.dtype]
    if name.startswith(("nvfp4", "fp4", "mxfp4")):
        return _FP4_BYTES
    return 1.0 if name.startswith(("fp8", "int8", "mxfp8")) else _KV_BYTES.get(name)


def _least_kv_size(dtype: Scalar | None, arch: Architecture) -> float:
    """A quantized checkpoint may ask for a KV cache of one byte where it is left to the engine."""
    size = _kv_size(dtype, arch) or 0
    return min(size, 1.0) if arch.quantization and dtype in {None, "auto"} else size


def _requests(config: Config, knobs: Knobs, memory: Memory, spread: Parallelism) -> int:
    """Requests that run at once in one replica of the attention."""
    waiting = math.ceil(max(config.traffic.concurrencies) / (spread.data * spread.attention_data))
    return min(waiting, _whole(knobs, memory.max_requests) or waiting)


def _least_tokens(knobs: Knobs, memory: Memory, arch: Architecture, request: int) -> int:
    """Tokens the KV cache must hold for the server to be of use.

    vLLM refuses to start if one request of max_model_len does not fit (0.33.0, v1/core/kv_cache_planning.py:50) and
    takes the model's own length where none is asked; less than 1 lets it choose. SGLang starts with any room
    (0.5.23, mem_cache/kv_cache_configurator.py:3043) but cannot serve a request longer than its pool.
    """
    asked = knobs.get(memory.context)
    if memory.plan == "sglang" or (asked is not None and not _whole(knobs, memory.context)):
        return request
    return _whole(knobs, memory.context) or arch.context_tokens


def _shares(config: Config, knobs: Knobs, memory: Memory, spread: Parallelism, gpu: float) -> tuple[float, float]:
    """GiB to set aside, as the engine reckons, and GiB for weights and KV cache on the kindest reading."""
    asked = knobs.get(memory.fraction)
    fraction = None if asked is None else float(asked)
    if memory.plan == "vllm":
        usual = catalogue.default(config.runtime, memory.fraction) or VLLM_FRACTION
        share = (fraction or float(usual)) * gpu
        return gpu - share + _vllm_profile_gib(config, knobs, gpu), share
    if fraction is not None:
        return gpu * (1 - fraction), gpu * fraction
    parallel = spread.tensor * spread.pipeline / 8
    return _sglang_reserve_gib(knobs, spread, gpu, config.model.arch), gpu - 1.5 - parallel


def _sglang_reserve_gib(knobs: Knobs, spread: Parallelism, gpu: float, arch: Architecture | None) -> float:
    """What SGLang leaves free where mem_fraction_static is not asked.

    Source: 0.5.23, arg_groups/memory_hook.py:309-317 (the sum), :90-171 (sizes by GPU), :358-399 (CUDA graphs; their
    prefill buckets are counted as 60 of 8 MiB). The kindest reading takes :294, with graphs measured after capture.
    """
    by_gpu = ((20, 2048, 8, 8), (35, 4096, 48, 160), (60, 4096, 32, 160), (160, 8192, 256, 512))
    default = next((sizes for limit, *sizes in by_gpu if gpu < limit), [16384, 512, 512])
    chunk = _whole(knobs, "chunked_prefill_size") or default[0]
    batch = min(default[1 if spread.tensor < 4 else 2], _whole(knobs, "max_running_requests") or default[2])
    prefill = 1536 if arch is not None and arch.attention == "mla" else 60 * 8
    total = 512 + max(chunk, 2048) * 1.5 + spread.tensor * spread.pipeline / 8 * MIB_PER_GIB + batch * 2 + prefill
    return max(total / MIB_PER_GIB, 10 if gpu > 60 else 0)


def _vllm_profile_gib(config: Config, knobs: Knobs, gpu: float) -> float:
    """What vLLM's profiling run and its CUDA graphs take of its share: a guess, since vLLM measures it.

    1 GiB, and 0.25 MiB a batched token. Default batch: 0.33.0, engine/arg_utils.py:2973-3006.
    """
    is_a100 = config.hardware.architecture == "ampere"
    default = 16384 if gpu >= 160 else 8192 if gpu >= 70 and not is_a100 else 2048
    return 1 + 0.25 * (_whole(knobs, "max_num_batched_tokens") or default) / MIB_PER_GIB


def _whole(knobs: Knobs, name: str) -> int | None:
    """A knob that counts something; None if it is not asked, or is not a positive number (-1: the engine chooses)."""
    asked = knobs.get(name)
    return int(asked) if isinstance(asked, int | float) and asked >= 1 else None


def _unknown(config: Config) -> Finding:
    reason = (
        f"set model.path to a folder with a config.json, or model.arch: without the architecture of "
        f"model={config.model.name}, memory and compatibility checks are skipped"
    )
    return Finding(rule="memory_unknown", verdict="warned", reason=reason, source=_SOURCE)


def _does_not_fit(config: Config, found: Need) -> Finding:
    reason = (
        f"weights {found.weights_gib:.1f} GiB do not fit {found.most_gib:.1f} of {found.gpu_gib:.1f} GiB per GPU "
        f"(nor does the lowest estimate, {found.least_weights_gib:.1f} GiB); {_more_gpus(config)}, "
        f"or use a smaller or quantized model"
    )
    return Finding(rule="does_not_fit", verdict="refused", reason=reason, source=_SOURCE)


def _kv_too_small(config: Config, found: Need) -> Finding:
    memory = config.runtime.memory
    context = f", lower {memory.context}" if memory and memory.plan == "vllm" else ", shorten the traffic's requests"
    reason = (
        f"weights {found.weights_gib:.1f} + KV {found.least_kv_gib:.1f} GiB for one request of {found.least_kv_tokens} "
        f"tokens do not fit {found.most_gib:.1f} of {found.gpu_gib:.1f} GiB per GPU; {_more_gpus(config)}{context}"
    )
    return Finding(rule="kv_too_small", verdict="refused", reason=reason, source=_SOURCE)


def _tight(config: Config, knobs: Knobs, found: Need) -> Finding:
    memory = config.runtime.memory
    smaller = ""
    if memory and config.model.arch and (_kv_size(knobs.get(memory.kv_dtype), config.model.arch) or 0) > 1:
        smaller = f", set {memory.kv_dtype}={'fp8_e5m2' if memory.plan == 'sglang' else 'fp8'}"
    starts = found.weights_gib + found.reserve_gib < found.gpu_gib
    follows = "requests will wait or be preempted" if starts else "the engine may not start"
    reason = (
        f"weights {found.weights_gib:.1f} + reserve {found.reserve_gib:.1f} + KV {found.kv_gib:.1f} GiB for "
        f"{found.requests} x {found.request_tokens} tokens = {found.total_gib:.1f} of {found.gpu_gib:.1f} GiB per GPU: "
        f"{follows}; {_more_gpus(config)}{smaller}, or lower the concurrency"
    )
    return Finding(rule="tight", verdict="warned", reason=reason, source=_SOURCE)


def _more_gpus(config: Config) -> str:
    return f"raise {config.runtime.gpu_knobs[0]}" if config.runtime.gpu_knobs else "use a larger GPU"


_SOURCE = "pipeline/models/memory.py"
