"""Reads a model's architecture from a Hugging Face folder. Pure, except for reading that folder.

What cannot be read is left out and said in `Architecture.unread`: the checks that need it are skipped, the others not.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.core.errors import ModelError
from pipeline.core.schema_model import Architecture, Cache, State
from pipeline.core.values import parse
from pipeline.models import config_json, kept, layers, parameters, quantized
from pipeline.models.config_json import Card
from pipeline.models.layers import EXPERTS, Layer, Layers
from pipeline.models.parameters import Part

GIB = 2**30


def read(folder: Path) -> Architecture:
    """The architecture of the model in `folder`.

    Raises:
        ModelError: config.json is missing or unreadable, or lacks what every check needs: layers, heads, sizes.
    """
    return architecture(config_json.read(folder), file_bytes(folder))


def is_there(folder: Path) -> bool:
    """Whether a folder says what model it holds, be it in a way that is not read here."""
    return any((folder / name).is_file() for name in config_json.NAMES)


def architecture(card: Card, weighed: int | None = None) -> Architecture:
    """The architecture that a card describes. `weighed`: bytes of the published weights, if they are there.

    Raises:
        ModelError: as `read`.
    """
    plan, dtype = layers.of(card), _dtype(card)
    told = [plan.unread] if plan.unread else []
    caches, states = _kept(card, plan, told)
    found = {
        **_attention(card),
        **_experts(card),
        **_sizes(card, plan.each, weighed, dtype, told),
        "name": card.architecture,
        "layers": len(plan.each),
        "hidden_size": card.number("hidden_size"),
        "dtype": dtype,
        "quantization": quantized.method(card),
        "context_tokens": card.number("max_position_embeddings", "model_max_length", "max_seq_len", "seq_length"),
        "caches": caches,
        "states": states,
        "unread": tuple(told),
    }
    try:
        return parse(Architecture, found)
    except ValidationError as error:
        raise ModelError(f"{card.path} describes a model that servetune does not support: {error}") from error


def _kept(card: Card, plan: Layers, told: list[str]) -> tuple[tuple[Cache, ...] | None, tuple[State, ...]]:
    """What layers keep; nothing is listed where all keep every token alike. None: not known, and `told` says why."""
    if plan.unread:
        return None, ()
    try:
        caches, states = kept.caches(card, plan.each), kept.states(card, plan.each)
    except ModelError as error:
        told.append(f"what its layers keep is not known: {error}")
        return None, ()
    is_plain = len(caches) == 1 and not states and caches[0] == kept.plain(card, len(plan.each))
    return (() if is_plain else caches), states


def _sizes(card: Card, plan: Sequence[Layer], weighed: int | None, dtype: str, told: list[str]) -> dict[str, Any]:
    """Parameters, and weights: those that are there, else as computed. Unknown layers are not counted."""
    if told:
        return {"weights_gib": weighed / GIB if weighed else None}
    try:
        found = parameters.parts(card, plan)
    except ModelError as error:
        told.append(f"how many parameters it has is not known: {error}")
        return {"weights_gib": weighed / GIB if weighed else None}
    total, active = parameters.totals(found)
    return {
        "parameters_b": total / 1e9,
        "active_parameters_b": active / 1e9,
        "weights_gib": (weighed / GIB if weighed else _computed_gib(card, found, dtype, told)),
    }


def _computed_gib(card: Card, found: Sequence[Part], dtype: str, told: list[str]) -> float | None:
    try:
        return quantized.size(card, found, dtype) / GIB
    except ModelError as error:
        told.append(str(error))
        return None


def _attention(card: Card) -> dict[str, Any]:
    heads, kv_heads = kept.heads(card), kept.kv_heads(card)
    latent = ("kv_lora_rank", "qk_rope_head_dim") if card.whole("kv_lora_rank") else ()
    ranks = {name: size for name in latent if (size := card.whole(name))}
    return {
        "attention": "mla" if ranks else "mha" if heads == kv_heads else "gqa",
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": kept.head_dim(card),
        **ranks,
    }


def _experts(card: Card) -> dict[str, Any]:
    experts = card.whole(*EXPERTS) if card.get("enable_moe_block") is not False else 0
    used = parameters.used_experts(card)
    is_sparse = experts and used and any(layer.mlp == "sparse" for layer in layers.of(card).each)
    return {"experts": experts, "experts_per_token": used} if is_sparse else {}


def _dtype(card: Card) -> str:
    """Older files say torch_dtype, newer ones dtype; a file that says neither is taken for bfloat16."""
    return str(card.get("dtype", "torch_dtype") or "bfloat16").removeprefix("torch.")


def file_bytes(folder: Path) -> int | None:
    """Bytes of the published weights: the index's own total, else the files' (Mistral's hold all again in one)."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        total = (config_json.load(index).get("metadata") or {}).get("total_size")
        if total:
            return int(total)
    files = list(folder.glob("model*.safetensors")) or list(folder.glob("*.safetensors"))
    return sum(path.stat().st_size for path in files) or None
