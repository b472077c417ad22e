"""Keeps secrets (values of secret-looking environment variables) out of what is written or uploaded. Pure."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

SECRET_NAME = re.compile("KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
SECRET_LENGTH = 8  # shorter values would hide ordinary words
MAX_FILE_BYTES = 20_000_000


class Secrets:
    """The values of secret-looking environment variables, and how to keep them out of uploads."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        values = {text.strip() for name, text in environ.items() if SECRET_NAME.search(name)}
        found = {form for text in values if len(text) >= SECRET_LENGTH for form in _spellings(text)}
        longest_first = sorted(found, key=len, reverse=True)
        self.longest = max((len(os.fsencode(form)) for form in found), default=0)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def hide(self, item: Any) -> Any:
        """`item` (plain JSON data) with every secret in its strings replaced."""
        if isinstance(item, str):
            return self._pattern.sub("[redacted]", item)
        if isinstance(item, Mapping):
            return {self.hide(key): self.hide(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [self.hide(inner) for inner in item]
        return item

    def copy(self, source: Path, target: Path, *, limit: int = MAX_FILE_BYTES) -> None:
        """Copy a text file without secrets, and without its beginning if it is longer than `limit`."""
        margin = 2 * self.longest  # a secret cut in two is not recognised: its rest lies in here, thrown away
        with source.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            is_cut = size > limit
            file.seek(max(0, size - limit - margin) if is_cut else 0)
            data = self.hide(file.read().decode(errors="surrogateescape")).encode(errors="surrogateescape")
        if is_cut:
            data = f"[cut: the last {limit} of {size} bytes]\n".encode() + data[margin:][-limit:]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _spellings(text: str) -> set[str]:
    in_json = (json.dumps(text, ensure_ascii=flag)[1:-1] for flag in (True, False))
    return {text, quote(os.fsencode(text), safe=""), *in_json}
