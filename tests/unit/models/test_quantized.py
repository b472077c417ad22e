"""Bytes of a weight in every format that checkpoints have."""

from typing import Any

import pytest

from pipeline.core.errors import ModelError
from pipeline.models import quantized
from pipeline.models.config_json import Card
from pipeline.models.parameters import Part

PARTS = (
    Part("model.embed_tokens", 1000),
    Part("lm_head", 1000),
    Part("model.layers.0.self_attn.o_proj", 2000),
    Part("model.layers.0.mlp.gate_proj", 500),
    Part("model.layers.0.mlp.down_proj", 500),
    Part("model.layers.1.self_attn.o_proj", 2000),
    Part("model.layers.1.mlp.gate", 100),
    Part("model.layers.1.mlp.experts.0.down_proj", 90_000, 0.1, is_expert=True),
    Part("model.layers.1.mlp.shared_experts.down_proj", 3000),
    Part("vision_tower", 700),
)
WHOLE = 2 * 2100  # the vocabulary's matrices and the router
LINEAR = 98_000 + 700


def bits(config: dict[str, Any], parts: tuple[Part, ...] = PARTS) -> float:
    """Bits of a weight that is quantized, where all that may be are."""
    size = quantized.size(Card({"quantization_config": config}), parts, "bfloat16")
    return (size - WHOLE) / LINEAR * 8


def group(**weights: Any) -> dict[str, Any]:
    return {"quant_method": "compressed-tensors", "config_groups": {"0": {"targets": ["Linear"], "weights": weights}}}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"quant_method": "fp8"}, 8),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + 32 / 128**2),
        ({"quant_method": "fbgemm_fp8"}, 8),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4 + 20 / 128),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, 4 + 20 / 64),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, 8 + 24 / 128),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, 4),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128}, 4 + 20 / 128),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4.5),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True}, 4.127),
        ({"quant_method": "mxfp4"}, 4.25),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, 8),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4.5),
        ({"quant_algo": "NVFP4"}, 4.5),
        ({"quant_method": "modelopt_fp4"}, 4.5),
        ({"quant_method": "modelopt", "quant_algo": "W4A16_AWQ", "group_size": 128}, 4 + 20 / 128),
        (group(num_bits=4, type="int", strategy="group", group_size=128), 4 + 16 / 128),
        (group(num_bits=8, type="float", strategy="channel"), 8),
        (group(num_bits=8, type="int", strategy="channel"), 8),
        (group(num_bits=4, type="float", strategy="tensor_group", group_size=16), 4.5),
    ],
    ids=[
        "fp8", "fp8-blocks", "fbgemm", "awq", "awq-old-words", "gptq-8", "gptq-no-groups", "auto-round", "bnb-8",
        "bnb-4", "bnb-4-twice", "mxfp4", "modelopt-fp8", "modelopt-nvfp4", "modelopt-bare", "modelopt-fp4",
        "modelopt-awq", "w4a16", "fp8-dynamic", "w8a8", "nvfp4",
    ],
)  # fmt: skip
def test_a_weight_takes_its_bits_and_its_share_of_a_scale(config: dict[str, Any], expected: float) -> None:
    assert bits(config) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("names", "left"),
    [
        ([], 0),
        (["lm_head"], 0),
        (["re:.*self_attn.*"], 4000),
        (["model.layers.*.self_attn"], 4000),
        (["self_attn"], 4000),
        (["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.o_proj"], 2000),
        (["language_model.model.layers.1.self_attn*"], 2000),
        (["model.layers.0.mlp.gate_proj"], 500),
        (["re:.*feed_forward.gate_proj", "re:.*feed_forward.down_proj"], 1000),
        (["re:.*mlp\\.(gate|up|gate_up|down)_proj.*"], 1000),
        (["re:.*shared_expert.*"], 3000),
        (["re:("], 0),
        (["vision_tower"], 700),
        (["gate", "e_score_correction_bias"], 500),
    ],
)
def test_what_the_file_lists_stays_whole(names: list[str], left: int) -> None:
    whole = bits({"quant_method": "fp8"})
    for key in ("ignore", "modules_to_not_convert", "exclude_modules", "ignored_layers"):
        found = bits({"quant_method": "fp8", key: names})
        assert (found - whole) * LINEAR / 8 == pytest.approx(left)


def test_gptq_leaves_out_by_rules_of_its_own() -> None:
    found = bits({"quant_method": "gptq", "bits": 4, "group_size": -1, "dynamic": {"-:.*self_attn.*": {}}})
    assert found == pytest.approx((4 * (LINEAR - 4000) + 16 * 4000) / LINEAR)


def test_groups_may_have_widths_of_their_own() -> None:
    config = {
        "quant_method": "compressed-tensors",
        "config_groups": {
            "experts": {"targets": ["re:.*experts.*"], "weights": {"num_bits": 4, "type": "int"}},
            "attention": {"targets": ["re:.*self_attn.*"], "weights": {"num_bits": 8, "type": "float"}},
        },
    }
    rest = LINEAR - 93_000 - 4000
    assert bits(config) == pytest.approx((4 * 93_000 + 8 * 4000 + 16 * rest) / LINEAR)


def test_the_output_matrix_is_quantized_where_the_file_says_so() -> None:
    size = [
        quantized.size(
            Card({"quantization_config": {"quant_method": "gptq", "bits": 8, "group_size": -1, "lm_head": is_on}}),
            PARTS,
            "float16",
        )
        for is_on in (True, False)
    ]
    assert size[1] - size[0] == 1000


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"quant_method": "hqq"}, "quant_method 'hqq' in config.json is not known here"),
        ({"quant_method": "compressed-tensors"}, "how many bits a weight of quant_method 'compressed-tensors' takes"),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "how many bits a weight of quant_method"),
    ],
)
def test_a_format_that_is_not_known_is_not_guessed(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        bits(config)


def test_a_model_that_is_not_quantized_has_its_dtype() -> None:
    assert quantized.size(Card({}), PARTS, "float32") == 4 * sum(part.count for part in PARTS)
    assert quantized.method(Card({"quantization_config": {}})) is None
