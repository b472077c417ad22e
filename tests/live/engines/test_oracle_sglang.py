"""Our verdicts on random combinations of every knob against SGLang's own `ServerArgs` (tests/support/oracle.py).

SERVETUNE_TEST_SGLANG is the interpreter of an environment with SGLang, SERVETUNE_TEST_SGLANG_PYTHONPATH what it needs
to import beside that; the tests skip without it.
"""

import os
from pathlib import Path

import pytest

from pipeline.core.schema import Config, is_of
from pipeline.core.values import Scalar
from support import oracle

PYTHON = os.environ.get("SERVETUNE_TEST_SGLANG")
BESIDE = os.environ.get("SERVETUNE_TEST_SGLANG_PYTHONPATH")

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not PYTHON, reason="SERVETUNE_TEST_SGLANG names no interpreter with SGLang"),
    pytest.mark.timeout(oracle.TIMEOUT_S),
]

SIZES = (3, 4, 5, 6, 7)
NUMBERS: dict[str, list[Scalar]] = {
    "tp_size": [1, 2, 4, 3, 8],
    "pp_size": [1, 2, 4],
    "dp_size": [1, 2],
    "ep_size": [1, 2, 4],
    "attn_dp_size": [1, 2, 4],
    "moe_dense_tp_size": [1, 2],
    "page_size": [1, 7, 16, 32, 64, 128],
    "triton_attention_num_kv_splits": [1, 16],
    "context_length": [128, 1024, 4096, 8192],
    "mem_fraction_static": [0, 0.5, 0.9, 1],
    "max_running_requests": [1, 8, 256],
    "max_queued_requests": [1, 64],
    "max_total_tokens": [128, 8192, 100000],
    "cpu_offload_gb": [0, 2],
    "chunked_prefill_size": [-1, 0, 100, 512, 2048, 8192],
    "max_prefill_tokens": [16, 4096],
    "prefill_max_requests": [1, 16],
    "prefill_decode_interval": [0, 4],
    "schedule_conservativeness": [0, 0.3, 1, 2],
    "stream_interval": [1, 4],
    "tokenizer_worker_num": [1, 2],
    "detokenizer_worker_num": [1, 2],
    "hicache_ratio": [0, 0.5, 2],
    "hicache_size": [0, 4],
    "cuda_graph_max_bs_decode": [1, 7, 64, 600],
    "cuda_graph_max_bs_prefill": [1, 64, 4096],
    "torch_compile_max_bs": [1, 32],
    "speculative_num_steps": [1, 3],
    "speculative_eagle_topk": [1, 4],
    "speculative_num_draft_tokens": [2, 4, 8],
    "speculative_ngram_max_bfs_breadth": [1, 4],
    "ep_num_redundant_experts": [0, 2],
    "attn_cp_size": [1],
    "dcp_size": [1],
    "swa_full_tokens_ratio": [0.2, 0.8],
    "mamba_full_memory_ratio": [0.5],
    "max_mamba_cache_size": [64],
    "prefill_delayer_max_delay_passes": [10],
    "prefill_delayer_token_usage_low_watermark": [0.5],
    "cuda_graph_bs_decode": ["[1, 2, 4]"],
    "cuda_graph_bs_prefill": ["[64, 128]"],
    "speculative_draft_attention_backend": ["triton", "torch_native"],
    "eplb_algorithm": ["auto", "deepseek"],
    "eplb_rebalance_num_iterations": [100],
}
# What SGLang refuses and we only warn of, or do not see: its message, and why. At most ten.
GAPS = {
    # configs/model_config.py:1314: a variable of the caller's own environment allows it
    "is greater than the derived context_length": "context_beyond_the_model",
    # model_loader/weight_utils.py:389: the method's file may lie beside the weights
    "Cannot find the config file for|CompressedTensorsConfig.__init__|Either quant_config or online_scheme": (
        "quantization_without_its_settings"
    ),
    # arg_groups/kv_cache_hook.py:306: which kernels a model gets is not known for all
    "KV4 MHA expects attention_backend": "fp4_block16_kernels_by_default",
    # arg_groups/speculative_hook.py:748: the model's own files may hold the draft model
    "DSpark dense speculative decoding requires": "dspark_draft_model_missing",
    # arg_groups/validation_hook.py:160: a variable of the caller's own environment allows it
    "PP \\+ speculative decoding \\(MTP\\) is only supported on prefill nodes": "pipeline_eagle",
    # arg_groups/speculative_hook.py:1278: which kernels a model gets is not known for all
    "speculative_eagle_topk > 1 with page_size > 1": "drafts_in_pages_by_default",
    # arg_groups/model_hook.py:1065: whether a model has states is not read
    "needs mamba state": "",
    # arg_groups/mamba_hook.py: the environment lacks FlashInfer; not SGLang's answer
    "FlashInfer mamba module not available": "",
}


def pool(base: Config) -> dict[str, list[Scalar]]:
    """Settings for every knob of this version."""
    version = base.runtime.version
    knobs = {name: knob for name, knob in base.runtime.knobs.items() if is_of(knob.versions, version) and not knob.env}
    drawn: dict[str, list[Scalar]] = {**NUMBERS, "speculative_draft_model_path": [str(base.model.path)]}
    drawn |= {name: list(knob.choices) for name, knob in knobs.items() if knob.kind == "choice"}
    drawn |= {name: [True, False] for name, knob in knobs.items() if knob.kind == "bool"}
    return {name: drawn[name] for name in knobs}


@pytest.mark.parametrize(("platform", "hardware", "count"), [("cpu", "cpu", 500), ("9.0", "h100", 200)])
def test_nothing_is_refused_wrongly_and_every_error_is_foreseen(
    tmp_path: Path, platform: str, hardware: str, count: int
) -> None:
    asked = oracle.Oracle("sglang", str(PYTHON), {"PYTHONPATH": BESIDE} if BESIDE else {})
    base = asked.base(oracle.model(tmp_path), hardware)
    oracle.agree(asked.answers(base, platform, oracle.combinations(pool(base), count, SIZES)), GAPS)


def test_there_are_at_most_ten_known_gaps() -> None:
    assert len(GAPS) <= oracle.MOST_GAPS
