"""How long things take: pure functions of the knobs and of what runs. Deterministic; seconds of an imagined GPU.

The numbers are invented. Their directions are the real ones: small chunks cost launches, large ones stall the decoding
of others; more GPUs help less than in proportion; larger pages decode a little faster; every running request costs.
"""

import math
from dataclasses import dataclass

PREFILL_TOKEN_S = 60e-6
CHUNK_LAUNCH_S = 4e-3
STEP_S = 8e-3
PER_RUNNING_S = 0.12e-3
STALL_PER_TOKEN_S = 0.04e-6  # of a chunk, for each other request that is running
EAGER = 1.6  # without CUDA graphs
EIGHT_BIT = 0.9  # with an 8-bit KV cache, for decoding

# Cost against the best, for prefill and decode
BACKENDS: dict[str, tuple[float, float]] = {
    "fa3": (1.0, 1.05),
    "fa4": (0.95, 1.05),
    "flash_attn": (1.0, 1.05),
    "flashinfer": (1.1, 1.0),
    "trtllm_mha": (0.9, 0.9),
    "triton": (1.3, 1.15),
    "triton_attn": (1.3, 1.15),
    "torch_native": (3.0, 3.0),
    "flex_attention": (2.0, 2.0),
}
_OTHER = (1.05, 1.05)


@dataclass(frozen=True)
class Knobs:
    """What the latency depends on, by names that fit both engines."""

    page_size: int
    chunk: int  # 0 or less: prompts are not cut
    backend: str
    max_running: int
    tp: int
    has_graphs: bool = True
    is_kv_8_bit: bool = False
    has_prefix_cache: bool = True


def prefill_s(knobs: Knobs, tokens: int, running: int) -> float:
    """Until the first token: `tokens` that no cache holds, `running` requests at once, this one included."""
    chunks = math.ceil(tokens / knobs.chunk) if knobs.chunk > 0 else 1
    factor, _ = BACKENDS.get(knobs.backend.lower(), _OTHER)
    work = tokens * PREFILL_TOKEN_S * factor / _gain(knobs.tp)
    return (work + max(1, chunks) * CHUNK_LAUNCH_S) * (1 + 0.1 * (running - 1))


def step_s(knobs: Knobs, running: int) -> float:
    """Between two tokens of one request."""
    _, factor = BACKENDS.get(knobs.backend.lower(), _OTHER)
    base = STEP_S * factor / _gain(knobs.tp) * (1 + 0.08 / math.sqrt(knobs.page_size))
    base *= (1 if knobs.has_graphs else EAGER) * (EIGHT_BIT if knobs.is_kv_8_bit else 1)
    others = min(running, knobs.max_running) - 1
    return base + PER_RUNNING_S * others + STALL_PER_TOKEN_S * max(0, knobs.chunk) * others


def _gain(tp: int) -> float:
    return float(tp**0.75)
