"""What a model's layers keep of a sequence: keys and values of its tokens, and states of fixed size. Pure.

Source: vLLM 0.32.0, v1/kv_cache_interface.py:511 (attention), :686 (MLA), :850 (windows), :1035 (states), and
model_executor/layers/mamba/mamba_utils.py; SGLang 0.5.23, srt/model_executor/pool_configurator.py:340 and :656,
srt/configs/mamba_utils.py. Both agree on every size here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.core.schema_model import Cache, State
from pipeline.models.config_json import Card
from pipeline.models.layers import Layer, Mixer

INDEX_BLOCK = 128  # elements of DeepSeek's index that share a scale of 4 bytes; each element is a byte


def caches(card: Card, layers: Sequence[Layer]) -> tuple[Cache, ...]:
    """The layers that attend, those alike together, the widest first; layers that reuse another's cache are left out.

    Raises:
        ModelError: a size is missing.
    """
    own = layers[: len(layers) - card.whole("num_kv_shared_layers")]
    windows = Counter(layer.window for layer in own if layer.mixer in {"attention", "both"})
    made = [_cache(card, window, count) for window, count in windows.items()]
    shared = sum(_shares_index(card, layer) for layer in range(len(own)))
    if shared and len(made) == 1 and made[0].index_bytes and made[0].layers > shared:
        made = [replace(made[0], layers=made[0].layers - shared), replace(made[0], layers=shared, index_bytes=0)]
    return tuple(sorted(made, key=lambda each: (each.window is not None, each.window or 0)))


def states(card: Card, layers: Sequence[Layer]) -> tuple[State, ...]:
    """The layers that keep a state, those alike together.

    Raises:
        ModelError: a size is missing.
    """
    counts = Counter(layer.mixer for layer in layers if layer.mixer not in {"attention", ""})
    return tuple(_state(card, mixer, count) for mixer, count in counts.items())


def plain(card: Card, count: int) -> Cache:
    """What `count` layers keep where all attend to every token: follows from the heads alone."""
    if card.whole("kv_lora_rank"):
        return Cache(layers=count, kv_heads=1, elements=card.whole("kv_lora_rank") + card.whole("qk_rope_head_dim"))
    return Cache(layers=count, kv_heads=kv_heads(card), elements=2 * head_dim(card))


def head_dim(card: Card) -> int:
    """The head size; for MLA that of a value head: its keys have another, and its KV cache depends on neither."""
    if card.whole("kv_lora_rank"):
        return card.number("v_head_dim")
    return card.whole("head_dim", "attention_head_dim") or card.number("hidden_size") // heads(card)


def heads(card: Card) -> int:
    """Query heads."""
    return card.number("num_attention_heads", "n_head")


def kv_heads(card: Card) -> int:
    """Heads that are kept."""
    return card.whole("num_key_value_heads", "num_kv_heads") or heads(card)


def _cache(card: Card, window: int | None, count: int) -> Cache:
    if rank := card.whole("kv_lora_rank"):
        index = card.whole("index_head_dim") if card.whole("index_topk") else 0
        return Cache(
            layers=count,
            kv_heads=1,
            elements=rank + card.whole("qk_rope_head_dim"),
            window=window,
            index_bytes=index + index // INDEX_BLOCK * 4,
        )
    there, key = kv_heads(card), head_dim(card)
    value = card.whole("v_head_dim") or key
    if window is not None:
        there = card.whole("swa_num_key_value_heads") or there
        key = card.whole("swa_head_dim") or key
        value = card.whole("swa_v_head_dim") or (value if card.whole("v_head_dim") else key)
    elif is_gemma4(card):  # its layers without a window have heads of their own
        there = (card.whole("num_global_key_value_heads") if card.get("attention_k_eq_v") else 0) or there
        key = value = card.whole("global_head_dim") or 512
    return Cache(layers=count, kv_heads=there, elements=key + value, window=window)


def is_gemma4(card: Card) -> bool:
    """Whether layers without a window have a head size of their own: 512 unless it is said."""
    return card.model_type.startswith("gemma4") and card.get("layer_types") is not None


def _shares_index(card: Card, layer: int) -> bool:
    """Whether a layer uses the index of another one (GLM-5)."""
    kinds = card.texts("indexer_types")
    return layer < len(kinds) and kinds[layer] == "shared"


def _state(card: Card, mixer: Mixer, count: int) -> State:
    dtype = card.get("mamba_ssm_dtype", "mamba_ssm_cache_dtype")
    made: dict[str, Any] = {"dtype": dtype, **_SIZES[mixer](card)}
    return State(layers=count, **made)


def _gdn(card: Card) -> dict[str, Any]:
    """Gated delta net: vLLM mamba_utils.py, gated_delta_net_state_shape."""
    keys = card.number("linear_num_key_heads") * card.number("linear_key_head_dim")
    values = card.number("linear_num_value_heads") * card.number("linear_value_head_dim")
    width = card.number("linear_conv_kernel_dim") - 1
    return {"convolution": (2 * keys + values) * width, "recurrent": values * card.number("linear_key_head_dim")}


def kda_sizes(card: Card) -> tuple[int, int, int]:
    """Heads, their size, and the width of the convolution."""
    said = card.get("linear_attn_config")
    inner = Card(said if isinstance(said, dict) else {}, card.path)
    return (
        inner.whole("num_heads") or card.number("linear_num_heads", "num_attention_heads"),
        inner.whole("head_dim") or card.number("linear_head_dim"),
        inner.whole("short_conv_kernel_size") or card.whole("linear_conv_kernel_dim") or 4,
    )


def _kda(card: Card) -> dict[str, Any]:
    """Kimi delta attention: vLLM mamba_utils.py, kda_state_shape; its state is float32 (kda_state_dtype)."""
    there, size, kernel = kda_sizes(card)
    return {"convolution": 3 * there * size * (kernel - 1), "recurrent": there * size * size, "dtype": "float32"}


def mamba2_sizes(card: Card) -> tuple[int, int, int, int, int]:
    """Heads, their size, groups, the state's size, and the width of the convolution."""
    there = card.number("mamba_num_heads", "mamba_n_heads")
    inner = card.whole("mamba_d_ssm") or card.whole("mamba_expand", "expand") * card.number("hidden_size")
    return (
        there,
        card.whole("mamba_head_dim", "mamba_d_head") or inner // there,
        card.whole("n_groups", "mamba_n_groups") or 1,
        card.number("ssm_state_size", "mamba_d_state"),
        card.whole("conv_kernel", "mamba_d_conv") or 4,
    )


