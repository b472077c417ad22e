"""How many bytes a weight takes, from the quantization_config of config.json. Pure.

Embeddings, routers and what the file lists stay in the model's dtype. Scales and zero points are counted.
"""

import fnmatch
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import ModelError
from pipeline.models.config_json import Card
from pipeline.models.parameters import Part

DTYPES = {"bfloat16": 2.0, "float16": 2.0, "float32": 4.0}
ALWAYS_WHOLE = ("embed_tokens", ".gate")  # no engine has these in fewer bits
FP4_BITS = 4
MIXERS = ("self_attn", "linear_attn", "mixer")
MLP = ("gate", "gate_proj", "up_proj", "down_proj", "experts", "shared_experts")  # Nemotron-H has these in its mixer
BLOCK = 128  # rows and columns that share a scale in DeepSeek's FP8, and in AWQ and GPTQ where nothing else is said
ASIDE = ("ignore", "modules_to_not_convert", "ignored_layers", "exclude_modules", "llm_int8_skip_modules")
BLOCKS = ("feed_forward", "block_sparse_moe")  # Llama 4's and Mixtral's names of the MLP
Reader = Callable[[Mapping[str, Any]], float]


@dataclass(frozen=True)
class Scheme:
    """Bytes of a weight with its scales, for parts whose name fits one of `targets`; empty: all."""

    bytes_each: float
    targets: tuple[str, ...] = ()


def size(card: Card, parts: Sequence[Part], dtype: str) -> float:
    """Bytes of all weights.

    Raises:
        ModelError: the way in which they are quantized is not known here.
    """
    whole = DTYPES.get(dtype, 2.0)
    said = method(card)
    if said is None:
        return sum(part.count * whole for part in parts)
    settings = card.get("quantization_config")
    schemes, left = _schemes(card, said, settings), _left_out(settings)
    return sum(part.count * _bytes(part, schemes, left, whole) for part in parts)


def method(card: Card) -> str | None:
    """config.json's quant_method; None: not quantized."""
    settings = card.get("quantization_config")
    if not isinstance(settings, dict) or not settings:
        return None
    said = settings.get("quant_method") or ("modelopt" if settings.get("quant_algo") else None)
    return str(said) if said else None


def _bytes(part: Part, schemes: Sequence[Scheme], left: Sequence[str], whole: float) -> float:
    if part.name.endswith(ALWAYS_WHOLE) or any(_fits(part.name, pattern) for pattern in left):
        return whole
    return next((each.bytes_each for each in schemes if not each.targets or _is_target(part, each)), whole)


def _is_target(part: Part, scheme: Scheme) -> bool:
    return any(target == "Linear" or _fits(part.name, target) for target in scheme.targets)


def _fits(name: str, listed: str) -> bool:
    """Whether a part is meant: by a regular expression (re:), a pattern with *, or a word of a name.

    What lies before the layers differs (language_model.model.layers.0), and the last word is one of several.
    """
    pattern = listed
    for other in BLOCKS:
        pattern = pattern.replace(other, "mlp")
    if pattern.startswith("re:"):
        try:
            return re.match(pattern[3:], name) is not None
        except re.error:
            return False
    layer, _, rest = pattern.partition("layers.")[2].partition(".")
    if layer.isdigit():
        own = name.partition("layers.")[2].partition(".")
        return own[0] == layer and _same_place(own[2], rest)
    bare = pattern.strip("*.")
    return fnmatch.fnmatch(name, f"*{bare}*") if bare else False


def _same_place(own: str, named: str) -> bool:
    """Whether two names within a layer mean the same part: o_proj stands for all matrices of a mixer."""
    bare = named.strip("*.")
    block, _, matrix = bare.partition(".")
    if block in MIXERS and matrix and matrix.partition(".")[0] not in MLP:
        return own == f"{block}.o_proj"
    return not bare or own == bare or own.startswith(f"{bare}.") or fnmatch.fnmatch(own, named)


