"""What a draft model adds to the memory sum: its weights, and its KV cache. Pure, except for reading its config.json.

Layers for drafting that lie in the model's own files (MTP, NEXTN) add no weights: the files are counted. They keep
tokens as one layer more. Source: SGLang's srt/model_executor/pool_configurator.py (a draft's layers have as many
tokens as the model's) and srt/configs/model_config.py; vLLM's config/speculative.py (_verify_and_get_draft_tp).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.core.errors import ModelError
from pipeline.core.findings import Finding
from pipeline.core.places import CONF
from pipeline.core.schema import Config, Model
from pipeline.core.schema_model import Architecture
from pipeline.core.values import parse
from pipeline.engines import knob_json
from pipeline.models import config_json, hub, kv_cache, layers, model_card, parameters, quantized
from pipeline.models.config_json import Card
from pipeline.models.kv_cache import Knobs, Share

GIB = 2**30
NO_MODEL = frozenset({"NGRAM", "UNO", "ngram", "ngram_gpu", "suffix"})  # they draft with the text, or with the model
WHOLE = frozenset({"STANDALONE", "draft_model"})  # a model of its own; others use the model's embedding and output
OWN_LAYERS = ("num_nextn_predict_layers", "mtp_num_hidden_layers")  # of a larger checkpoint, those that draft
_SOURCE = "pipeline/models/drafts.py"
KNOBS = {"sglang": "speculative_draft_model_path", "vllm": "speculative_config.model"}
# what runtime.extra_args may ask for beside the knobs
ARGUMENTS = frozenset(
    {"speculative_draft_model_path", "speculative_draft_model", "speculative_config", "spec_model", "sc"}
)


@dataclass(frozen=True)
class Draft:
    """What drafts beside the model; as it is by default, nothing does."""

    arch: Architecture | None = None  # of what keeps tokens
    weights_gib: float = 0.0  # over all GPUs; 0 where they are in the model's own files
    least_gib: float = 0.0  # of them, what is loaded on the kindest reading
    is_whole: bool = False  # a model of its own
    gpus: int | None = None  # that share it; None: as many as share the model
    unread: str | None = None  # why it is not counted, or not all of it

    def tensor(self, share: Share) -> int:
        """GPUs that share its weights."""
        return self.gpus or share.spread.tensor

    def pool_bytes(self, share: Share, requests: int, tokens: int) -> float:
        """As `kv_cache.pool_bytes`, of the draft model. `share`: of the model."""
        own = self._share(share)
        return kv_cache.pool_bytes(own, requests, tokens) if own else 0.0

    def request_bytes(self, share: Share, tokens: int) -> float:
        """As `kv_cache.request_bytes`; on the kindest reading of a model of its own only."""
        own = self._share(share) if self.is_whole or not share.is_kindest else None
        return kv_cache.request_bytes(own, tokens) if own else 0.0

    def _share(self, share: Share) -> Share | None:
        """What one GPU holds of it: the last stage of a pipeline has it whole."""
        if self.arch is None:
            return None
        return replace(share, arch=self.arch, spread=replace(share.spread, pipeline=1, tensor=self.tensor(share)))


def of(config: Config, knobs: Knobs) -> Draft:
    """What drafts in a trial. `knobs`: after rewriting."""
    said = {arg.partition("=")[0].partition(".")[0].lstrip("-").replace("-", "_") for arg in config.runtime.extra_args}
    if not said.isdisjoint(ARGUMENTS):
        return Draft(unread="runtime.extra_args asks for it, where it is not read")
    method, name, gpus = _asked(config, knobs)
    if method in NO_MODEL or (method is None and name is None):
        return Draft()
    if name is None or name in {str(config.model.path), config.model.repo}:
        arch = config.model.arch
        return Draft(arch=_some_layers(arch, 1) if arch else None)
    return replace(_named(name, is_whole=method in WHOLE), gpus=gpus)


def findings(config: Config, knobs: Knobs) -> tuple[Finding, ...]:
    """What of a draft model is not in the sum; empty where nothing is missing."""
    why = of(config, knobs).unread
    if config.runtime.memory is None or why is None:
        return ()
    reason = (
        f"the draft model is left out of the memory sum: {why}. Keep room for its weights and KV cache, or set "
        f"{KNOBS[config.runtime.memory.plan]} to a folder with its config.json"
    )
    return (Finding(rule="draft_unknown", verdict="warned", reason=reason, source=_SOURCE),)


def _asked(config: Config, knobs: Knobs) -> tuple[str | None, str | None, int | None]:
    """The method, the draft model, and the GPUs that share it, as far as they are asked."""
    if config.runtime.memory and config.runtime.memory.plan == "sglang":
        method, name = knobs.get("speculative_algorithm"), knobs.get("speculative_draft_model_path")
        return _text(method), _text(name) if method else None, None
    nested = knob_json.merged(replace(config, knobs=dict(knobs))).get("speculative_config") or {}
    gpus = nested.get("draft_tensor_parallel_size")
    return (
        _text(nested.get("method") or knobs.get("spec_method")),
        _text(nested.get("model") or knobs.get("spec_model")),
        gpus if isinstance(gpus, int) and gpus > 0 else None,
    )


def _text(asked: Any) -> str | None:
    return str(asked) if asked else None


def _named(name: str, *, is_whole: bool) -> Draft:
    """The draft model of that name: a folder, one in the Hugging Face cache, or one that servetune knows."""
    folder = _folder(name)
    if folder is not None:
        try:
            return _read(folder, is_whole=is_whole)
        except ModelError as error:
            return Draft(unread=str(error).rstrip("."))
    if known := _known().get(name):
        weights = known.weights_gib or 0
        return Draft(arch=known, weights_gib=weights, least_gib=weights, is_whole=is_whole)
    return Draft(unread=f"{name} is no folder here, not in the Hugging Face cache, and no model that servetune knows")


def _folder(name: str) -> Path | None:
    """Where its files are on this machine; None: they are not."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    return None if name.startswith(("/", ".", "~")) else hub.find(hub.Wanted(repo=name, revision=None))


