"""Which layer of a model keeps what, and which has experts, from its config.json. Pure.

Families say it in a dozen ways; each way is one function here, and the first that applies is taken.
Source: the config classes in transformers 5.19.0, models/*/configuration_*.py; SGLang 0.5.23, srt/configs.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.models.config_json import Card

# what mixes tokens in a layer: attention, Mamba 1 or 2, gated delta net, Kimi delta attention, lightning attention, a
# short convolution; "both": attention beside Mamba 2 (Falcon-H1); "": nothing, in a layer that is an MLP
Mixer = Literal["attention", "mamba1", "mamba2", "gdn", "kda", "lightning", "conv", "both", ""]
Mlp = Literal["dense", "sparse", ""]
EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
FULL = frozenset({"full_attention", "attention", "global_attention", "indexed_attention", "deepseek_sparse_attention"})
WINDOWED = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
LINEAR = frozenset({"linear_attention", "mamba", "mamba2", "recurrent", "kda"})
LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}  # of Nemotron-H's pattern
# layouts of which the names are known, and the sizes are not
STRANGE = ("compress_ratios", "compress_ratio", "sparse_attention_config", "local_layer_ids", "attn_res_block_size")
RECURRENT = ("ssm_", "mamba_", "linear_num_", "conv_L_cache", "rwkv", "lru_width", "time_mix")


@dataclass(frozen=True)
class Layer:
    """One layer. `window`: tokens that its attention keeps at most; None: all."""

    mixer: Mixer
    mlp: Mlp
    window: int | None = None


@dataclass(frozen=True)
class Layers:
    """All layers of a model. `unread`: why it is not known what they keep; None: it is."""

    each: tuple[Layer, ...]
    unread: str | None = None


def of(card: Card) -> Layers:
    """The layers of a model, in order.

    Raises:
        ModelError: their number is missing.
    """
    names = _blocks(card)
    if names is not None:
        return _of_blocks(card, names)
    count = card.number("num_hidden_layers", "n_layer")
    mixers = next((found for way in _WAYS if (found := way(card, count)) is not None), None)
    if isinstance(mixers, str):
        return Layers(_with_mlp(card, [Layer("attention", "")] * count), unread=mixers)
    plan = mixers or [Layer("attention", "")] * count
    strange = _strange(card, is_plain=not mixers)
    return Layers(_with_mlp(card, plan), unread=strange)


def sparse(card: Card, count: int) -> frozenset[int]:
    """Which layers have experts."""
    if not card.whole(*EXPERTS) or card.get("enable_moe_block") is False:
        return frozenset()
    listed, flags = card.get("moe_layers"), card.get("moe_layer_freq")
    if isinstance(listed, list):
        return frozenset(listed)
    if kinds := card.texts("mlp_layer_types"):
        flags = [kind == "sparse" for kind in kinds]
    chosen = (i for i, is_on in enumerate(flags) if is_on) if isinstance(flags, list) else _every(card, count)
    return frozenset(chosen)


def _every(card: Card, count: int) -> Iterable[int]:
    """Experts in every n-th layer, after some that are dense."""
    if step := card.whole("interleave_moe_layer_step"):
        return range(step - 1, count, step)
    if period := card.whole("expert_layer_period"):
        return range(card.whole("expert_layer_offset"), count, period)
    first = card.whole("first_k_dense_replace", "moe_layer_start_index", "num_dense_layers")
    step = card.whole("decoder_sparse_step", "moe_layer_freq", "moe_layer_interval") or 1
    dense = set(card.get("mlp_only_layers") or ())
    counted = 1 if card.get("decoder_sparse_step") else 0  # Qwen counts its layers from 1
    return (layer for layer in range(first, count) if (layer + counted) % step == 0 and layer not in dense)


def _blocks(card: Card) -> list[str] | None:
    """Nemotron-H: each layer is one thing, a mixer, an MLP or experts."""
    pattern = card.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        return [LETTERS.get(letter, letter) for letter in pattern if letter != "|"]
    names = list(card.texts("layers_block_type", "layer_types"))
    return names if {"mlp", "moe"} & set(names) else None


def _of_blocks(card: Card, names: Sequence[str]) -> Layers:
    unknown = next((name for name in names if name not in {"mlp", "moe", *FULL, *LINEAR}), None)
    if unknown is not None:
        told = f"its layers of the kind {unknown!r} are not known here"
        return Layers(tuple(Layer("", "") for _ in names), unread=told)
    linear = Layer(_linear(card) or "mamba2", "")
    kinds = {"mlp": Layer("", "dense"), "moe": Layer("", "sparse"), **dict.fromkeys(FULL, Layer("attention", ""))}
    return Layers(tuple(kinds.get(name, linear) for name in names))


def _linear(card: Card) -> Mixer | None:
    """What kind of layer keeps a state: the sizes in the file tell; None: no such sizes."""
    if card.get("linear_attn_config") is not None or card.model_type == "kimi_linear":
        return "kda"
    if card.whole("linear_num_value_heads"):
        return "gdn"
    if card.whole("mamba_num_heads", "mamba_n_heads"):
        return "mamba2"
    if card.whole("mamba_d_state"):
        return "mamba1"
    return "lightning" if card.model_type.startswith("minimax") else None


def _listed(card: Card, count: int) -> list[Layer] | str | None:
    """`layer_types`, as newer files have it; `layers_block_type` of Bamba and Granite."""
    kinds = card.texts("layer_types", "layers_block_type")[:count]
    made = []
    for kind in kinds:
        linear = _linear(card) if kind in LINEAR else "conv" if kind == "conv" else None
        if kind in WINDOWED:
            made.append(Layer("attention", "", window=card.whole(WINDOWED[kind]) or None))
        elif kind in FULL or linear:
            made.append(Layer(linear or "attention", ""))
        else:
            return f"its layers of the kind {kind!r} are not known here, so the size of the KV cache is not"
    return made or None


def _numbered(card: Card, count: int) -> list[Layer] | None:
    """Kimi-Linear numbers its layers from 1, LFM2 those that attend from 0."""
    linear = card.get("linear_attn_config")
    if isinstance(linear, dict) and isinstance(linear.get("kda_layers"), list):
        base = 0 if 0 in [*linear["kda_layers"], *(linear.get("full_attn_layers") or ())] else 1
        return _where(count, {layer - base for layer in linear["kda_layers"]}, "kda")
    attending = card.get("full_attn_idxs")
    return _where(count, set(range(count)) - set(attending), "conv") if isinstance(attending, list) else None


def _flagged(card: Card, count: int) -> list[Layer] | None:
    """A 1 or 0 for each layer: MiMo's windows, MiniMax-Text's lightning attention, Llama 4's chunks."""
    if flags := card.get("hybrid_layer_pattern"):
        return _windows(count, {i for i, flag in enumerate(flags) if flag}, card.whole("sliding_window"))
    if flags := card.get("attn_type_list"):
        return _where(count, {i for i, flag in enumerate(flags) if not flag}, "lightning")
    if not (chunk := card.whole("attention_chunk_size")):
        return None
    interval = card.whole("no_rope_layer_interval") or 4
    flags = card.get("no_rope_layers") or [(layer + 1) % interval for layer in range(count)]
    return _windows(count, {i for i, flag in enumerate(flags) if flag}, chunk)


