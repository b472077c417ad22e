"""A command line up to the cursor, as a shell hands it over."""

import re
from typing import NamedTuple

TOKEN = re.compile(r"""(?:\\.|'[^']*(?:'|\Z)|"(?:\\.|[^"\\])*(?:"|\Z)|[^\s\\'"])+""", re.DOTALL)
QUOTED = re.compile(r"""\\(.)|'([^']*)(?:'|\Z)|"((?:\\.|[^"\\])*)(?:"|\Z)""", re.DOTALL)


class Line(NamedTuple):
    """The words after the program, and the one at the cursor, all without quotes."""

    before: tuple[str, ...]
    word: str


def read(text: str) -> Line:
    """The line, which may end within a quotation."""
    words = [found[0] for found in TOKEN.finditer(text)]
    is_new = not words or (text[-1].isspace() and not text.endswith(words[-1]))
    told = [QUOTED.sub(_inside, word) for word in words] + ([""] if is_new else [])
    return Line(before=tuple(told[1:-1]), word=told[-1] if len(told) > 1 else "")


def _inside(found: re.Match[str]) -> str:
    return next(text for text in found.groups() if text is not None)
