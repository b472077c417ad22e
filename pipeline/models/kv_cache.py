"""How many bytes of one GPU the KV cache and the states of requests take. Pure.

Source: SGLang 0.5.23, srt/model_executor/pool_configurator.py:340 and :656, mem_cache/kv_cache_configurator.py:3340;
vLLM 0.32.0, v1/kv_cache_interface.py (FullAttentionSpec, MLAAttentionSpec, SlidingWindowSpec, MambaSpec) and
config/model.py:1650; DeepSeek-V2, arXiv 2405.04434, table 1. Rounding to pages and equal groups of layers is left out.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.core.schema_model import Architecture, Cache, State
from pipeline.core.values import Scalar, value

Plan = Literal["sglang", "vllm"]
Knobs = Mapping[str, Scalar | None]
BYTES = {"bfloat16": 2.0, "float16": 2.0, "float32": 4.0}
KV_BYTES = {"bf16": 2.0, "fp16": 2.0, "half": 2.0, "float": 4.0, **BYTES}
FP4_BYTES = 0.5 + 1 / 16  # a byte of scale for 16 values: vLLM 0.33.0, utils/torch_utils.py:542
SCALED = 128  # elements that share a scale of 4 bytes
SWA_RATIO = 0.8  # SGLang 0.5.23, srt/arg_groups/fields/schedule.py:159: tokens in windows for each in whole layers
STATE_RATIO = 0.9  # :225: memory of states for each byte of KV cache
STATES_EACH = 3  # srt/mem_cache/kv_cache_configurator.py:227: states for each request, with the radix cache
# The classes whose windows SGLang keeps apart; others keep every token. 0.5.23, srt/configs/model_config.py:2655
SWA_CLASSES = ("Llama4", "GptOss", "Gemma4", "MiMoV2", "Step3p", "Laguna", "Mellum", "GraniteSWA", "GraniteMoeSWA")
STATE_TYPES = ("mamba_ssm_cache_dtype", "mamba_ssm_dtype")  # vLLM's and SGLang's knob
WHOLE_WINDOWS = ("disable_hybrid_kv_cache_manager", "disable_hybrid_swa_memory")  # vLLM's and SGLang's


@value
class Parallelism:
    """How a trial spreads over GPUs."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1  # replicas, each with its own share of the requests
    attention_data: int = 1  # replicas of the attention only, inside `tensor`
    context: int = 1  # GPUs of `tensor` that share a request's tokens


def element_bytes(dtype: Scalar | None, arch: Architecture) -> float | None:
    """Bytes of one element of the KV cache; None for a format that is not known here."""
    name = str(dtype or "auto")
    if name == "auto":
        return BYTES[arch.dtype]
    if name.startswith(("nvfp4", "fp4", "mxfp4")):
        return FP4_BYTES
    return 1.0 if name.startswith(("fp8", "int8", "mxfp8")) else KV_BYTES.get(name)


@dataclass(frozen=True)
class Share:
    """What one GPU holds of a model, by whom it is served. `size`: bytes of one element of the KV cache."""

    arch: Architecture
    size: float
    spread: Parallelism = field(default_factory=Parallelism)
    plan: Plan = "vllm"
    knobs: Knobs = field(default_factory=dict)
    is_kindest: bool = False  # the least that any backend may take, for what is refused


def token_bytes(share: Share) -> float:
    """Bytes that one more token takes for good: in the layers without a window."""
    return sum(_of_token(share, cache) for cache in share.arch.kept if cache.window is None)


def request_bytes(share: Share, tokens: float) -> float:
    """Bytes of one request of `tokens`: windows count as far as they are filled, states once.

    This is the least that holds them; what an engine sets apart may be more: `pool_bytes`.
    """
    is_whole = any(share.knobs.get(name) is True for name in WHOLE_WINDOWS)
    kept = sum(
        _of_token(share, cache) * (tokens if is_whole else min(tokens, cache.window or tokens))
        for cache in share.arch.kept
    )
    return kept + state_bytes(share)


