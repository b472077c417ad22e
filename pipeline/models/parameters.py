"""How many parameters a model has, part by part, from the shapes in config.json. Pure.

Left out: norms and biases (below 0.1 %), and layers that predict further tokens (num_nextn_predict_layers), which an
engine loads for speculative decoding only. Source: the modules in transformers 5.19.0, models/*/modeling_*.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.core.errors import ModelError
from pipeline.models import kept
from pipeline.models.config_json import Card
from pipeline.models.layers import EXPERTS, Layer

# whose MLP has two matrices, not three
UNGATED = {"nemotron", "nemotron_h", "starcoder2", "phi", "gpt_neox", "falcon", "gpt2", "apertus"}
USED = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_k", "top_k_experts")
# parts beside attention, MLP and experts whose sizes are not known here
STRANGE = ("altup_num_inputs", "laurel_rank", "hidden_size_per_layer_input", "hc_mult", "num_zero_experts")


@dataclass(frozen=True)
class Part:
    """Parameters that lie together in the weights. `name`: as a list of what is not quantized may name it."""

    name: str
    count: int
    share: float = 1.0  # of it that one token passes through
    is_expert: bool = False


def parts(card: Card, layers: Sequence[Layer]) -> tuple[Part, ...]:
    """All parts of a model.

    Raises:
        ModelError: a size is missing, or the model has parts that are not known here.
    """
    if strange := next((name for name in STRANGE if card.get(name)), None):
        raise ModelError(f"{strange!r} in {card.path} stands for parameters that are not counted here")
    vocabulary = card.number("vocab_size") * card.number("hidden_size")
    made = [Part("model.embed_tokens", vocabulary)]
    if not card.get("tie_word_embeddings"):
        made.append(Part("lm_head", vocabulary))
    for number, layer in enumerate(layers):
        made += _layer(card, layer, f"model.layers.{number}")
    return (*made, *_vision(card))


def totals(found: Sequence[Part]) -> tuple[int, int]:
    """All parameters of the language model, and those that one token passes through."""
    own = [part for part in found if not part.name.startswith("vision")]
    return sum(part.count for part in own), round(sum(part.count * part.share for part in own))


def used_experts(card: Card) -> int:
    """Experts that one token passes through."""
    return card.whole(*USED)


def _layer(card: Card, layer: Layer, name: str) -> Iterator[Part]:
    if layer.mixer:
        counted = _attention(card, layer) if layer.mixer in {"attention", "both"} else 0
        place = "self_attn" if counted else "mixer" if card.model_type == "nemotron_h" else "linear_attn"
        yield Part(f"{name}.{place}.o_proj", counted + _MIXERS.get(layer.mixer, _none)(card))
    if layer.mlp == "dense":
        width = card.whole("intermediate_size_mlp", "intermediate_size")
        matrices = ("up_proj", "down_proj", "gate_proj")[: 2 if card.model_type in UNGATED else 3]
        for matrix in matrices:
            yield Part(f"{name}.{_block(card)}.{matrix}", _mlp(card, width) // len(matrices))
    elif layer.mlp == "sparse":
        yield from _experts(card, name)


def _block(card: Card) -> str:
    """What a layer's MLP is called. Nemotron-H, whose layers are one thing each, calls each of them mixer."""
    return "mixer" if card.model_type == "nemotron_h" else "mlp"


def _experts(card: Card, name: str) -> Iterator[Part]:
    """The router, the experts, and the shared ones; Gemma 4 has a dense MLP beside them."""
    hidden, there = card.number("hidden_size"), card.number(*EXPERTS)
    width = card.number("moe_intermediate_size", "intermediate_size")
    latent = card.whole("moe_latent_size")
    one = _mlp(card, width, latent or hidden)
    block = f"{name}.{_block(card)}"
    yield Part(f"{block}.gate", hidden * there)
    yield Part(f"{block}.experts.0.down_proj", there * one, used_experts(card) / there, is_expert=True)
    beside = _shared(card, width) + 2 * hidden * latent
    if card.get("enable_moe_block"):
        beside += _mlp(card, card.whole("intermediate_size"))
    if beside:
        yield Part(f"{block}.shared_experts.down_proj", beside)


def _shared(card: Card, width: int) -> int:
    """The shared experts together. Llama 4 has one always, as wide as the others, and does not say so."""
    named = ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size")
    count = card.whole("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")
    if card.model_type.startswith("llama4"):
        count = 1
    wide = card.whole(*named)
    return _mlp(card, wide or width * count)


