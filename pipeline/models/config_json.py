"""A model's config.json as its engine reads it: the language model's part, with the defaults of its class.

Pure, except for reading files.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.core.errors import ModelError

# where multimodal models keep the language model: most; InternVL and Nemotron VL; DeepSeek-VL2; Qwen Omni
NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
QUANTIZED = "hf_quant_config.json"  # ModelOpt's own file, where config.json says nothing
MAKERS = "params.json"  # of Mistral Large 3 and of Meta's own files
NAMES = ("config.json", MAKERS)


@dataclass(frozen=True)
class Card:
    """The language model's part of a config.json. `path` is named in messages."""

    keys: Mapping[str, Any]
    path: Path = Path("config.json")

    def get(self, *names: str) -> Any:
        """The first of these keys that says something; None if none does."""
        return next((found for name in names if (found := self.keys.get(name)) is not None), None)

    def whole(self, *names: str) -> int:
        """The first of these keys that is a number; 0 if none is."""
        given = (self.keys.get(name) for name in names)
        return next((each for each in given if isinstance(each, int) and not isinstance(each, bool) and each > 0), 0)

    def number(self, *names: str) -> int:
        """As `whole`.

        Raises:
            ModelError: none of them is a positive number.
        """
        if found := self.whole(*names):
            return found
        shown = " or ".join(map(repr, names))
        raise ModelError(
            f"{self.path}: expected a positive number {shown}, found {self.get(*names)!r} among {sorted(self.keys)}."
        )

    def texts(self, *names: str) -> Sequence[str]:
        """The first of these keys that is a list of words; empty if none is."""
        lists = (found for name in names if isinstance(found := self.keys.get(name), list) and found)
        return [str(each) for each in next(lists, [])]

    @property
    def model_type(self) -> str:
        """Which config class of transformers it is; empty where the file does not say."""
        return str(self.keys.get("model_type") or "")

    @property
    def architecture(self) -> str | None:
        """The class of the whole model, by which engines and OME choose their own."""
        return next(iter(self.texts("architectures")), None)


def read(folder: Path) -> Card:
    """The card of the model in `folder`.

    Raises:
        ModelError: config.json is missing or unreadable.
    """
    path = folder / "config.json"
    if not path.is_file() and (folder / MAKERS).is_file():
        raise ModelError(
            f"{folder} has {MAKERS}, a format of its maker (Mistral, Meta), and no config.json, the file that is read: "
            "use the files for transformers, or set model.arch"
        )
    card = of(load(path), path)
    aside = folder / QUANTIZED
    if card.get("quantization_config") is None and aside.is_file():
        said = load(aside).get("quantization") or {}
        return Card({**card.keys, "quantization_config": {"quant_method": "modelopt", **said}}, path)
    return card


def of(config: Mapping[str, Any], path: Path = Path("config.json")) -> Card:
    """The language model's part, over what the file says outside it, over the defaults of its class."""
    inner = dict(config)
    for part in _parts(config):
        inner = {**inner, **part}
    said = str(inner.get("model_type") or "")
    defaults = next((_defaults()[name] for name in (said, f"{said}_text") if name in _defaults()), {})
    return Card({**defaults, **inner, "architectures": config.get("architectures")}, path)


def load(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ModelError: the file is missing, or something else.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: expected an object, found a {type(found).__name__}.")
    return found


def _parts(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in NESTED:
        part = config.get(name)
        if isinstance(part, dict):
            yield part
            yield from _parts(part)


@cache
def _defaults() -> Mapping[str, Mapping[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(
        Path(__file__).with_name("class_defaults.yaml").read_text("utf-8")
    )
    return found
