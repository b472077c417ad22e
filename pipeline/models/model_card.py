"""Reads a model's architecture from a Hugging Face folder. Pure, except for reading that folder.

Parameters are counted from the shapes in config.json. Left out: norms and biases (below 0.1 %), and layers that predict
further tokens (num_nextn_predict_layers), which an engine loads for speculative decoding only.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from pipeline.core.errors import ModelError
from pipeline.core.schema import Architecture
from pipeline.core.values import parse

GIB = 2**30
_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
# of one weight where its files are not there to be weighed; scales and layers left in 16 bit are not in it
_QUANTIZED_BYTES = {"fp8": 1, "fbgemm_fp8": 1, "compressed-tensors": 1, "awq": 0.5, "gptq": 0.5, "mxfp4": 0.5}
_EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts")
_CACHES_EVERY_TOKEN = {"full_attention", "attention"}


def read(folder: Path) -> Architecture:
    """The architecture of the model in `folder`.

    Raises:
        ModelError: config.json is missing, unreadable, or lacks what the sum needs; or some layers do not keep every
            token (windows, Mamba), so that the KV cache is not layers times tokens.
    """
    path = folder / "config.json"
    config = _text(_json(path))
    _must_cache_every_token(config, path)
    total, active = parameters(config, path)
    quantization = (config.get("quantization_config") or {}).get("quant_method")
    dtype = _dtype(config)
    bytes_each = _QUANTIZED_BYTES.get(str(quantization), _BYTES.get(dtype, 2))
    found = {
        **_attention(config, path),
        **_experts(config),
        "name": next(iter(config.get("architectures") or ()), None),
        "layers": _number(config, "num_hidden_layers", path),
        "hidden_size": _number(config, "hidden_size", path),
        "parameters_b": total / 1e9,
        "active_parameters_b": active / 1e9,
        "weights_gib": (_weighed(folder) or total * bytes_each) / GIB,
        "dtype": dtype,
        "quantization": quantization,
        "context_tokens": _number(config, "max_position_embeddings", path),
    }
    try:
        return parse(Architecture, found)
    except ValidationError as error:
        raise ModelError(f"{path} describes a model that servetune does not support: {error}") from error


def parameters(config: Mapping[str, Any], path: Path = Path("config.json")) -> tuple[int, int]:
    """All parameters, and those that one token passes through.

    Embedding: vocabulary x hidden, twice if the output has a matrix of its own. Each layer: attention (`_attending`),
    and an MLP of gate, up and down (3 x hidden x intermediate) or, in a sparse layer, the router (hidden x experts),
    the experts and the shared experts, each an MLP of its own width. A token passes through experts_per_token of them.
    Source: the modules in transformers, models/{llama,mixtral,qwen3_moe,deepseek_v3,glm4_moe}/modeling_*.py.
    """
    hidden, layers = _number(config, "hidden_size", path), _number(config, "num_hidden_layers", path)
    sparse = _sparse_layers(config, layers)
    mlp = 3 * hidden * int(config.get("intermediate_size") or 0)
    expert, shared = _expert_sizes(config, hidden)
    experts, used = _first(config, _EXPERTS) or 0, config.get("num_experts_per_tok") or 0
    always = (
        _number(config, "vocab_size", path) * hidden * (1 if _is_tied(config) else 2)
        + layers * _attending(config, path)
        + (layers - sparse) * mlp
        + sparse * (hidden * experts + shared)
    )
    return always + sparse * experts * expert, always + sparse * used * expert


def _attending(config: Mapping[str, Any], path: Path) -> int:
    """Parameters of one layer's attention: q, k, v and output; for MLA the low-rank pairs of q and of k and v.

    Source of the latter: DeepSeek-V2, arXiv 2405.04434, equations 9 to 19 and appendix C.
    """
    hidden, heads = _number(config, "hidden_size", path), _number(config, "num_attention_heads", path)
    if rank := config.get("kv_lora_rank"):
        nope, rope = _number(config, "qk_nope_head_dim", path), _number(config, "qk_rope_head_dim", path)
        out = _number(config, "v_head_dim", path)
        low = config.get("q_lora_rank")
        query = low * (hidden + heads * (nope + rope)) if low else hidden * heads * (nope + rope)
        return int(query + hidden * (rank + rope) + rank * heads * (nope + out) + heads * out * hidden)
    return int(2 * hidden * _head_dim(config, path) * (heads + _kv_heads(config, path)))


def _expert_sizes(config: Mapping[str, Any], hidden: int) -> tuple[int, int]:
    """Parameters of one routed expert, and of a layer's shared experts together."""
    width = int(config.get("moe_intermediate_size") or config.get("intermediate_size") or 0)
    shared = int(config.get("shared_expert_intermediate_size") or width * (config.get("n_shared_experts") or 0))
    return 3 * hidden * width, 3 * hidden * shared


