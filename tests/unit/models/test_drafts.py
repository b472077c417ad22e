"""What speculative decoding adds to the memory sum, as the knobs of both engines ask for it."""

import json
import shutil
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from pipeline.config.command_line import composed, to_config
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.models import memory, needs

CARDS = Path(__file__).parent / "model_cards"
# EAGLE-3 for Llama 3.1 8B: one layer of it. A layer has 218.1 million parameters: two matrices of 4096 x 4096, two of
# 4096 x 1024, three of 4096 x 14336.
EAGLE = {
    "architectures": ["LlamaForCausalLMEagle3"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 1,
    "max_position_embeddings": 2048,
    "vocab_size": 128256,
    "draft_vocab_size": 32000,
    "torch_dtype": "bfloat16",
}
LAYER_GIB = 218_103_808 * 2 / 2**30
SGLANG = ("runtime=sglang", "model=llama31_8b", "hardware=h100")
VLLM = ("runtime=vllm", "model=llama31_8b", "hardware=h100")


def config(*words: str) -> Config:
    with initialize_config_dir(str(CONF)):
        return to_config(composed(list(words)))


def need(*words: str) -> memory.Need:
    made = config(*words)
    found = memory.need(made, made.knobs)
    assert found is not None
    return found


def told(*words: str) -> dict[str, str]:
    made = config(*words)
    return {finding.rule: finding.reason for finding in memory.check(made, made.knobs)}


def folder(path: Path, *, weights_gib: float = 0, **changes: object) -> Path:
    """A draft model; with `weights_gib`, with the index of its files."""
    (path / "config.json").write_text(json.dumps({**EAGLE, **changes}))
    if weights_gib:
        index = {"metadata": {"total_size": weights_gib * 2**30}}
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def eagle(path: Path, algorithm: str = "EAGLE3") -> tuple[str, str]:
    return f"speculative_algorithm={algorithm}", f"speculative_draft_model_path={path}"


@pytest.mark.parametrize("algorithm", ["EAGLE", "EAGLE3"])
@pytest.mark.parametrize("gpus", [1, 2])
def test_a_drafting_head_adds_its_files_and_the_cache_of_its_layer(algorithm: str, gpus: int, tmp_path: Path) -> None:
    alone = need(*SGLANG, f"tp_size={gpus}")
    found = need(*SGLANG, f"tp_size={gpus}", *eagle(folder(tmp_path, weights_gib=0.8), algorithm))
    assert found.draft_gib == pytest.approx(0.8 / gpus)
    assert found.weights_gib == alone.weights_gib
    assert found.kv_gib == pytest.approx(alone.kv_gib * 33 / 32)
    assert found.total_gib == pytest.approx(alone.total_gib + 0.8 / gpus + alone.kv_gib / 32)


def test_on_the_kindest_reading_a_head_is_its_layer_alone(tmp_path: Path) -> None:
    """It may have embedding and output from the model, and its file may hold both."""
    alone, found = need(*SGLANG), need(*SGLANG, *eagle(folder(tmp_path, weights_gib=2.4)))
    least = LAYER_GIB * (1 - memory.WEIGHT_SLACK)
    assert found.least_weights_gib == pytest.approx(alone.least_weights_gib + least, rel=1e-4)
    assert found.least_kv_gib == alone.least_kv_gib


def test_a_head_without_files_is_as_large_as_its_layer(tmp_path: Path) -> None:
    assert need(*SGLANG, *eagle(folder(tmp_path))).draft_gib == pytest.approx(LAYER_GIB, rel=1e-4)


@pytest.mark.parametrize(
    ("words", "gpus"),
    [
        (("speculative_config.method=eagle3", "speculative_config.num_speculative_tokens=3"), 2),
        (("spec_method=eagle3", "spec_tokens=3"), 2),
        (("speculative_config.method=eagle3", "speculative_config.draft_tensor_parallel_size=1"), 1),
    ],
    ids=["keys", "short", "one-gpu"],
)
def test_vllm_is_asked_by_keys_or_by_short_knobs(words: tuple[str, ...], gpus: int, tmp_path: Path) -> None:
    name = "spec_model" if words[0].startswith("spec_method") else "speculative_config.model"
    base = (*VLLM, "tensor_parallel_size=2", "max_model_len=4096")
    found = need(*base, *words, f"{name}={folder(tmp_path, weights_gib=0.8)}")
    assert found.draft_gib == pytest.approx(0.8 / gpus)
    assert found.kv_gib > need(*base).kv_gib


@pytest.mark.parametrize(
    "words",
    [
        ("runtime=sglang", "tp_size=8", "speculative_algorithm=NEXTN"),
        ("runtime=sglang", "tp_size=8", "speculative_algorithm=EAGLE"),
        ("runtime=sglang", "tp_size=8", *eagle(Path("deepseek-ai/DeepSeek-V3-0324"), "NEXTN")),
        ("runtime=vllm", "tensor_parallel_size=8", "speculative_config.method=mtp"),
    ],
    ids=["nextn", "eagle", "its-own-repository", "mtp"],
)
def test_layers_in_the_models_own_files_add_only_what_they_keep(words: tuple[str, ...]) -> None:
    base = ("model=deepseek_v3", "hardware=h200")
    alone, found = need(*base, *words[:2]), need(*base, *words)
    assert found.draft_gib == 0
    assert found.weights_gib == alone.weights_gib
    assert found.least_weights_gib == alone.least_weights_gib
    assert found.kv_gib == pytest.approx(alone.kv_gib * 62 / 61)


def test_of_a_larger_checkpoint_only_the_layers_that_draft_are_loaded(tmp_path: Path) -> None:
    shutil.copy(CARDS / "deepseek_v3.json", tmp_path / "config.json")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 641 * 2**30}}))
    base = ("runtime=sglang", "model=deepseek_v3", "hardware=h200", "tp_size=8")
    alone, found = need(*base), need(*base, *eagle(tmp_path, "NEXTN"))
    assert found.draft_gib * 8 == pytest.approx(641 / 61, rel=0.1)
    assert found.kv_gib == pytest.approx(alone.kv_gib * 62 / 61)


