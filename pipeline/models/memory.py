"""The memory check before deploying: whether weights and KV cache fit the GPUs. Pure.

A trial is refused only if the engine cannot start (or serve one request of the traffic) even under the most favourable
assumptions: WEIGHT_SLACK off the weights, no activations, nothing else on the GPU. If the tokens of the busiest level
do not all fit the remaining memory, the trial is only warned: requests will queue or be preempted.

Not modelled: with pipeline parallelism, the first stage holds the embedding and the last one the output matrix; with
tensor parallelism, every GPU holds the norms and an MLA model's low-rank projections.
"""

import math
from dataclasses import replace

from pipeline.core import traffic_size
from pipeline.core.findings import Finding
from pipeline.core.schema import Config
from pipeline.core.schema_engine import Memory
from pipeline.core.schema_model import Architecture
from pipeline.core.values import Scalar, value
from pipeline.engines import catalogue
from pipeline.models import drafts, kv_cache
from pipeline.models.drafts import Draft
from pipeline.models.kv_cache import Knobs, Parallelism

RULES = frozenset({"does_not_fit", "kv_too_small", "tight", "memory_unknown", "draft_unknown"})
GIB = 2**30
MIB_PER_GIB = 1024
# DeepSeek-V3's files hold 2.1 % and GLM-4.6's 2.4 % for a layer that is loaded for speculation only
WEIGHT_SLACK = 0.03
# what takes memory from elsewhere or changes the model: the sum would be of something else
_BEYOND = ("quantization", "cpu_offload_gb", "offload_group_size", "kv_cache_memory_bytes", "hf_overrides")
_SHORT = ("tp", "pp", "dp", "q", "json_model_override_args")  # beside the knobs' own names, in runtime.extra_args
_CONTEXT_PARALLEL = ("dcp_size", "decode_context_parallel_size")
VLLM_FRACTION = 0.92  # where no catalogue says it; 0.9 up to vLLM 0.19.1


@value
class Need:
    """The memory needed on one GPU, in GiB; of several GPUs, on the fullest."""

    gpu_gib: float
    weights_gib: float
    draft_gib: float  # weights of a draft model
    least_weights_gib: float  # of both, on the kindest reading
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
        return self.loaded_gib + self.reserve_gib + self.kv_gib

    @property
    def loaded_gib(self) -> float:
        """Weights of the model, and of what drafts for it."""
        return self.weights_gib + self.draft_gib


def check(config: Config, knobs: Knobs) -> tuple[Finding, ...]:
    """The findings about a trial's memory; empty if it cannot be computed. `knobs`: after rewriting.

    What is not known of the model is said, and only the check that needs it is left out.
    """
    arch = config.model.arch
    if config.runtime.memory is None or not config.hardware.gpu_memory_gib:
        return ()
    unknown = () if arch and arch.weights_gib and arch.caches is not None else (_unknown(config),)
    found = need(config, knobs)
    if found is None:
        return unknown
    if found.least_weights_gib > found.most_gib:
        return (_does_not_fit(config, found),)
    beside = drafts.findings(config, knobs)
    if unknown:
        return (*unknown, *beside)
    if found.least_weights_gib + found.least_kv_gib > found.most_gib:
        return (_kv_too_small(config, found),)
    return (*((_tight(config, knobs, found),) if found.total_gib > found.gpu_gib else ()), *beside)


