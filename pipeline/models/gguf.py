"""Reads the keys and values at the head of a GGUF file, one after the other.

The gguf package takes 12 s to index a vocabulary of 256k tokens; what is wanted here mostly stands before it.
"""

import mmap
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MAGIC = b"GGUF"
VERSIONS = (2, 3)

_ARRAY, _STRING = 9, 8
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class UnknownVersionError(ValueError):
    """The file is of a GGUF version that is not read here, or of another byte order."""


def is_gguf(path: Path) -> bool:
    """Whether a file begins as a GGUF file does.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def context_tokens(path: Path) -> int | None:
    """The context that the model in a file was made for; None where the file does not tell, or is no GGUF file."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            if view[: len(MAGIC)] != MAGIC:
                return None
            return next((int(item) for key, item in key_values(view) if key.endswith(".context_length")), None)
    except (struct.error, ValueError, KeyError, OverflowError, TypeError, OSError):
        return None


def key_values(view: mmap.mmap) -> Iterator[tuple[str, Any]]:
    """Every key with its value, in the order of the file.

    Raises:
        UnknownVersionError: naming the version.
        struct.error, ValueError, KeyError, OverflowError: the file is cut or damaged.
    """
    cursor = _Cursor(view)
    _magic, version, _tensors, count = cursor.numbers("4sIQQ")
    if version not in VERSIONS:
        raise UnknownVersionError(str(version))
    for _ in range(count):
        yield cursor.text(), cursor.value()


class _Cursor:
    """Walks the key-value section of a GGUF file."""

    def __init__(self, view: mmap.mmap) -> None:
        self._view = view
        self._at = 0

    def numbers(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self._view, self._at)
        self._at += struct.calcsize(f"<{layout}")
        return values

    def text(self) -> str:
        (length,) = self.numbers("Q")
        start, self._at = self._at, self._at + length
        return self._view[start : self._at].decode()

    def value(self) -> Any:
        (kind,) = self.numbers("I")
        if kind == _ARRAY:
            return self._array(*self.numbers("IQ"))
        return self.text() if kind == _STRING else self.numbers(_FORMATS[kind])[0]

    def _array(self, kind: int, count: int) -> Sequence[Any]:
        if kind == _STRING:
            return [self.text() for _ in range(count)]
        return self.numbers(f"{count}{_FORMATS[kind]}")