def _mamba2(card: Card) -> dict[str, Any]:
    """VLLM mamba_utils.py, mamba2_state_shape: each GPU has a group at least."""
    there, size, groups, state, kernel = mamba2_sizes(card)
    made: dict[str, Any] = {
        "convolution": there * size * (kernel - 1),
        "recurrent": there * size * state,
        "groups": groups,
        "of_group": 2 * state * (kernel - 1),
    }
    # vLLM 0.32.0, model_executor/models/config.py:713
    return made | ({"dtype": "float32"} if _is_left_open(card) else {})


def _is_left_open(card: Card) -> bool:
    return card.model_type == "nemotron_h" and card.get("mamba_ssm_dtype", "mamba_ssm_cache_dtype") is None


def _mamba1(card: Card) -> dict[str, Any]:
    """VLLM mamba_utils.py, mamba1_state_shape."""
    inner = (card.whole("mamba_expand") or 2) * card.number("hidden_size")
    kernel = card.whole("mamba_d_conv") or 4
    return {"convolution": inner * (kernel - 1), "recurrent": inner * card.number("mamba_d_state")}


def _lightning(card: Card) -> dict[str, Any]:
    """VLLM mamba_utils.py, linear_attention_state_shape."""
    return {"convolution": 0, "recurrent": heads(card) * head_dim(card) ** 2}


def _conv(card: Card) -> dict[str, Any]:
    """VLLM mamba_utils.py, short_conv_state_shape."""
    width = (card.whole("conv_L_cache") or 3) - 1
    return {"convolution": card.whole("conv_dim", "hidden_size") * width, "recurrent": 0}


_SIZES = {
    "gdn": _gdn,
    "kda": _kda,
    "mamba2": _mamba2,
    "both": _mamba2,
    "mamba1": _mamba1,
    "lightning": _lightning,
    "conv": _conv,
}
