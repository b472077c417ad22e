"""The model folder: what its config.json says, and its tokenizer to count with."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

CONTEXT_LEN = 4096  # where nothing says it


@dataclass(frozen=True)
class Model:
    """A model folder, or the mere name of a repository."""

    path: str
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def is_mla(self) -> bool:
        """As both engines see it: DeepSeek's latent attention."""
        return bool(self.config.get("kv_lora_rank"))

    @property
    def context_len(self) -> int:
        return int(self.config.get("max_position_embeddings", CONTEXT_LEN))

    def tokens(self, text: str) -> list[Any]:
        """The tokens of a text: of the folder's tokenizer, else its words."""
        if self._tokenizer is None:
            return text.split()
        return cast("list[Any]", self._tokenizer.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _tokenizer(self) -> Any:
        file = Path(self.path) / "tokenizer.json"
        if not file.is_file():
            return None
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(file))


def load(path: str) -> Model:
    """The model at `path`; a name that is no folder has no config."""
    file = Path(path) / "config.json"
    return Model(path, json.loads(file.read_text()) if file.is_file() else {})