def _mlp(card: Card, width: int, hidden: int = 0) -> int:
    return (2 if card.model_type in UNGATED else 3) * (hidden or card.number("hidden_size")) * width


def _attention(card: Card, layer: Layer) -> int:
    """Query, key, value and output; for MLA the low-rank pairs of q and of k and v, and DeepSeek's index.

    Source of the latter: DeepSeek-V2, arXiv 2405.04434, equations 9 to 19 and appendix C; DeepSeek-V3.2-Exp,
    inference/model.py, class Indexer. Qwen3-Next and 3.5 gate the output by a second query.
    """
    hidden, heads = card.number("hidden_size"), kept.heads(card)
    if rank := card.whole("kv_lora_rank"):
        nope, rope = card.number("qk_nope_head_dim"), card.whole("qk_rope_head_dim")
        out, low = card.number("v_head_dim"), card.whole("q_lora_rank")
        query = low * (hidden + heads * (nope + rope)) if low else hidden * heads * (nope + rope)
        return query + hidden * (rank + rope) + rank * heads * (nope + out) + heads * out * hidden + _index(card)
    one = kept.caches(card, [replace(layer, mixer="attention")] * (1 + card.whole("num_kv_shared_layers")))[0]
    wide = one.elements // 2
    is_gated = card.get("attn_output_gate") or card.model_type.startswith(("qwen3_next", "qwen3_5"))
    queries = heads * wide * (2 if is_gated else 1)
    is_once = card.get("attention_k_eq_v") and layer.window is None
    return hidden * (queries + heads * wide + one.kv_heads * (wide if is_once else one.elements))


def _index(card: Card) -> int:
    if not card.whole("index_topk"):
        return 0
    hidden, heads, size = card.number("hidden_size"), card.number("index_n_heads"), card.number("index_head_dim")
    return card.whole("q_lora_rank") * heads * size + hidden * (size + heads)


def _gdn(card: Card) -> int:
    keys = card.number("linear_num_key_heads") * card.number("linear_key_head_dim")
    heads = card.number("linear_num_value_heads")
    values = heads * card.number("linear_value_head_dim")
    kernel = card.number("linear_conv_kernel_dim")
    return card.number("hidden_size") * (2 * keys + 3 * values + 2 * heads) + (2 * keys + values) * kernel


def _kda(card: Card) -> int:
    """Queries, keys and values, two gates of low rank, and the output."""
    (heads, size, kernel), hidden = kept.kda_sizes(card), card.number("hidden_size")
    wide = heads * size
    return 4 * hidden * wide + 2 * size * (hidden + wide) + hidden * heads + 3 * wide * kernel


def _mamba2(card: Card) -> int:
    (heads, size, groups, state, kernel), hidden = kept.mamba2_sizes(card), card.number("hidden_size")
    inner, convolved = heads * size, heads * size + 2 * groups * state
    return hidden * (inner + convolved + heads) + convolved * kernel + inner * hidden


def _mamba1(card: Card) -> int:
    hidden, state = card.number("hidden_size"), card.number("mamba_d_state")
    inner = (card.whole("mamba_expand") or 2) * hidden
    rank = card.whole("mamba_dt_rank") or -(-hidden // 16)
    return inner * (3 * hidden + (card.whole("mamba_d_conv") or 4) + 2 * rank + 3 * state)


def _lightning(card: Card) -> int:
    return 5 * card.number("hidden_size") * kept.heads(card) * kept.head_dim(card)


def _conv(card: Card) -> int:
    hidden = card.number("hidden_size")
    return 4 * hidden * hidden + hidden * (card.whole("conv_L_cache") or 3)


def _none(_card: Card) -> int:
    return 0


def _vision(card: Card) -> Iterator[Part]:
    """A vision tower: its layers' attention and MLP; patches and projector are left out."""
    said = card.get("vision_config")
    tower = Card(said if isinstance(said, dict) else {}, card.path)
    hidden, depth = (
        tower.whole("hidden_size", "embed_dim", "width"),
        tower.whole("num_hidden_layers", "depth", "layers"),
    )
    if hidden and depth:
        wide = tower.whole("intermediate_size") or 4 * hidden
        yield Part("vision_tower", depth * (4 * hidden * hidden + 2 * hidden * wide))


_MIXERS = {
    "gdn": _gdn,
    "kda": _kda,
    "mamba2": _mamba2,
    "both": _mamba2,
    "mamba1": _mamba1,
    "lightning": _lightning,
    "conv": _conv,
}