def _periodic(card: Card, count: int) -> list[Layer] | None:
    """Every n-th layer attends: Jamba, Qwen3-Next, Falcon-H1 (each of its layers does both)."""
    if period := card.whole("attn_layer_period"):
        attending = set(range(card.whole("attn_layer_offset"), count, period))
        return _where(count, set(range(count)) - attending, _linear(card) or "mamba1")
    if card.model_type == "falcon_h1":
        return [Layer("both", "")] * count
    interval = card.whole("full_attention_interval") or (4 if card.model_type.startswith(_EVERY_FOURTH) else 0)
    if not interval or not (linear := _linear(card)):
        return None
    return _where(count, {layer for layer in range(count) if (layer + 1) % interval}, linear)


def _sliding(card: Card, count: int) -> list[Layer] | None:
    """One window for all, for all but every n-th, or from a layer on (Qwen2, which counts those before it)."""
    window = card.whole("sliding_window")
    if not window or card.get("use_sliding_window") is False:
        return None
    if pattern := card.get("sliding_window_pattern", "_sliding_window_pattern") or _PATTERNS.get(card.model_type):
        step = pattern if isinstance(pattern, int) else len(pattern)  # EXAONE 4 writes LLLG
        return _windows(count, {layer for layer in range(count) if (layer + 1) % step}, window)
    first = card.whole("max_window_layers") if card.get("use_sliding_window") else 0
    return _windows(count, set(range(first, count)), window)


def _where(count: int, chosen: Iterable[int], mixer: Mixer) -> list[Layer]:
    there = frozenset(chosen)
    return [Layer(mixer if layer in there else "attention", "") for layer in range(count)]


def _windows(count: int, chosen: Iterable[int], window: int) -> list[Layer]:
    there = frozenset(chosen)
    return [Layer("attention", "", window=window if layer in there else None) for layer in range(count)]


def _with_mlp(card: Card, plan: Sequence[Layer]) -> tuple[Layer, ...]:
    experts = sparse(card, len(plan))
    return tuple(replace(each, mlp="sparse" if i in experts else "dense") for i, each in enumerate(plan))


def _strange(card: Card, *, is_plain: bool) -> str | None:
    """Why the layers may keep something else than was read: nothing is guessed."""
    if found := next((name for name in STRANGE if card.get(name)), None):
        return f"{found!r} says that its layers keep tokens in a way that is not known here"
    if not is_plain:
        return None
    found = next((name for name in card.keys if name.startswith(RECURRENT) and card.keys[name]), None)
    return found and f"{found!r} says that some layers keep a state, and nothing says which ones"


_WAYS: tuple[Callable[[Card, int], list[Layer] | str | None], ...] = (
    _numbered,
    _flagged,
    _listed,
    _periodic,
    _sliding,
)
_EVERY_FOURTH = ("qwen3_next", "qwen3_5")
# every n-th layer has no window where the file does not say: the classes' own defaults
_PATTERNS = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "gemma4_text": 6, "gpt_oss": 2, "cohere2": 4, "olmo3": 4}
