"""What a model is made of, as far as its memory and its speed depend on it."""

from typing import Literal

from pydantic import Field

from pipeline.core.values import value

Dtype = Literal["bfloat16", "float16", "float32"]


@value
class Cache:
    """Layers that keep something of every token: keys and values, or MLA's compressed vector."""

    layers: int = Field(gt=0)
    kv_heads: int = Field(gt=0)  # split over GPUs, one at least on each; 1 for MLA, whose vector every GPU holds
    elements: int = Field(gt=0)  # of one token and KV head: key and value together; MLA: the compressed vector
    window: int | None = Field(default=None, gt=0)  # the last tokens that it keeps; None: all
    index_bytes: int = Field(default=0, ge=0)  # of one token, whatever the KV type: the index of sparse attention


@value
class State:
    """Layers that keep a state of fixed size for each sequence: Mamba, linear attention, short convolutions."""

    layers: int = Field(gt=0)
    convolution: int = Field(ge=0)  # elements of one layer's convolution, split over GPUs, in the model's dtype
    recurrent: int = Field(ge=0)  # elements of one layer's state, split over GPUs
    dtype: Dtype | None = None  # of the recurrent state, as config.json or the engines say; None: the engine's choice
    groups: int = Field(default=0, ge=0)  # Mamba 2: at least one on each GPU
    of_group: int = Field(default=0, ge=0)  # elements of the convolution for one group, beside `convolution`


@value
class Architecture:
    """What decides a model's memory use and speed, named as in config.json. Sizes count elements, not bytes."""

    name: str | None = None  # the class, e.g. Qwen3ForCausalLM; OME needs it to match a model to a serving runtime
    attention: Literal["mha", "gqa", "mla"]
    layers: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    kv_lora_rank: int | None = Field(default=None, gt=0)  # MLA: elements of the compressed KV per token and layer
    qk_rope_head_dim: int | None = Field(default=None, gt=0)  # MLA: cached in addition to kv_lora_rank
    experts: int | None = Field(default=None, gt=0)  # None: a dense model
    experts_per_token: int | None = Field(default=None, gt=0)
    parameters_b: float | None = Field(default=None, gt=0)  # billions; None: not known
    active_parameters_b: float | None = Field(default=None, gt=0)  # billions that one token uses
    weights_gib: float | None = Field(default=None, gt=0)  # of the published files; None: not known
    dtype: Dtype  # of activations, and of the KV cache unless a knob sets it
    quantization: str | None = None  # config.json's quant_method; None: weights have `dtype`
    context_tokens: int = Field(gt=0)
    caches: tuple[Cache, ...] | None = ()  # empty, without `states`: every layer keeps all, as above; None: not known
    states: tuple[State, ...] = ()
    unread: tuple[str, ...] = ()  # what could not be read of the model, in words: its checks are left out

    @property
    def kept(self) -> tuple[Cache, ...]:
        """The layers that keep tokens; empty where that is not known, or where none does."""
        if self.caches is None or self.caches or self.states:
            return self.caches or ()
        if self.attention == "mla":
            elements = (self.kv_lora_rank or 0) + (self.qk_rope_head_dim or 0)
            return (Cache(layers=self.layers, kv_heads=1, elements=elements),)
        return (Cache(layers=self.layers, kv_heads=self.kv_heads, elements=2 * self.head_dim),)
