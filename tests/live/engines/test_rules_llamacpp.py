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
        "quantised_v_needs_flash_attention",
        "ubatch_within_batch",
        "slot_has_the_models_context",
        "slots_share_the_context",
        "no_request_fits_a_slot",
        "requests_exceed_a_slot",
    ]


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


LONG, SPREAD = "traffic.scenarios=['D(300,8)']", "traffic.scenarios=['N(200,30)/(8,1)']"


@pytest.mark.parametrize(
    ("words", "word"),
    [
        pytest.param(("n_ctx=256", LONG), "refused", id="more than the whole context"),
        pytest.param(("n_ctx=1024", LONG), "ok", id="one slot has it all"),
        pytest.param(("n_ctx=1024", "n_parallel=4", LONG), "refused", id="a quarter of it"),
        pytest.param(("n_ctx=1025", "n_parallel=4", LONG), "refused", id="a quarter, rounded down"),
        pytest.param(("n_ctx=1032", "n_parallel=4", LONG), "ok", id="a quarter, rounded up to 256 tokens"),
        pytest.param(("n_ctx=1024", "n_parallel=4", "kv_unified=true", LONG), "ok", id="slots share one cache"),
        pytest.param(("n_ctx=0", LONG), "ok", id="the model's own"),
        pytest.param(("model.context_tokens=256", LONG), "refused", id="more than the model's own"),
        pytest.param(("n_ctx=4096", "model.context_tokens=256", LONG), "refused", id="capped at the model's own"),
        pytest.param(("model.context_tokens=null", LONG), "ok", id="nobody knows the model's own"),
        pytest.param(("n_ctx=256", SPREAD), "warned", id="only long ones do not fit"),
        pytest.param(("n_ctx=256", "traffic.scenarios=['D(300,8)','D(16,8)']"), "warned", id="one scenario fits"),
        pytest.param(("n_ctx=256", "traffic.scenarios=['U(100,400)/(10,20)']"), "refused", id="the usual one does not"),
        pytest.param(("n_ctx=256", "runtime.extra_args=[--ctx-size,'4096']", LONG), "ok", id="set in other words"),
    ],
)
def test_requests_fit_a_slot(words: tuple[str, ...], word: str) -> None:
    assert judged(*words).word == word


def test_the_reason_names_the_sizes() -> None:
    (reason,) = judged("n_ctx=1024", "n_parallel=4", LONG).reasons("refused")
    assert reason == (
        "requests of 308 tokens, prompt and answer, do not fit the 256 tokens of a slot (n_ctx=1024, n_parallel=4): "
        "llama.cpp answers them with an error or ends them early"
    )


def test_a_file_says_what_context_it_was_made_for(tiny_gguf: Path) -> None:
    here = ("model=gguf", f"model.path={tiny_gguf}")
    assert judged(*here, "traffic.scenarios=['D(5000,8)']").word == "refused"
    assert judged(*here, "traffic.scenarios=['D(4000,8)']").word == "ok"


@pytest.mark.live
@pytest.mark.parametrize(
    ("flags", "tokens"),
    [
        ((), 4096),
        (("--parallel", "4"), 4096),
        (("--ctx-size", "300"), 512),
        (("--ctx-size", "1024", "--parallel", "4"), 256),
        (("--ctx-size", "1032", "--parallel", "4"), 512),
        (("--ctx-size", "1024", "--parallel", "4", "--kv-unified"), 1024),
        (("--ctx-size", "10000"), 4096),
    ],
)
def test_llama_cpp_shares_out_its_context_so(
    needs: Callable[..., None], tiny_gguf: Path, tmp_path: Path, flags: tuple[str, ...], tokens: int
) -> None:
    needs("xllamacpp")
    with serving(tiny_gguf, tmp_path, *flags) as server:
        assert [slot["n_ctx"] for slot in server.get("/slots")] == [tokens] * (4 if "--parallel" in flags else 1)


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
