"""Bytes of KV cache and states: of published models, and how they are split over GPUs."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.schema_model import Architecture, Cache, State
from pipeline.core.values import parse
from pipeline.models import kv_cache
from pipeline.models.kv_cache import Parallelism, Share
from support.groups import group

KIB, MIB, GIB = 2**10, 2**20, 2**30


def arch(model: str, **changes: Any) -> Architecture:
    return parse(Architecture, {**group("model", model)["arch"], **changes})


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("llama31_8b", 128 * KIB),  # arXiv 2407.21783, table 3
        ("llama33_70b", 320 * KIB),
        ("llama31_405b_fp8", 516_096),  # arXiv 2505.09343, table 1
        ("qwen3_8b", 144 * KIB),
        ("mixtral_8x7b", 128 * KIB),
        ("deepseek_v3", 70_272),  # arXiv 2505.09343, table 1
        ("kimi_k2", 70_272),
        ("deepseek_v32", 70_272 + 61 * 132),  # SGLang 0.5.23, pool_configurator.py:560: a byte, a scale for 128
        ("minimax_m2", 248 * KIB),  # 240 GB for a million tokens: vLLM's recipe of MiniMax-M2
        ("qwen3_235b_a22b_fp8", 188 * KIB),
    ],
)
def test_bytes_of_a_token_are_the_published_ones(model: str, expected: int) -> None:
    assert kv_cache.token_bytes(Share(arch=arch(model), size=2)) == expected


@pytest.mark.parametrize(
    ("model", "tokens", "expected"),
    [
        ("nemotron_nano_9b_v2", 131_072, 2.0),  # 4 of its 56 layers attend: arXiv 2508.14444
        ("qwen3_next_80b_a3b", 262_144, 6.0),  # 12 of 48
        ("qwen35_27b", 262_144, 16.0),  # 16 of 64
        ("jamba15_mini", 262_144, 4.0),  # 4 GB: arXiv 2408.12570, table 1
        ("kimi_linear_48b", 1_048_576, 7.875),  # 7 of 27, MLA: arXiv 2510.26692
        ("nemotron3_nano_30b", 262_144, 1.5),  # 6 of 52
    ],
)
def test_only_layers_that_attend_keep_tokens(model: str, tokens: int, expected: float) -> None:
    share = Share(arch=arch(model), size=2)
    assert tokens * kv_cache.token_bytes(share) / GIB == pytest.approx(expected)
    states = kv_cache.state_bytes(share)
    assert kv_cache.request_bytes(share, tokens) == tokens * kv_cache.token_bytes(share) + states


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # (2 x 16 x 128 + 32 x 128) x 3 of the convolution, 32 x 128 x 128 of the state
        ("qwen3_next_80b_a3b", 36 * (24_576 * 2 + 524_288 * 2)),
        ("qwen35_35b_a3b", 30 * (24_576 * 2 + 524_288 * 4)),
        ("kimi_linear_48b", 20 * (36_864 * 2 + 524_288 * 4)),
        # (128 x 80 + 2 x 8 x 128) x 3, 128 x 80 x 128
        ("nemotron_nano_9b_v2", 27 * (36_864 * 2 + 1_310_720 * 4)),
        ("jamba15_mini", 28 * (24_576 * 2 + 131_072 * 2)),
    ],
)
def test_states_are_those_of_the_engines_formulas(model: str, expected: int) -> None:
    """vLLM 0.32.0, model_executor/layers/mamba/mamba_utils.py."""
    assert kv_cache.state_bytes(Share(arch=arch(model), size=2)) == expected


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(100, 36 * 100), (128, 36 * 128), (131_072, 18 * 131_072 + 18 * 128)],
    ids=["shorter-than-the-window", "as-long", "longer"],
)
def test_windows_are_summed(tokens: int, expected: int) -> None:
    share = Share(arch=arch("gpt_oss_120b"), size=2)
    assert kv_cache.request_bytes(share, tokens) == expected * 8 * 128 * 2
    whole = Share(arch=arch("gpt_oss_120b"), size=2, knobs={"disable_hybrid_kv_cache_manager": True})
    assert kv_cache.request_bytes(whole, tokens) == 36 * tokens * 8 * 128 * 2


def test_the_kv_cache_of_gpt_oss_is_what_llama_cpp_allocates() -> None:
    """18 layers of 131,072 cells take 4,608 MiB for each sequence: ollama/ollama issue 16480."""
    share = Share(arch=arch("gpt_oss_120b"), size=2)
    assert 131_072 * kv_cache.token_bytes(share) == 4608 * MIB


def test_sparse_attention_keeps_scales_beside_an_fp8_vector() -> None:
    share = Share(arch=arch("deepseek_v32"), size=1)
    assert kv_cache.token_bytes(share) == 61 * (656 + 132)
    assert kv_cache.token_bytes(replace(share, is_kindest=True)) == 61 * (576 + 132)
    assert kv_cache.token_bytes(replace(share, arch=arch("deepseek_v3"))) == 61 * 576


@pytest.mark.parametrize(
    ("model", "spread", "expected"),
    [
        ("llama33_70b", Parallelism(tensor=4), 80 * KIB),
        ("llama33_70b", Parallelism(tensor=8), 40 * KIB),
        ("llama33_70b", Parallelism(tensor=16), 40 * KIB),
        ("llama33_70b", Parallelism(pipeline=2), 160 * KIB),
        ("llama33_70b", Parallelism(data=2), 320 * KIB),
        ("llama33_70b", Parallelism(tensor=8, attention_data=8), 320 * KIB),
        ("llama33_70b", Parallelism(tensor=16, context=2), 20 * KIB),
        ("deepseek_v3", Parallelism(tensor=8), 70_272),
        ("deepseek_v3", Parallelism(pipeline=2), 31 * 576 * 2),
        ("deepseek_v3", Parallelism(tensor=8, context=8), 70_272 / 8),
        ("deepseek_v32", Parallelism(tensor=8, context=8), 70_272 / 8 + 61 * 132),
        ("qwen3_next_80b_a3b", Parallelism(tensor=4), 12 * 512 * 2),
    ],
    ids=[
        "heads-are-split", "one-head-each", "heads-are-replicated", "layers-are-split", "replicas-are-whole",
        "attention-replicas-are-whole", "tokens-are-split", "mla-is-replicated", "the-fuller-stage-counts",
        "mla-tokens-are-split", "the-index-is-replicated", "two-heads-on-four-gpus",
    ],
)  # fmt: skip
def test_a_token_is_split_over_gpus(model: str, spread: Parallelism, expected: float) -> None:
    assert kv_cache.token_bytes(Share(arch=arch(model), size=2, spread=spread)) == expected


@pytest.mark.parametrize(
    ("spread", "expected"),
    [
        (Parallelism(tensor=4), 27 * (36_864 * 2 + 1_310_720 * 4) / 4),
        (Parallelism(tensor=16), 27 * ((30_720 + 16 * 768) * 2 + 1_310_720 * 4) / 16),
        (Parallelism(tensor=8, attention_data=8), 27 * (36_864 * 2 + 1_310_720 * 4)),
        (Parallelism(pipeline=2), 14 * (36_864 * 2 + 1_310_720 * 4)),
    ],
    ids=["split", "a-group-on-each-gpu", "attention-replicas-are-whole", "stages"],
)
def test_states_are_split_over_gpus(spread: Parallelism, expected: float) -> None:
    assert kv_cache.state_bytes(Share(arch=arch("nemotron_nano_9b_v2"), size=2, spread=spread)) == expected


def test_the_type_of_states_is_the_knobs_then_the_models_then_the_engines() -> None:
    def state(plan: kv_cache.Plan = "vllm", model: str = "qwen3_next_80b_a3b", **knobs: Any) -> float:
        return kv_cache.state_bytes(Share(arch=arch(model), size=2, plan=plan, knobs=knobs)) / 36 - 24_576 * 2

    assert state() == 524_288 * 2
    assert state("sglang") == 524_288 * 4
    assert state("sglang", mamba_ssm_dtype="bfloat16") == 524_288 * 2
    assert state(mamba_ssm_cache_dtype="float32") == 524_288 * 4


HALF = Architecture(
    name="GptOssForCausalLM",
    attention="gqa",
    layers=2,
    hidden_size=64,
    heads=4,
    kv_heads=1,
    head_dim=1,
    dtype="bfloat16",
    context_tokens=1000,
    caches=(Cache(layers=1, kv_heads=1, elements=1), Cache(layers=1, kv_heads=1, elements=1, window=10)),
)


@pytest.mark.parametrize(
    ("changes", "knobs", "expected"),
    [
        ({}, {}, 3 * 100 * 1.8),
        ({}, {"swa_full_tokens_ratio": 0.1}, 3 * 100 * 1.1),
        ({}, {"swa_full_tokens_ratio": 0.01}, 3 * 1000 * 1.01),
        ({}, {"disable_hybrid_swa_memory": True}, 3 * 100 * 2),
        ({"name": "Gemma3ForCausalLM"}, {}, 3 * 100 * 2),
    ],
    ids=["usual-ratio", "asked-ratio", "window-pool-decides", "switched-off", "class-without-pools"],
)
def test_sglang_divides_its_pool_between_windows_and_the_rest(
    changes: dict[str, Any], knobs: dict[str, Any], expected: float
) -> None:
    changed = replace(HALF, **changes)
    share = Share(arch=changed, size=1, plan="sglang", knobs=knobs)
    assert kv_cache.pool_bytes(share, 3, 100) == pytest.approx(expected)
    assert kv_cache.pool_bytes(Share(arch=changed, size=1), 3, 100) == 3 * 110


@pytest.mark.parametrize(
    ("elements", "knobs", "expected"),
    [
        (1, {}, 3 * 3 * 1000 * 2 * 1.9 / 0.9),
        (1, {"disable_radix_cache": True}, 3 * 1000 * 2 * 1.9 / 0.9),
        (1000, {}, 3 * 100_000 * 1.9),
        (1000, {"mamba_full_memory_ratio": 0.1}, 3 * 100_000 * 1.1),
    ],
    ids=["states-decide", "without-radix-cache", "tokens-decide", "asked-ratio"],
)
def test_sglang_divides_its_pool_between_states_and_tokens(
    elements: int, knobs: dict[str, Any], expected: float
) -> None:
    caches = (Cache(layers=1, kv_heads=1, elements=elements),)
    states = (State(layers=1, convolution=0, recurrent=1000, dtype="float16"),)
    changed = replace(HALF, caches=caches, states=states)
    share = Share(arch=changed, size=1, plan="sglang", knobs=knobs)
    assert kv_cache.pool_bytes(share, 3, 100) == pytest.approx(expected)
