"""Parameters counted from config.json, against those that the makers publish. shapes/: families without an option."""

import json
from pathlib import Path

import pytest

from pipeline.core.errors import ModelError
from pipeline.models import config_json, layers, model_card, parameters
from pipeline.models.config_json import Card

FOLDERS = [Path(__file__).parent / name for name in ("model_cards", "shapes")]
CARDS = {path.stem: path for folder in FOLDERS for path in sorted(folder.glob("*.json"))}
# Billions, all and active, from the models' cards on the hub and their papers; counts of active ones differ in whether
# the embedding is in them
PUBLISHED = {
    "deepseek_r1_0528": (671, 37),
    "deepseek_v3": (671, 37),
    "deepseek_v32": (671, 37),
    "falcon_h1_34b": (33.6, 33.6),
    "gemma2_9b": (9.24, 9.24),
    "gemma3_12b": (11.8, 11.8),
    "gemma3_27b": (27, 27),
    "gemma3_4b": (3.88, 3.88),
    "gemma4_31b": (30.7, 30.7),
    "glm45_air": (106, 12),
    "glm46_fp8": (355, 32),
    "glm5_fp8": (744, 40),
    "gpt_oss_120b": (116.83, 5.13),
    "gpt_oss_20b": (20.91, 3.61),
    "granite4_h_small": (32, 9),
    "jamba15_large": (398, 94),
    "jamba15_mini": (52, 12),
    "kimi_k2": (1026, 32),
    "kimi_k2_thinking": (1026, 32),
    "kimi_linear_48b": (49, 3),
    "lfm2_8b_a1b": (8.3, 1.5),
    "llama31_405b_fp8": (405.9, 405.9),
    "llama31_8b": (8.03, 8.03),
    "llama32_1b": (1.236, 1.236),
    "llama33_70b": (70.55, 70.55),
    "llama4_maverick_fp8": (400, 17),
    "llama4_scout": (108, 17),
    "minimax_m2": (229, 10),
    "mistral_7b_v01": (7.24, 7.24),
    "mistral_small_24b": (23.6, 23.6),
    "mixtral_8x7b": (46.7, 12.9),
    "nemotron3_nano_30b": (31.6, 3.6),
    "nemotron_nano_9b_v2": (8.9, 8.9),
    "phi4": (14.7, 14.7),
    "qwen35_122b_a10b": (122, 10),
    "qwen35_27b": (27, 27),
    "qwen35_35b_a3b": (35, 3),
    "qwen35_397b_a17b": (397, 17),
    "qwen35_9b": (9, 9),
    "qwen36_35b_a3b": (35, 3),
    "qwen38_27b": (27, 27),
    "qwen3_0_6b": (0.6, 0.6),
    "qwen3_14b": (14.8, 14.8),
    "qwen3_235b_a22b_fp8": (235, 22),
    "qwen3_30b_a3b": (30.5, 3.3),
    "qwen3_32b": (32.8, 32.8),
    "qwen3_32b_awq": (32.8, 32.8),
    "qwen3_4b": (4.0, 4.0),
    "qwen3_8b": (8.2, 8.2),
    "qwen3_coder_30b_a3b": (30.5, 3.3),
    "qwen3_coder_480b_fp8": (480, 35),
    "qwen3_next_80b_a3b": (80, 3),
}
# What transformers 5.19.0 builds of the same config.json, on its meta device, in billions: biases and norms are in it
BUILT = {
    "falcon_h1_34b": 33.642,
    "gemma4_31b": 30.697,
    "glm5_fp8": 743.911,
    "gpt_oss_120b": 116.829,
    "granite4_h_small": 32.207,
    "jamba15_large": 398.555,
    "kimi_linear_48b": 49.123,
    "lfm2_8b_a1b": 8.340,
    "llama4_maverick_fp8": 400.712,
    "minimax_m2": 228.690,
    "nemotron3_nano_30b": 31.578,
    "nemotron_nano_9b_v2": 8.888,
    "qwen35_397b_a17b": 396.346,
    "qwen3_next_80b_a3b": 79.674,
}


def card(name: str) -> Card:
    return config_json.of(json.loads(CARDS[name].read_text()), CARDS[name])


def counted(name: str) -> tuple[float, float]:
    found = card(name)
    total, active = parameters.totals(parameters.parts(found, layers.of(found).each))
    return total / 1e9, active / 1e9


def test_every_card_has_a_published_number() -> None:
    assert {*PUBLISHED, "deepseek_v4_flash"} == {*CARDS}


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items(), ids=PUBLISHED)
def test_parameters_are_the_published_ones(name: str, published: tuple[float, float]) -> None:
    total, active = counted(name)
    embedding = card(name).number("vocab_size") * card(name).number("hidden_size") / 1e9
    assert total == pytest.approx(published[0], rel=0.02)
    # whole billions are rounded down by some, and leave out one matrix of the vocabulary or both
    assert published[1] * 0.97 - 0.01 <= active <= (published[1] + 1) * 1.02 + 2 * embedding


@pytest.mark.parametrize(("name", "built"), BUILT.items(), ids=BUILT)
def test_parameters_are_those_that_transformers_builds(name: str, built: float) -> None:
    assert counted(name)[0] == pytest.approx(built, rel=0.0005)


def test_parts_that_are_not_known_are_not_guessed() -> None:
    made = Card({**card("gemma3_4b").keys, "altup_num_inputs": 4})
    with pytest.raises(ModelError, match="stands for parameters that are not counted"):
        parameters.parts(made, layers.of(made).each)


def test_a_layout_that_is_not_known_leaves_out_memory_and_keeps_the_rest() -> None:
    found = model_card.architecture(card("deepseek_v4_flash"))
    assert (found.caches, found.weights_gib, found.parameters_b) == (None, None, None)
    assert (found.name, found.layers, found.heads) == ("DeepseekV4ForCausalLM", 43, 64)
    assert found.unread == ("'compress_ratios' says that its layers keep tokens in a way that is not known here",)
