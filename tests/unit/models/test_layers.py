"""What a config.json says of its layers, in the ways of a dozen families."""

from typing import Any

import pytest

from pipeline.models import config_json, layers
from pipeline.models.config_json import Card

SHORT = {"attention": "a", "gdn": "g", "kda": "k", "mamba1": "m", "mamba2": "M", "lightning": "l", "conv": "c"}


def spelled(config: dict[str, Any], count: int = 8) -> str:
    """A letter for each layer; a capital W for attention in a window, - for an MLP alone, E for experts alone."""
    found = layers.of(config_json.of({"num_hidden_layers": count, **config}))
    assert found.unread is None

    def letter(layer: layers.Layer) -> str:
        if not layer.mixer:
            return "-" if layer.mlp == "dense" else "E"
        return "W" if layer.window else {**SHORT, "both": "b"}[layer.mixer]

    return "".join(map(letter, found.each))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "aaaaaaaa"),
        ({"layer_types": ["sliding_attention", "full_attention"] * 4, "sliding_window": 8}, "WaWaWaWa"),
        ({"layer_types": ["linear_attention", "full_attention"] * 4, "linear_num_value_heads": 2}, "gagagaga"),
        ({"layer_types": ["mamba"] * 7 + ["attention"], "mamba_n_heads": 2}, "MMMMMMMa"),
        ({"layer_types": ["conv", "conv", "full_attention", "conv"] * 2, "conv_L_cache": 3}, "ccacccac"),
        ({"layer_types": ["deepseek_sparse_attention"] * 8}, "aaaaaaaa"),
        ({"full_attention_interval": 4, "linear_num_value_heads": 2}, "gggaggga"),
        ({"model_type": "qwen3_next"}, "gggaggga"),
        ({"hybrid_override_pattern": "M-M*-EM*"}, "M-Ma-EMa"),
        ({"layers_block_type": ["linear_attention", "mlp", "full_attention", "moe"]}, "M-aE"),
        ({"attn_layer_period": 4, "attn_layer_offset": 2, "mamba_d_state": 16}, "mmammmam"),
        ({"linear_attn_config": {"kda_layers": [1, 2, 3, 5, 6, 7], "full_attn_layers": [4, 8]}}, "kkkakkka"),
        ({"linear_attn_config": {"kda_layers": [0, 1, 2], "full_attn_layers": [3]}}, "kkkaaaaa"),
        ({"full_attn_idxs": [2, 5]}, "ccaccacc"),
        ({"model_type": "falcon_h1"}, "bbbbbbbb"),
        ({"attn_type_list": [0, 0, 0, 1, 0, 0, 0, 1]}, "lllallla"),
        ({"attn_type_list": [1] * 8}, "aaaaaaaa"),
        ({"hybrid_layer_pattern": [0, 1, 1, 1, 0, 1, 1, 1], "sliding_window": 128}, "aWWWaWWW"),
        ({"attention_chunk_size": 8192}, "WWWaWWWa"),
        ({"attention_chunk_size": 8192, "no_rope_layers": [1, 0] * 4}, "WaWaWaWa"),
        ({"model_type": "llama4", "text_config": {"num_hidden_layers": 8}}, "WWWaWWWa"),
        ({"sliding_window": 4096}, "WWWWWWWW"),
        ({"sliding_window": 4096, "use_sliding_window": False}, "aaaaaaaa"),
        ({"sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 6}, "aaaaaaWW"),
        ({"model_type": "mistral", "sliding_window": None}, "aaaaaaaa"),
        ({"model_type": "gemma3_text"}, "WWWWWaWW"),
        ({"model_type": "gemma3_text", "sliding_window_pattern": 2}, "WaWaWaWa"),
        ({"sliding_window": 4096, "sliding_window_pattern": "LLLG"}, "WWWaWWWa"),
        ({"model_type": "gpt_oss"}, "WaWaWaWa"),
    ],
    ids=[
        "plain", "list-of-windows", "list-of-deltas", "list-of-mamba", "list-of-convolutions", "list-of-sparse",
        "interval", "interval-by-default", "nemotron", "nemotron-in-words", "jamba", "kimi", "kimi-from-0", "lfm2",
        "falcon", "minimax-text", "minimax-m2", "mimo", "llama4", "llama4-listed", "llama4-by-default", "mistral",
        "qwen2-off", "qwen2-on", "no-window", "gemma3", "gemma3-pattern", "exaone4", "gpt-oss",
    ],
)  # fmt: skip
def test_layers_are_read_as_the_family_says_them(config: dict[str, Any], expected: str) -> None:
    assert spelled(config) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, set()),
        ({"num_experts": 4}, {*range(8)}),
        ({"num_experts": 4, "decoder_sparse_step": 2, "mlp_only_layers": [3]}, {1, 5, 7}),
        ({"n_routed_experts": 4, "first_k_dense_replace": 3, "moe_layer_freq": 1}, {3, 4, 5, 6, 7}),
        ({"n_routed_experts": 4, "moe_layer_freq": [0, 1, 1, 0]}, {1, 2}),
        ({"num_local_experts": 4, "interleave_moe_layer_step": 2}, {1, 3, 5, 7}),
        ({"num_local_experts": 4, "moe_layers": [0, 4]}, {0, 4}),
        ({"num_experts": 4, "expert_layer_period": 2, "expert_layer_offset": 1}, {1, 3, 5, 7}),
        ({"num_experts": 4, "mlp_layer_types": ["dense"] * 6 + ["sparse"] * 2}, {6, 7}),
        ({"num_experts": 4, "num_dense_layers": 2}, {2, 3, 4, 5, 6, 7}),
        ({"num_experts": 4, "enable_moe_block": False}, set()),
    ],
    ids=["dense", "all", "qwen", "deepseek", "mimo", "llama4", "listed", "jamba", "kinds", "lfm2", "gemma4-dense"],
)
def test_layers_with_experts_are_read_as_the_family_says_them(config: dict[str, Any], expected: set[int]) -> None:
    assert layers.sparse(Card(config), 8) == expected
    found = layers.of(Card({"num_hidden_layers": 8, **config}))
    assert {number for number, layer in enumerate(found.each) if layer.mlp == "sparse"} == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"text_config": {"hidden_size": 8}, "hidden_size": 4}, 8),
        ({"llm_config": {"hidden_size": 8}}, 8),
        ({"thinker_config": {"text_config": {"hidden_size": 8}}}, 8),
        ({"model_type": "gemma3", "text_config": {}}, 2304),
        ({"model_type": "gemma3", "text_config": {"hidden_size": None}}, 0),
        ({"model_type": "unheard_of"}, 0),
    ],
    ids=["text", "llm", "thinker", "by-default", "said-to-be-nothing", "unknown-class"],
)
def test_the_language_model_is_found_wherever_it_is(config: dict[str, Any], expected: int) -> None:
    assert config_json.of(config).whole("hidden_size") == expected
