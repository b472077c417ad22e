"""What a version's command line takes: its flags, and what words on it set.

A knob is what we offer; a flag is what the engine takes.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from pipeline.core.values import Scalar, value


@value
class Flag:
    """One option of an engine's command line, as its parser defines it."""

    names: tuple[str, ...]  # every spelling, e.g. --tensor-parallel-size, --tp-size; the canonical one first
    dest: str  # what the parsed value is called, e.g. tp_size
    kind: Literal["int", "float", "bool", "text", "json"]  # bool: a switch that takes no value
    choices: tuple[str, ...] = ()  # empty: anything of the kind
    default: Scalar | None = None  # None: the engine decides, or the default is no plain value
    off: str | None = None  # bool: the flag that says no, e.g. --no-enable-prefix-caching
    many: bool = False  # takes several values
    deprecated: str | None = None  # what the parser says of it


@value
class Reading:
    """What words on a command line set: value by dest, and what no parser of this version takes."""

    settings: Mapping[str, Scalar | None]
    unknown: tuple[str, ...] = ()
    ambiguous: tuple[str, ...] = ()  # beginnings of several flags, with these


@value
class Catalogue:
    """Every flag of one version of one engine."""

    engine: str
    version: str
    source: str  # the package it was read from, with its checksum
    abbreviations: bool  # whether the parser takes unambiguous beginnings of flags
    flags: tuple[Flag, ...]

    def find(self, spelling: str) -> Flag | None:
        """The flag that is spelled like this, or None; abbreviations are not looked at."""
        return next((flag for flag in self.flags if spelling in (*flag.names, flag.off)), None)

    def meant(self, spelling: str) -> tuple[Flag, ...]:
        """What the engine's parser makes of a spelling: one flag; several if it is ambiguous; none if unknown.

        Source: argparse, ArgumentParser._get_option_tuples: an exact spelling wins, else every beginning counts.
        """
        exact = self.find(spelling)
        if exact or not self.abbreviations:
            return (exact,) if exact else ()
        return tuple(
            flag for flag in self.flags if any(name.startswith(spelling) for name in (*flag.names, flag.off or ""))
        )

    def read(self, words: Sequence[str]) -> Reading:
        """What a piece of a command line sets, as the engine's parser would take it."""
        settings: dict[str, Scalar | None] = {}
        unknown: list[str] = []
        ambiguous: list[str] = []
        for index, word in enumerate(words):
            spelling, _, given = word.partition("=")
            if not re.match(r"--?[A-Za-z]", spelling):
                continue
            spelling = spelling.partition(".")[0].replace("_", "-")  # vLLM takes --a_b and --a.key as well
            found = self.meant(spelling)
            if not found and not spelling.startswith("--"):  # -O3
                spelling, given = spelling[:2], spelling[2:]
                found = self.meant(spelling)
            if len(found) > 1:
                ambiguous.append(f"{spelling} ({' or '.join(flag.names[0] for flag in found)})")
            elif not found:
                unknown.append(spelling)
            else:
                after = words[index + 1] if index + 1 < len(words) else ""
                settings[found[0].dest] = _typed(found[0], given or after, is_off=spelling == found[0].off)
        return Reading(settings=settings, unknown=tuple(unknown), ambiguous=tuple(ambiguous))


def _typed(flag: Flag, text: str, *, is_off: bool) -> Scalar | None:
    """The value of a flag in its kind; None where it is written in a way that only the engine reads (32k, auto)."""
    if flag.kind == "bool":
        return not is_off
    try:
        return int(text) if flag.kind == "int" else float(text) if flag.kind == "float" else text
    except ValueError:
        return None
