"""Which engine of a sweep a trial belongs to. Pure."""

from collections.abc import Sequence

RUNTIME = "runtime"


def of_words(overrides: Sequence[str]) -> str | None:
    """The option of the group runtime that overrides choose; None where they choose none."""
    found = (word.partition("=")[2] for word in reversed(overrides) if word.startswith(f"{RUNTIME}="))
    return next(found, None)
