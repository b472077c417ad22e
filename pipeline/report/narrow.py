"""The cells of a table for a narrow terminal: short heads, flags and names of knobs, with a legend. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence

HEADS = ("#", "trial", "change", "score", "flags", "overrides")
FLAGS = {  # those of report/flags.py that are long
    "misses SLO": "slo",
    "differs too much": "differs!",
    "crowded": "busy",
    "clocks differ": "clock",
    "settings unknown": "set?",
    "cached": "cache",
    "front (once)": "front(1)",
}
LONGEST = 18  # characters of the flags of a row
PATH = 6  # characters that a shared beginning of values must have to be left out


def cells(found: Sequence[Sequence[str]]) -> list[list[str]]:
    """The rows of the whole table, each cell as short as can be."""
    keys = names(row[-1] for row in found)
    starts = _shared([row[-1] for row in found])
    return [
        [*row[:2], _change(row[2]), row[3], cut(" ".join(map(flag, _flags(row[4]))), LONGEST), words]
        for row in found
        for words in [_words(row[5], keys, starts)]
    ]


def overrides(rows: Sequence[str]) -> tuple[list[str], str]:
    """Rows of overrides with short names for their keys, and what these stand for; empty where none is shorter."""
    keys, starts = names(rows), _shared(rows)
    return [_words(row, keys, starts) for row in rows], _keys(keys)


def _keys(names_of: Mapping[str, str]) -> str:
    told = [f"{short} for {key}" for key, short in names_of.items() if short != key]
    return f"Short names: {', '.join(told)}" if told else ""


def flag(word: str) -> str:
    """`settings unknown` as `set?`, `twin 3` as `=3`, `2 of 3 runs` as `2/3`."""
    word = re.sub(r"^twin (\d+)$", r"=\1", word)
    return FLAGS.get(word, re.sub(r"^(\d+) of (\d+) runs$", r"\1/\2", word))


def legend(found: Sequence[Sequence[str]], meanings: Mapping[str, str]) -> str:
    """What the short words stand for, those that appear; `meanings`: of flags."""
    there = {word for row in found for word in _flags(row[4])}
    told = [f"{FLAGS[word]}: {meanings.get(word, word)}" for word in FLAGS if word in there]
    told += ["=n: the engine runs it as trial n"] if any(word.startswith("twin ") for word in there) else []
    told += [keys] if (keys := _keys(names(row[-1] for row in found))) else []
    if any("(" in row[2] for row in found):
        told.append("(1): measured once, so the difference can be noise; (n): n rounds")
    return f"{'. '.join(told)}." if told else ""


def names(overrides: Iterable[str]) -> dict[str, str]:
    """A short name for each key of the rows' overrides: the first letters of its parts, more where two are alike."""
    keys = list(dict.fromkeys(word.partition("=")[0] for row in overrides for word in row.split(" ") if "=" in word))
    made: dict[str, str] = {}
    for key in keys:
        parts = [part for part in re.split(r"[^A-Za-z0-9]+", key.rpartition(".")[2]) if part]
        tries = ("".join(part[:size] for part in parts) for size in range(1 if len(parts) > 1 else 2, 20))
        made[key] = next((short for short in tries if short not in made.values()), key)
    return made


def cut(text: str, size: int) -> str:
    """With an ellipsis where it is longer."""
    return text if len(text) <= size else text[: size - 1] + "…"


def _words(row: str, keys: Mapping[str, str], starts: Mapping[str, str]) -> str:
    told = []
    for word in row.split(" "):
        key, equals, text = word.partition("=")
        start = starts.get(key, "")
        told.append(f"{keys.get(key, key)}{equals}{'…' if start else ''}{text.removeprefix(start)}")
    return " ".join(told)


def _shared(rows: Sequence[str]) -> dict[str, str]:
    """The folder that all values of a key lie in."""
    values: dict[str, list[str]] = {}
    for word in (word for row in rows for word in row.split(" ") if "=" in word):
        key, _, text = word.partition("=")
        values.setdefault(key, []).append(text)
    starts = {key: _beginning(texts).rpartition("/") for key, texts in values.items() if len({*texts}) > 1}
    return {key: f"{start}{slash}" for key, (start, slash, _) in starts.items() if len(start) >= PATH}


def _beginning(texts: Sequence[str]) -> str:
    low, high = min(texts), max(texts)
    return low[: next((at for at in range(len(low)) if not high.startswith(low[: at + 1])), len(low))]


def _change(text: str) -> str:
    return re.sub(r"\((\d+) rounds\)", r"(\1)", text.replace("(once)", "(1)"))


def _flags(cell: str) -> list[str]:
    return [word for word in cell.split(", ") if word]