def need(config: Config, knobs: Knobs) -> Need | None:
    """The sum; None without the numbers, or where a knob changes what is summed. Without the model's caches, no KV."""
    memory, arch, gpu = config.runtime.memory, config.model.arch, config.hardware.gpu_memory_gib
    if memory is None or arch is None or gpu is None or arch.weights_gib is None or _is_beyond(config, knobs, memory):
        return None
    size = kv_cache.element_bytes(knobs.get(memory.kv_dtype), arch)
    if size is None:
        return None
    spread = parallelism(config, knobs)
    request = math.ceil(traffic_size.certain(config.traffic))
    requests = _requests(config, knobs, memory, spread)
    share = kv_cache.Share(arch=arch, size=size, spread=spread, plan=memory.plan, knobs=knobs)
    least_tokens = _least_tokens(knobs, memory, arch, request)
    kindest = replace(share, size=_least_kv_size(knobs.get(memory.kv_dtype), arch), is_kindest=True)
    weights = weights_gib(arch, spread, splits_experts=memory.plan == "vllm")
    reserve, most = _shares(config, knobs, memory, spread, gpu)
    draft = drafts.of(config, knobs)
    least_draft = _least_draft_gib(draft, spread)
    if memory.plan == "sglang" and knobs.get(memory.fraction) is not None:
        most = min(gpu, most + least_draft)  # releases that load it after the pool take it from the rest
    return Need(
        gpu_gib=gpu,
        weights_gib=weights * math.ceil(arch.layers / spread.pipeline) * spread.pipeline / arch.layers,
        draft_gib=draft.weights_gib / draft.tensor(share),
        least_weights_gib=weights * _least_share(arch) * (1 - WEIGHT_SLACK) + least_draft,
        reserve_gib=reserve,
        kv_gib=(kv_cache.pool_bytes(share, requests, request) + draft.pool_bytes(share, requests, request)) / GIB,
        least_kv_gib=(kv_cache.request_bytes(kindest, least_tokens) + draft.request_bytes(kindest, least_tokens)) / GIB,
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


def weights_gib(arch: Architecture, spread: Parallelism, *, splits_experts: bool = False) -> float:
    """Weights of one GPU: split over tensor (experts within it) and pipeline, not over replicas. 0: not known.

    `splits_experts`: replicas share the experts, as vLLM's do (docs/serving/data_parallel_deployment.md). The experts'
    part follows from both counts: active = rest + experts * experts_per_token / experts.
    """
    whole = (arch.weights_gib or 0.0) / (spread.tensor * spread.pipeline)
    is_alike = not arch.experts or arch.experts == arch.experts_per_token
    if not splits_experts or spread.data == 1 or not arch.experts or is_alike or not arch.parameters_b:
        return whole
    used = (arch.experts_per_token or 1) / arch.experts
    part = min(1.0, (1 - (arch.active_parameters_b or arch.parameters_b) / arch.parameters_b) / (1 - used))
    return whole * (1 - part + part / spread.data)


def _least_share(arch: Architecture) -> float:
    """The share of the files that is loaded at least: a tied matrix stored twice (Qwen3-0.6B) is loaded once."""
    if arch.quantization or not arch.parameters_b or not arch.weights_gib:
        return 1.0
    return min(1.0, arch.parameters_b * 1e9 * kv_cache.BYTES[arch.dtype] / GIB / arch.weights_gib)


def _least_draft_gib(draft: Draft, spread: Parallelism) -> float:
    """Of a draft model's weights on one GPU, what is loaded on the kindest reading."""
    share = _least_share(draft.arch) if draft.arch and draft.is_whole else 1.0
    return draft.least_gib * share * (1 - WEIGHT_SLACK) / spread.tensor


def _least_kv_size(dtype: Scalar | None, arch: Architecture) -> float:
    """A quantized checkpoint may ask for a KV cache of one byte where it is left to the engine."""
    size = kv_cache.element_bytes(dtype, arch) or 0
    return min(size, 1.0) if arch.quantization and dtype in {None, "auto"} else size


def _requests(config: Config, knobs: Knobs, memory: Memory, spread: Parallelism) -> int:
    """Requests that run at once in one replica of the attention."""
    waiting = math.ceil(config.traffic.most_open / (spread.data * spread.attention_data))
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
    if (groups := spread.attention_data) > 1:  # divided attention pads, the more the larger the batch
        total += batch * groups * (3 if batch <= 300 else 4.5)
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
    arch, name = config.model.arch, config.model.name
    if arch is not None:
        left = "memory" if arch.weights_gib is None else "the KV cache"
        why = "; ".join(arch.unread) or "model.arch does not say it"
        reason = f"{left} is not checked for model={name}: {why}. Set it in model.arch, or runtime.memory=null"
    elif config.model.unread:
        reason = f"memory and compatibility are not checked for model={name}: {config.model.unread}"
    else:
        reason = (
            f"set model.path to a folder with a config.json, or model.arch: without the architecture of "
            f"model={name}, memory and compatibility checks are skipped"
        )
    return Finding(rule="memory_unknown", verdict="warned", reason=reason, source=_SOURCE)


def loaded(found: Need) -> str:
    """The weights in words."""
    draft = f" + draft model {found.draft_gib:.1f}" if found.draft_gib else ""
    return f"weights {found.weights_gib:.1f}{draft}"


def _does_not_fit(config: Config, found: Need) -> Finding:
    reason = (
        f"{loaded(found)} GiB do not fit {found.most_gib:.1f} of {found.gpu_gib:.1f} GiB per GPU "
        f"(nor does the lowest estimate, {found.least_weights_gib:.1f} GiB); {_more_gpus(config)}, "
        f"or use a smaller or quantized model"
    )
    return Finding(rule="does_not_fit", verdict="refused", reason=reason, source=_SOURCE)


def _kv_too_small(config: Config, found: Need) -> Finding:
    memory = config.runtime.memory
    context = f", lower {memory.context}" if memory and memory.plan == "vllm" else ", shorten the traffic's requests"
    reason = (
        f"{loaded(found)} + KV {found.least_kv_gib:.1f} GiB for one request of {found.least_kv_tokens} "
        f"tokens do not fit {found.most_gib:.1f} of {found.gpu_gib:.1f} GiB per GPU; {_more_gpus(config)}{context}"
    )
    return Finding(rule="kv_too_small", verdict="refused", reason=reason, source=_SOURCE)


def _tight(config: Config, knobs: Knobs, found: Need) -> Finding:
    memory = config.runtime.memory
    smaller = ""
    arch = config.model.arch
    if memory and arch and (kv_cache.element_bytes(knobs.get(memory.kv_dtype), arch) or 0) > 1:
        smaller = f", set {memory.kv_dtype}={'fp8_e5m2' if memory.plan == 'sglang' else 'fp8'}"
    starts = found.loaded_gib + found.reserve_gib < found.gpu_gib
    follows = "requests will wait or be preempted" if starts else "the engine may not start"
    reason = (
        f"{loaded(found)} + reserve {found.reserve_gib:.1f} + KV {found.kv_gib:.1f} GiB for "
        f"{found.requests} x {found.request_tokens} tokens = {found.total_gib:.1f} of {found.gpu_gib:.1f} GiB per GPU: "
        f"{follows}; {_more_gpus(config)}{smaller}, or lower the concurrency"
    )
    return Finding(rule="tight", verdict="warned", reason=reason, source=_SOURCE)


def _more_gpus(config: Config) -> str:
    return f"raise {config.runtime.gpu_knobs[0]}" if config.runtime.gpu_knobs else "use a larger GPU"


_SOURCE = "pipeline/models/memory.py"