def pool_bytes(share: Share, requests: int, tokens: int) -> float:
    """Bytes that the engine needs for its pools to hold `requests` of `tokens` at once.

    vLLM hands out blocks as they are needed. SGLang divides its memory by fixed ratios: between layers with and without
    a window, and between states and tokens.
    """
    if share.plan == "vllm":
        return requests * request_bytes(share, tokens)
    cached, state = requests * _window_pools(share, tokens), state_bytes(share)
    if not state:
        return cached
    each = 1 if share.knobs.get("disable_radix_cache") else STATES_EACH
    ratio = _ratio(share, "mamba_full_memory_ratio", STATE_RATIO)
    return max(cached * (1 + ratio), requests * each * state * (1 + ratio) / ratio)


def state_bytes(share: Share) -> float:
    """Bytes of one sequence's states on one GPU.

    Where neither a knob nor the model says it, vLLM keeps a recurrent state in the model's dtype, SGLang in float32.
    Source: vLLM 0.32.0, model_executor/layers/mamba/mamba_utils.py:104; SGLang 0.5.23, srt/configs/mamba_utils.py:47.
    """
    spread, own = share.spread, BYTES[share.arch.dtype]
    asked = next((KV_BYTES.get(str(said)) for name in STATE_TYPES if (said := share.knobs.get(name))), None)
    usual = 4.0 if share.plan == "sglang" and not share.is_kindest else own
    gpus = max(1, spread.tensor // spread.attention_data)
    total = 0.0
    for state in share.arch.states:
        recurrent = asked or (BYTES[state.dtype] if state.dtype else usual)
        each = _convolution(state, gpus) * own + state.recurrent / gpus * recurrent
        total += math.ceil(state.layers / spread.pipeline) * each
    return total


def _window_pools(share: Share, tokens: int) -> float:
    """Bytes that SGLang needs for one request: with a pool for windows, the fuller of both counts."""
    windowed = [cache for cache in share.arch.kept if cache.window is not None]
    whole, narrow = token_bytes(share), sum(_of_token(share, cache) for cache in windowed)
    has_pool = (share.arch.name or "").startswith(SWA_CLASSES) and not any(map(share.knobs.get, WHOLE_WINDOWS))
    if not whole or not windowed or not has_pool:
        return tokens * (whole + narrow)
    ratio = _ratio(share, "swa_full_tokens_ratio", SWA_RATIO)
    longest = max(min(tokens, cache.window or tokens) for cache in windowed)
    return max(tokens, longest / ratio) * (whole + ratio * narrow)


def _of_token(share: Share, cache: Cache) -> float:
    """Bytes of one token in these layers on the fullest GPU.

    Layers are split over the stages of a pipeline; heads over the GPUs of `tensor`, one at least on each. GPUs of
    `context` take turns with the tokens, but for windows and the index of sparse attention. Sparse attention keeps an
    FP8 vector with its scales, and the rotary part in 16 bit: 656 bytes for 576 elements; some backends keep it bare.
    Source: vLLM 0.32.0, model_executor/layers/attention/mla_attention.py:1365; SGLang 0.5.23,
    srt/mem_cache/kv_cache_configurator.py:3412.
    """
    spread = share.spread
    layers = math.ceil(cache.layers / spread.pipeline)
    turns = 1 if cache.window is not None else spread.context
    gpus = max(1, spread.tensor // spread.attention_data // turns)
    kept = max(1, cache.kv_heads // gpus) * cache.elements * share.size / turns
    if cache.index_bytes and share.size == 1.0 and not share.is_kindest:
        rank, rope = share.arch.kv_lora_rank or 0, share.arch.qk_rope_head_dim or 0
        kept = (rank + rank // SCALED * 4 + 2 * rope) / turns
    return layers * (kept + cache.index_bytes)


def _convolution(state: State, gpus: int) -> float:
    """Elements on one GPU. Groups that cannot be split evenly are copied, so that each GPU has one."""
    groups = state.groups if state.groups % gpus == 0 else max(state.groups, gpus)
    return (state.convolution + groups * state.of_group) / gpus


def _ratio(share: Share, name: str, usual: float) -> float:
    asked = share.knobs.get(name)
    return float(asked) if isinstance(asked, int | float) and asked > 0 else usual