def test_a_model_of_its_own_is_counted_whole() -> None:
    """Qwen3-0.6B is not here, but servetune knows it: 28 layers beside 36, with the same heads."""
    base = ("runtime=vllm", "model=qwen3_8b", "hardware=h100", "max_model_len=32768")
    words = ("speculative_config.method=draft_model", "speculative_config.model=Qwen/Qwen3-0.6B")
    alone, found = need(*base), need(*base, *words)
    assert found.draft_gib == pytest.approx(1.4, rel=0.01)
    assert found.kv_gib == pytest.approx(alone.kv_gib * 64 / 36)
    assert found.least_kv_gib == pytest.approx(alone.least_kv_gib * 64 / 36)
    assert alone.least_weights_gib + 1 < found.least_weights_gib < alone.least_weights_gib + 1.4


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (SGLANG, ("speculative_algorithm=NGRAM",)),
        (SGLANG, ("speculative_algorithm=NGRAM", "speculative_draft_model_path=/nowhere")),
        (SGLANG, ("speculative_draft_model_path=/nowhere",)),
        (VLLM, ("speculative_config.method=ngram", "speculative_config.num_speculative_tokens=4")),
        (VLLM, ("spec_method=suffix",)),
    ],
    ids=["ngram", "ngram-ignores-it", "no-algorithm", "ngram-of-vllm", "suffix"],
)
def test_drafts_of_the_text_take_nothing(base: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert need(*base, *words) == need(*base)
    assert "draft_unknown" not in told(*base, *words)


def test_a_draft_model_that_does_not_fit_is_refused_with_both_sizes() -> None:
    words = eagle(Path("Qwen/Qwen3-32B"), "STANDALONE")
    reasons = told("runtime=sglang", "model=llama33_70b", "hardware=h100", "tp_size=2", *words)
    assert reasons["does_not_fit"].startswith("weights 65.7 + draft model 30.5 GiB do not fit ")


def test_a_draft_model_may_lie_outside_the_share_of_the_pool() -> None:
    """Where mem_fraction_static is asked: 15.9 GiB hold the model's 15.0, and not the draft model's 7.5 beside it."""
    words = (*SGLANG, "mem_fraction_static=0.2", *eagle(Path("Qwen/Qwen3-4B-Instruct-2507"), "STANDALONE"))
    assert "does_not_fit" not in told(*words)


def test_the_line_of_a_dry_run_names_the_draft_model(tmp_path: Path) -> None:
    made = config(*SGLANG, *eagle(folder(tmp_path, weights_gib=0.8)))
    line = needs.told(made, made.knobs)
    assert line is not None
    assert line.startswith("weights 15.0 + draft model 0.8 + KV cache ")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (eagle(Path("/nowhere/eagle")), "/nowhere/eagle is no folder here"),
        (eagle(Path("nobody/eagle")), "nobody/eagle is no folder here, not in the Hugging Face cache"),
        (("runtime.extra_args=[--speculative-draft-model-path,/nowhere]",), "runtime.extra_args asks for it"),
    ],
    ids=["folder", "repository", "argument"],
)
def test_a_draft_model_that_cannot_be_read_is_said_to_be_left_out(words: tuple[str, ...], why: str) -> None:
    reason = told(*SGLANG, *words)["draft_unknown"]
    assert reason.startswith(f"the draft model is left out of the memory sum: {why}")
    assert reason.endswith("or set speculative_draft_model_path to a folder with its config.json")
    assert need(*SGLANG, *words) == need(*SGLANG)


def test_a_folder_without_a_card_is_told_with_the_file_that_is_missing(tmp_path: Path) -> None:
    words = ("speculative_config.method=eagle3", f"speculative_config.model={tmp_path}")
    reason = told(*VLLM, *words)["draft_unknown"]
    assert f"{tmp_path}/config.json cannot be read as JSON" in reason
    assert reason.endswith("or set speculative_config.model to a folder with its config.json")


def test_what_is_known_of_a_draft_model_counts_and_the_rest_is_said(tmp_path: Path) -> None:
    words = (*SGLANG, *eagle(folder(tmp_path, weights_gib=0.8, compress_ratios=[4])))
    found = need(*words)
    assert found.draft_gib == pytest.approx(0.8)
    assert found.kv_gib == need(*SGLANG).kv_gib
    assert "'compress_ratios' says that its layers keep tokens" in told(*words)["draft_unknown"]
