"""Every rule of pipeline/engines/rules/llamacpp.yaml: hit, missed, and so in the real engine."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from parts.llama import serving
from pipeline.config.command_line import composed, to_config
from pipeline.core.findings import Verdict
from pipeline.core.places import CONF
from pipeline.engines import verdict


def judged(*knobs: str) -> Verdict:
    with initialize_config_dir(str(CONF)):
        return verdict.judge(to_config(composed(list(knobs))))


def test_there_are_no_other_rules() -> None:
    assert [rule.id for rule in verdict.load("llamacpp")] == [
        "quantised_v_needs_flash_attention", "ubatch_within_batch"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("knobs", "word"),
    [
        (("flash_attn=off", "cache_type_v=q8_0"), "refused"),
        (("flash_attn=on", "cache_type_v=q8_0"), "ok"),
        (("flash_attn=off", "cache_type_v=f16"), "ok"),
        (("flash_attn=off", "cache_type_k=q8_0"), "ok"),
        (("cache_type_v=q8_0",), "ok"),
    ],
)
def test_a_quantised_v_needs_flash_attention(knobs: tuple[str, ...], word: str) -> None:
    assert judged(*knobs).word == word


def test_a_micro_batch_is_not_larger_than_the_batch() -> None:
    assert judged("n_batch=64", "n_ubatch=128").word == "rewritten"
    assert judged("n_batch=64", "n_ubatch=128").knobs["n_ubatch"] == 64
    assert judged("n_batch=64", "n_ubatch=64").word == "ok"
    assert judged("n_ubatch=128").word == "ok"


@pytest.mark.live
def test_llama_cpp_does_so(needs: Callable[..., None], tiny_gguf: Path, tmp_path: Path) -> None:
    needs("xllamacpp")
    flags = ("--batch-size", "64", "--ubatch-size", "128", "--log-verbosity", "4")
    with serving(tiny_gguf, tmp_path, *flags) as server:
        assert "n_ubatch              = 64" in server.log
    with (
        pytest.raises(AssertionError, match="quantized V cache requires flash_attn"),
        serving(tiny_gguf, tmp_path, "--flash-attn", "off", "--cache-type-v", "q8_0"),
    ):
        pass