def _left_out(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of what is not quantized; the output matrix is not unless the file says so."""
    named = [str(each) for key in ASIDE for each in settings.get(key) or ()]
    named += [f"re:{name[2:]}" for name in settings.get("dynamic") or () if name.startswith("-:")]  # GPTQModel's
    return (*named, *(() if settings.get("lm_head") or settings.get("quantize_lm_head") else ("lm_head",)))


def _schemes(card: Card, said: str, settings: Mapping[str, Any]) -> tuple[Scheme, ...]:
    if said == "compressed-tensors" and settings.get("config_groups"):
        groups = settings["config_groups"].values()
        return tuple(_compressed(group, str(settings.get("format"))) for group in groups)
    if said in {"modelopt", "modelopt_fp4", "modelopt_mixed"} and settings.get("config_groups"):
        groups = settings["config_groups"].values()
        return tuple(_compressed(group, str(settings.get("quant_algo"))) for group in groups)
    reader = READERS.get(said)
    if reader is None:
        raise ModelError(f"quant_method {said!r} in {card.path} is not known here, so the size of the weights is not")
    each = reader(settings)
    if not each:
        raise ModelError(f"{card.path}: how many bits a weight of quant_method {said!r} takes is not said: {settings}")
    return (Scheme(each),)


def _compressed(group: Mapping[str, Any], form: str) -> Scheme:
    """A group of compressed-tensors: bits of its weights, and a scale for each group, block, channel or tensor.

    Source: compressed-tensors 0.17.0, quantization/quant_args.py; scales of FP4 are a byte, others two.
    """
    weights = group.get("weights") or {}
    bits = float(weights.get("num_bits") or 16)
    shared = int(weights.get("group_size") or 0)
    if shared > 0:
        is_fp4 = weights.get("type") == "float" and bits == FP4_BITS
        bits += (8 if is_fp4 or "fp4" in form.lower() else 16) / shared
    return Scheme(bits / 8, tuple(str(each) for each in group.get("targets") or ()))


def _grouped(settings: Mapping[str, Any]) -> float:
    """AWQ, GPTQ and their kin: a scale of two bytes and a zero point for each group."""
    bits = float(settings.get("bits") or settings.get("w_bit") or 4)
    shared = int(settings.get("group_size") or settings.get("q_group_size") or BLOCK)
    return (bits + ((16 + bits) / shared if shared > 0 else 0)) / 8


def _modelopt(settings: Mapping[str, Any]) -> float:
    """Source: Model-Optimizer, modelopt/torch/export/quant_utils.py; vLLM 0.32.0, quantization/modelopt.py."""
    algorithm = str(settings.get("quant_algo") or "").upper()
    if "NVFP4" in algorithm or "FP4" in algorithm:
        return NVFP4
    if "FP8" in algorithm:
        return MXFP8 if "MX" in algorithm else 1.0
    if "AWQ" in algorithm:
        return _grouped({"bits": 4, **settings})
    return 0.0


def _bitsandbytes(settings: Mapping[str, Any]) -> float:
    """8 bit; or 4 bit with a scale for 64 weights, itself in 8 bit where it is quantized once more.

    Source: QLoRA, arXiv 2305.14314, section 3: 0.5 or 0.127 bits.
    """
    if settings.get("load_in_8bit") or settings.get("_load_in_8bit"):
        return 1.0
    return (4 + (0.127 if settings.get("bnb_4bit_use_double_quant") else 0.5)) / 8


def _fp8(settings: Mapping[str, Any]) -> float:
    block = settings.get("weight_block_size")
    return 1.0 + (4 / math.prod(block) if isinstance(block, list) and block else 0.0)


MXFP4 = (4 + 8 / 32) / 8  # a byte for 32 weights. Source: OCP Microscaling Formats 1.0, table 1
MXFP8 = (8 + 8 / 32) / 8
NVFP4 = (4 + 8 / 16) / 8  # a byte for 16 weights. Source: vLLM 0.32.0, quantization/modelopt.py
READERS: Mapping[str, Reader] = {
    "fp8": _fp8,
    "fbgemm_fp8": _fp8,
    "finegrained_fp8": _fp8,
    "modelopt": _modelopt,
    "modelopt_fp4": lambda _: NVFP4,
    "nvfp4": lambda _: NVFP4,
    "mxfp4": lambda _: MXFP4,
    "gpt_oss_mxfp4": lambda _: MXFP4,
    "mxfp8": lambda _: MXFP8,
    "awq": _grouped,
    "gptq": _grouped,
    "auto-round": _grouped,
    "auto_awq": _grouped,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": lambda _: 0.0,  # without its groups
}
