"""Architectures of well-known models, as their config.json says, for rules and sums that depend on them."""

from pipeline.core.schema_model import Architecture

LLAMA_8B = Architecture(  # meta-llama/Llama-3.1-8B-Instruct
    attention="gqa",
    layers=32,
    hidden_size=4096,
    heads=32,
    kv_heads=8,
    head_dim=128,
    parameters_b=8.03,
    active_parameters_b=8.03,
    weights_gib=14.96,
    dtype="bfloat16",
    context_tokens=131072,
)
QWEN3_30B_A3B = Architecture(  # Qwen/Qwen3-30B-A3B
    attention="gqa",
    layers=48,
    hidden_size=2048,
    heads=32,
    kv_heads=4,
    head_dim=128,
    experts=128,
    experts_per_token=8,
    parameters_b=30.5,
    active_parameters_b=3.3,
    weights_gib=56.9,
    dtype="bfloat16",
    context_tokens=40960,
)
DEEPSEEK_V3 = Architecture(  # deepseek-ai/DeepSeek-V3
    attention="mla",
    layers=61,
    hidden_size=7168,
    heads=128,
    kv_heads=128,
    head_dim=128,
    kv_lora_rank=512,
    qk_rope_head_dim=64,
    experts=256,
    experts_per_token=8,
    parameters_b=671,
    active_parameters_b=37,
    weights_gib=641.3,
    dtype="bfloat16",
    quantization="fp8",
    context_tokens=163840,
)