@cache
def _known() -> Mapping[str, Architecture]:
    """The architectures of the models that come with servetune, by their repositories."""
    options = (yaml.safe_load(path.read_text("utf-8")) for path in (CONF / "model").glob("*.yaml"))
    models = [parse(Model, option) for option in options]
    return {model.repo: model.arch for model in models if model.repo and model.arch}


def _read(folder: Path, *, is_whole: bool) -> Draft:
    arch, card = model_card.read(folder), config_json.read(folder)
    unread = "; ".join(arch.unread) or None
    if is_whole:
        weights = arch.weights_gib or 0
        return Draft(arch=arch, weights_gib=weights, least_gib=weights, is_whole=True, unread=unread)
    count = card.whole(*OWN_LAYERS)
    own, files = _layers_gib(card, arch, count), model_card.file_bytes(folder)
    weights = own if count or not files else files / GIB
    return Draft(
        arch=_some_layers(arch, count) if count else arch,
        weights_gib=weights,
        least_gib=min(own, weights),
        unread=unread,
    )


def _layers_gib(card: Card, arch: Architecture, count: int) -> float:
    """The weights of its last `count` layers, or of all, without what it has from the model; 0: not known."""
    try:
        found = parameters.parts(card, layers.of(card).each[-count:])
        own = [part for part in found if part.name.partition(".")[2].startswith("layers.")]
        return quantized.size(card, own, arch.dtype) / GIB
    except ModelError:
        return 0.0


def _some_layers(arch: Architecture, count: int) -> Architecture:
    """Of a model only so many layers, which keep every token as its widest do."""
    caches = tuple(replace(cache, layers=count) for cache in arch.kept[:1])
    return replace(arch, layers=count, caches=caches or None, states=())
