"""Words for people: what somebody may have meant, and text of others that is safe on a terminal. Pure."""

import difflib
import re
from collections.abc import Iterable

# C0 and C1 control characters and DEL, but for tab and newline; marks that turn the direction of writing
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")

MOST_CHARACTERS, NEAREST = 300, 8  # of a list of words within a sentence


def meant(word: object, known: Iterable[object]) -> str:
    """` Did you mean flashinfer?`, with a blank in front; nothing where no known word is close."""
    names = [str(one) for one in known]
    text = str(word)
    found = difflib.get_close_matches(text, names, n=1)
    found = found or [name for name in names if name.lower() == text.lower()]
    return f" Did you mean {found[0]}?" if found and found[0] != text else ""


def listed(word: object, known: Iterable[object], *, by: str) -> str:
    """The known words in a row; of many only those most like `word`, and how many more there are: `by` lists them."""
    names = [str(one) for one in known]
    if len(", ".join(names)) <= MOST_CHARACTERS:
        return ", ".join(names)
    like = difflib.get_close_matches(str(word), names, n=NEAREST, cutoff=0.0)
    return f"{', '.join(like)} and {len(names) - len(like)} more ({by} lists them)"


def visible(text: str) -> str:
    r"""The text without colours; other control characters as `\x1b`, so that no log moves a cursor or clears a screen.

    Newlines and tabs stay. A carriage return before a newline is none of the writer's.
    """
    plain = _COLOUR.sub("", text).replace("\r\n", "\n")
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], plain)
