"""The architecture in a model's folder. model_cards/: the parts of the published config.json files that count."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir

from pipeline.config.command_line import composed, to_config
from pipeline.core.errors import ModelError
from pipeline.core.places import CONF
from pipeline.core.schema import Model
from pipeline.core.values import parse
from pipeline.models import memory, model_card

CARDS = sorted((Path(__file__).parent / "model_cards").glob("*.json"))
MODELS = {
    path.stem: parse(Model, {**yaml.safe_load(path.read_text()), "path": None})
    for path in sorted((CONF / "model").glob("*.yaml"))
}
TWICE = {"qwen3_0_6b", "deepseek_v3", "deepseek_r1_0528", "glm46_fp8"}  # their files hold what an engine does not load
SMALL: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}


def folder(path: Path, **changes: Any) -> Path:
    config = {name: item for name, item in {**SMALL, **changes}.items() if item is not None}
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_every_model_with_an_architecture_has_its_card() -> None:
    assert [path.stem for path in CARDS] == [name for name, model in MODELS.items() if model.arch]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_an_option_says_what_the_published_card_says(card: Path, tmp_path: Path) -> None:
    shutil.copy(card, tmp_path / "config.json")
    expected = MODELS[card.stem].arch
    assert expected is not None
    assert expected.weights_gib is not None
    index = {"metadata": {"total_size": expected.weights_gib * 2**30}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    found = model_card.read(tmp_path)
    assert found.parameters_b == pytest.approx(expected.parameters_b, rel=0.01)
    assert found.active_parameters_b == pytest.approx(expected.active_parameters_b, rel=0.01)
    assert found.weights_gib == pytest.approx(expected.weights_gib)
    assert found.caches == expected.caches
    assert found.states == expected.states
    same = {name: getattr(expected, name) for name in ("parameters_b", "active_parameters_b", "weights_gib", "unread")}
    assert replace(found, **same) == expected


@pytest.mark.parametrize("card", [card for card in CARDS if card.stem not in TWICE], ids=lambda card: card.stem)
def test_the_weights_of_an_option_are_those_of_its_card(card: Path, tmp_path: Path) -> None:
    shutil.copy(card, tmp_path / "config.json")
    expected = MODELS[card.stem].arch
    assert expected is not None
    assert model_card.read(tmp_path).weights_gib == pytest.approx(expected.weights_gib, rel=0.005)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"attention": "mha", "kv_heads": 4, "head_dim": 16, "dtype": "bfloat16", "quantization": None}),
        ({"num_key_value_heads": 1, "head_dim": 32}, {"attention": "gqa", "kv_heads": 1, "head_dim": 32}),
        ({"torch_dtype": "float16"}, {"dtype": "float16"}),
        ({"torch_dtype": "float16", "dtype": "float32"}, {"dtype": "float32"}),
        ({"quantization_config": {"quant_method": "awq"}}, {"quantization": "awq"}),
        ({"num_local_experts": 8, "num_experts_per_tok": 2}, {"experts": 8, "experts_per_token": 2}),
        ({"sliding_window": 128, "use_sliding_window": False}, {"caches": ()}),
        ({"hidden_size": None, "text_config": {"hidden_size": 32, "dtype": "float16"}}, {"hidden_size": 32}),
    ],
    ids=[
        "defaults", "grouped", "old-dtype", "new-dtype-wins", "quantized", "experts", "window-off", "multimodal",
    ],
)  # fmt: skip
def test_keys_of_many_makers_are_read(changes: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    found = model_card.read(folder(tmp_path, **changes))
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({}, 2 * 6400 + 2 * (4 * 64 * 64 + 3 * 64 * 128)),
        ({"tie_word_embeddings": True}, 6400 + 2 * (4 * 64 * 64 + 3 * 64 * 128)),
        ({"model_type": "gemma", "head_dim": 16, "num_key_value_heads": 4}, 6400 + 2 * (4 * 64 * 64 + 3 * 64 * 128)),
        (
            {"num_experts": 4, "num_experts_per_tok": 1, "moe_intermediate_size": 32, "mlp_only_layers": [0]},
            2 * 6400 + 2 * 4 * 64 * 64 + 3 * 64 * 128 + (64 * 4 + 4 * 3 * 64 * 32),
        ),
        (
            {
                "num_experts": 4,
                "num_experts_per_tok": 1,
                "shared_expert_intermediate_size": 8,
                "decoder_sparse_step": 2,
            },
            2 * 6400 + 2 * 4 * 64 * 64 + 3 * 64 * 128 + (64 * 4 + 4 * 3 * 64 * 128 + 3 * 64 * 8),
        ),
        (
            {"kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 4},
            2 * 6400 + 2 * (64 * 4 * 6 + 64 * 10 + 8 * 4 * 8 + 4 * 4 * 64 + 3 * 64 * 128),
        ),
    ],
    ids=["dense", "tied", "tied-by-default", "dense-layers", "sparse-step-and-shared", "mla-without-query-rank"],
)
def test_parameters_are_counted_from_the_shapes(changes: dict[str, Any], parameters: int, tmp_path: Path) -> None:
    assert model_card.read(folder(tmp_path, **changes)).parameters_b == pytest.approx(parameters / 1e9, rel=1e-9)


def test_weights_are_weighed_else_computed(tmp_path: Path) -> None:
    found = model_card.read(folder(tmp_path))
    assert found.weights_gib == pytest.approx((found.parameters_b or 0) * 1e9 * 2 / 2**30)
    quantized = model_card.read(folder(tmp_path, quantization_config={"quant_method": "fp8"}))
    matrices = 2 * 100 * 64  # of the vocabulary, which no engine quantizes
    assert quantized.weights_gib == pytest.approx(((found.parameters_b or 0) * 1e9 + matrices) / 2**30)
    for name in ("model-1", "model-2", "consolidated"):
        (tmp_path / f"{name}.safetensors").write_bytes(bytes(1024))
    assert model_card.read(tmp_path).weights_gib == 2048 / 2**30
    (tmp_path / "model.safetensors.index.json").write_text('{"metadata": {"total_size": 4096}}')
    assert model_card.read(tmp_path).weights_gib == 4096 / 2**30


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"hidden_size": None, "model_type": "mine"},
            "expected a positive number 'hidden_size', found None among ['architectures', 'intermediate_size', ",
        ),
        ({"num_hidden_layers": "two"}, "expected a positive number 'num_hidden_layers' or 'n_layer', found 'two'"),
        ({"dtype": "int3"}, "describes a model that servetune does not support"),
    ],
    ids=["missing", "not-a-number", "unknown-dtype"],
)
def test_a_card_that_cannot_be_used_says_why(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        model_card.read(folder(tmp_path, **changes))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"compress_ratios": [4, 128]},
            "'compress_ratios' says that its layers keep tokens in a way that is not known",
        ),
        ({"layer_types": ["full_attention", "memory"]}, "its layers of the kind 'memory' are not known here"),
        ({"hybrid_override_pattern": "M?"}, "its layers of the kind '?' are not known here"),
        ({"ssm_d_state": 16}, "'ssm_d_state' says that some layers keep a state, and nothing says which ones"),
        ({"layer_types": ["full_attention", "conv"], "conv_L_cache": 3}, ""),
    ],
    ids=["compressed", "unknown-kind", "unknown-letter", "states-nowhere", "known"],
)
def test_only_what_cannot_be_read_is_left_out(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    found = model_card.read(folder(tmp_path, **changes))
    assert (found.layers, found.hidden_size, found.heads) == (2, 64, 4)
    assert (found.caches is None) == (found.weights_gib is None) == bool(words)
    assert words in "; ".join(found.unread)


def test_weights_that_are_there_count_even_if_the_layers_are_not_known(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(4096))
    found = model_card.read(folder(tmp_path, compress_ratios=[4]))
    assert found.weights_gib == 4096 / 2**30
    assert found.parameters_b is None


def test_an_unknown_format_leaves_out_the_weights_alone(tmp_path: Path) -> None:
    found = model_card.read(folder(tmp_path, quantization_config={"quant_method": "aqlm"}))
    assert (found.weights_gib, found.caches) == (None, ())
    assert found.parameters_b
    assert "quant_method 'aqlm' in " in found.unread[0]


def test_modelopt_may_say_it_in_a_file_of_its_own(tmp_path: Path) -> None:
    whole = model_card.read(folder(tmp_path)).weights_gib or 0
    (tmp_path / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "NVFP4"}}')
    found = model_card.read(tmp_path)
    assert found.quantization == "modelopt"
    assert (found.weights_gib or 0) < whole


@pytest.mark.parametrize(("text", "words"), [(None, "No such file"), ("{", "as JSON"), ("[]", "expected an object")])
def test_a_folder_without_a_readable_card_says_so(text: str | None, words: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=words):
        model_card.read(tmp_path)


def test_the_format_of_a_models_maker_is_told_in_one_sentence(tmp_path: Path) -> None:
    """Mistral Large 3 has a params.json alone."""
    (tmp_path / "params.json").write_text('{"dim": 7168, "n_layers": 61}')
    with initialize_config_dir(str(CONF)):
        made = to_config(composed(["runtime=vllm", "model=local", f"model.path={tmp_path}", "hardware=h200"]))
    [finding] = memory.check(made, made.knobs)
    assert finding.reason == (
        f"memory and compatibility are not checked for model=local: {tmp_path} has params.json, a format of its maker "
        "(Mistral, Meta), and no config.json, the file that is read: use the files for transformers, or set model.arch"
    )
