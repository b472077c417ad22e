"""Our verdicts on random combinations of knobs against vLLM's own configuration code (tests/support/oracle.py).

SERVETUNE_TEST_VLLM is the interpreter of an environment with vLLM; the tests skip without it.
"""

import os
from pathlib import Path

import pytest

from pipeline.core.values import Scalar
from support import oracle

PYTHON = os.environ.get("SERVETUNE_TEST_VLLM")

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not PYTHON, reason="SERVETUNE_TEST_VLLM names no interpreter with vLLM"),
    pytest.mark.timeout(oracle.TIMEOUT_S),
]

SIZES = (2, 3, 4, 5)
POOL: dict[str, list[Scalar]] = {
    "tensor_parallel_size": [1, 2, 4, 3, 8],
    "pipeline_parallel_size": [1, 2, 4],
    "data_parallel_size": [1, 2],
    "decode_context_parallel_size": [1, 2, 4],
    "enable_expert_parallel": [True, False],
    "enable_dbo": [True],
    "disable_custom_all_reduce": [True],
    "all2all_backend": ["allgather_reducescatter", "deepep_low_latency", "naive", "pplx"],
    "attention_backend": [
        "FLASH_ATTN",
        "TRITON_ATTN",
        "FLEX_ATTENTION",
        "FLASHMLA",
        "TRITON_MLA",
        "TORCH_SDPA",
        "CPU_ATTN",
        "FLASH_ATTN_MLA",
        "CUTLASS_MLA",
        "TURBOQUANT",
    ],
    "block_size": [8, 16, 32, 48, 64, 128, 7, 1],
    "kv_cache_dtype": [
        "auto",
        "fp8",
        "fp8_e4m3",
        "fp8_e5m2",
        "bfloat16",
        "float16",
        "nvfp4",
        "turboquant_k8v4",
        "int8_per_token_head",
    ],
    "dtype": ["auto", "half", "bfloat16", "float32"],
    "quantization": [
        "awq",
        "gptq",
        "fp8",
        "gptq_marlin",
        "compressed-tensors",
        "experts_int8",
        "fbgemm_fp8",
        "fp_quant",
        "bitsandbytes",
        "gguf",
        "petit_nvfp4",
        "modelopt",
    ],
    "gpu_memory_utilization": [0, 0.5, 0.9, 1],
    "max_model_len": [128, 1024, 4096, 8192, -1, 0],
    "max_num_seqs": [1, 8, 64, 256, 1024],
    "max_num_batched_tokens": [1, 16, 64, 512, 2048, 8192],
    "max_num_active_seqs": [1, 64, 512],
    "max_num_queued_reqs": [0, 16, 1024],
    "long_prefill_token_threshold": [0, 64, 2048, 8192],
    "enable_chunked_prefill": [True, False],
    "enable_prefix_caching": [True, False],
    "scheduling_policy": ["fcfs", "priority"],
    "async_scheduling": [True, False],
    "stream_interval": [1, 4],
    "performance_mode": ["balanced", "interactivity", "throughput"],
    "optimization_level": [0, 1, 2, 3],
    "enforce_eager": [True, False],
    "max_cudagraph_capture_size": [1, 7, 64, 600],
    "speculative_config": [
        '{"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4}',
        '{"method": "eagle"}',
    ],
    "speculative_config.num_speculative_tokens": [2],
    "spec_method": ["ngram", "eagle"],
    "spec_tokens": [4],
    "compilation_config.mode": [0, 3],
    "compilation_config.cudagraph_mode": ["NONE", "PIECEWISE", "FULL", "FULL_AND_PIECEWISE"],
    "compilation_config.pass_config.fuse_norm_quant": [True, False],
    "cudagraph_capture_sizes": ["[1, 2, 4]"],
    "enable_eplb": [True],
    "eplb_config.num_redundant_experts": [0, 2],
    "eplb_config.step_interval": [100],
    "dbo_decode_token_threshold": [64],
    "linear_backend": ["auto", "marlin", "cutlass"],
    "kv_cache_memory_bytes": [2**30],
    "prefill_schedule_interval": [1, 4],
    "mamba_ssm_cache_dtype": ["float32"],
    "load_format": ["auto", "dummy", "gguf", "bitsandbytes", "safetensors"],
    "cpu_offload_gb": [0, 2],
    "kv_offloading_size": [1.0],
    "kv_offloading_backend": ["native"],
    "moe_backend": ["auto", "triton", "deep_gemm"],
}
# What vLLM refuses and we only warn of, or do not see: its message, and why. At most ten.
GAPS = {
    # config/model.py:1498: we warn; the model's file may count its experts by another name
    "Number of experts in the model must be greater than 0": "no_experts",
    # config/model.py, _get_and_verify_max_len: we warn; rope scaling may stretch the context
    "is greater than the derived max_model_len": "context_exceeds_the_models",
    # model_loader/weight_utils.py, get_quant_config: we warn; the method's file may lie beside the weights
    "Cannot find the config file for|CompressedTensorsConfig.__init__": "quantization_without_its_settings",
    # model_executor/layers/quantization/__init__.py: we warn of two; a plugin may register any method
    "Unknown quantization method": "quantization_of_a_plugin",
    # config/scheduler.py:319: we warn; LongRoPE starts with less than the model's context
    "is smaller than max_model_len": "whole_prompts_of_the_model_do_not_fit",
    # config/vllm.py:2974: which runner a model gets is not read
    "pipeline parallelism with async scheduling": "",
    # config/scheduler.py:338 and :355: we warn; the default of the other value depends on the GPU and the model
    "max_num_active_seqs .* cannot be greater": "more_active_than_default_seqs",
    "long_prefill_token_threshold .* cannot be greater": "long_prefill_exceeds_the_models_context",
    # platforms/cuda.py, get_valid_backends: a build for the CPU lacks FlashAttention and FlashInfer; not vLLM's answer
    "attention backend found .*ModuleNotFoundError: No module named 'flashinfer'|\\[ImportError: .*fa_utils": "",
    # v1/attention/selector.py: kernels of other platforms, of which we warn
    "Selected backend AttentionBackendEnum.(CPU_ATTN|TURBOQUANT)": "attention_of_the_other_vendor",
}


@pytest.mark.parametrize(("platform", "hardware", "count"), [("cpu", "cpu", 500), ("9.0", "h100", 200)])
def test_nothing_is_refused_wrongly_and_every_error_is_foreseen(
    tmp_path: Path, platform: str, hardware: str, count: int
) -> None:
    asked = oracle.Oracle("vllm", str(PYTHON))
    base = asked.base(oracle.model(tmp_path), hardware)
    oracle.agree(asked.answers(base, platform, oracle.combinations(POOL, count, SIZES)), GAPS)


def test_there_are_at_most_ten_known_gaps() -> None:
    assert len(GAPS) <= oracle.MOST_GAPS