def _sparse_layers(config: Mapping[str, Any], layers: int) -> int:
    """How many layers have experts: after first_k_dense_replace, every decoder_sparse_step-th, not mlp_only_layers."""
    if not _first(config, _EXPERTS):
        return 0
    first, step = config.get("first_k_dense_replace") or 0, config.get("decoder_sparse_step") or 1
    dense = set(config.get("mlp_only_layers") or ())
    return sum((layer + 1) % step == 0 and layer not in dense for layer in range(first, layers))


def _attention(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    heads, kv_heads = _number(config, "num_attention_heads", path), _kv_heads(config, path)
    kind: Literal["mla", "gqa", "mha"] = "mha" if heads == kv_heads else "gqa"
    ranks = {}
    if config.get("kv_lora_rank"):
        kind = "mla"
        ranks = {name: _number(config, name, path) for name in ("kv_lora_rank", "qk_rope_head_dim")}
    return {
        "attention": kind,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": _head_dim(config, path),
        **ranks,
    }


def _experts(config: Mapping[str, Any]) -> dict[str, Any]:
    experts = _first(config, _EXPERTS)
    return {"experts": experts, "experts_per_token": config.get("num_experts_per_tok")} if experts else {}


def _head_dim(config: Mapping[str, Any], path: Path) -> int:
    """The head size; for MLA that of a value head: its keys have another, and its KV cache depends on neither."""
    if config.get("kv_lora_rank"):
        return _number(config, "v_head_dim", path)
    given = config.get("head_dim")
    return int(given or _number(config, "hidden_size", path) // _number(config, "num_attention_heads", path))


def _kv_heads(config: Mapping[str, Any], path: Path) -> int:
    return int(config.get("num_key_value_heads") or _number(config, "num_attention_heads", path))


def _is_tied(config: Mapping[str, Any]) -> bool:
    """Whether input and output share one matrix; Gemma's config classes say so by default, the others do not."""
    default = str(config.get("model_type", "")).startswith("gemma")
    return bool(config.get("tie_word_embeddings", default))


def _dtype(config: Mapping[str, Any]) -> str:
    """Older files say torch_dtype, newer ones dtype; a file that says neither is taken for bfloat16."""
    return str(config.get("dtype") or config.get("torch_dtype") or "bfloat16").removeprefix("torch.")


def _must_cache_every_token(config: Mapping[str, Any], path: Path) -> None:
    kinds = {kind for kind in config.get("layer_types") or () if kind not in _CACHES_EVERY_TOKEN}
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    if config.get("layer_types"):
        window = None  # the list says which layers have it
    if window and window < (config.get("max_position_embeddings") or 0):
        kinds.add(f"a sliding window of {window} tokens")
    if kinds:
        raise ModelError(
            f"{path}: expected layers that all attend to every token, found {', '.join(sorted(kinds))}: "
            "the size of the KV cache cannot be computed.",
            hint="Set runtime.memory=null to skip the memory check, or set model.arch.",
        )


def _weighed(folder: Path) -> int | None:
    """Bytes of the published weights: the index's own total, else the files' (Mistral's hold all again in one)."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        total = (_json(index).get("metadata") or {}).get("total_size")
        if total:
            return int(total)
    files = list(folder.glob("model*.safetensors")) or list(folder.glob("*.safetensors"))
    return sum(path.stat().st_size for path in files) or None


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's part; a multimodal config nests it and may keep dtype and quantization outside."""
    return {**config, **config["text_config"]} if isinstance(config.get("text_config"), dict) else config


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((int(config[name]) for name in names if config.get(name)), None)


def _number(config: Mapping[str, Any], name: str, path: Path) -> int:
    found = config.get(name)
    if not isinstance(found, int) or found <= 0:
        raise ModelError(f"{path}: expected a positive number {name!r}, found {found!r} among {sorted(config)}.")
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: expected an object, found a {type(found).__name__}.")
    return found
