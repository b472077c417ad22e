"""Says what the user's prompts are like: how long, how alike. Counted with the model's tokenizer where it is here."""

import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from pipeline.core.schema import Model
from pipeline.core.schema_traffic import Dataset, Traffic
from pipeline.models import assets
from pipeline.prompts import own
from pipeline.prompts.own import Own
from pipeline.prompts.shapes import Prompt

CHARS_PER_TOKEN = 4  # of English text, where no tokenizer is here to count
COUNTED = 64  # prompts that are counted for the mean, and half as many of the longest and of the shortest
COMPARED = 5000  # prompts whose beginnings are compared
Count = Callable[[str], int]

_surveyed: dict[tuple[Own, int | None, str, Path | None], Dataset] = {}


def of(traffic: Traffic, model: Model) -> Dataset:
    """What is in the file of a traffic, for this model. The same for all trials of a process.

    Raises:
        ConfigError: the file cannot be used.
    """
    found = own.read(traffic)
    key = (found, traffic.output_tokens, model.name, model.path)
    if key not in _surveyed:
        _surveyed[key] = _survey(found, traffic.output_tokens, _counter(assets.tokenizer_here(model)))
    return _surveyed[key]


def _survey(found: Own, output_tokens: int | None, counter: Count | None) -> Dataset:
    count = counter or _guess
    prompts = sorted(found.prompts, key=lambda one: _guessed(one, output_tokens))
    half = COUNTED // 2
    ends = [*prompts[:half], *prompts[-half:]]
    some = random.Random(0).sample(prompts, min(COUNTED, len(prompts)))  # noqa: S311
    sizes = {id(one): (count(one.text), _asked(one, output_tokens, count)) for one in (*ends, *some)}
    longest = max(ends, key=lambda one: sum(sizes[id(one)]))
    return Dataset(
        sha256=found.sha256,
        in_file=found.in_file,
        prompts=len(found.prompts),
        left_out=found.left_out,
        input_tokens_mean=fmean(sizes[id(one)][0] for one in some),
        input_tokens_longest=max(size for size, _ in sizes.values()),
        output_tokens_mean=fmean(sizes[id(one)][1] for one in some),
        output_tokens_longest=max(size for _, size in sizes.values()),
        longest_tokens=sum(sizes[id(longest)]),
        longest_at=longest.at,
        least_tokens=min(sum(sizes[id(one)]) for one in ends),
        is_counted=counter is not None,
        shared_prefix=round(shared_prefix([one.text for one in found.prompts[:COMPARED]]), 4),
    )


def _asked(one: Prompt, output_tokens: int | None, count: Count) -> int:
    """Tokens of the answer that are asked for."""
    if output_tokens is not None:
        return output_tokens
    return max(1, count(one.answer) if isinstance(one.answer, str) else one.answer or 1)


def _guessed(one: Prompt, output_tokens: int | None) -> int:
    return _guess(one.text) + _asked(one, output_tokens, _guess)


def _guess(text: str) -> int:
    return max(1, len(text) // CHARS_PER_TOKEN)


def shared_prefix(texts: Sequence[str]) -> float:
    """The share of the text that is the beginning of another one, too: what a prefix cache could hold."""
    ordered = sorted(texts)
    alike = [0, *(_common(one, other) for one, other in pairwise(ordered)), 0]
    found = sum(max(pair) for pair in pairwise(alike))
    return found / max(1, sum(map(len, ordered)))


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with alike, by halving."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one.startswith(other[low:middle], low):
            low = middle
        else:
            high = middle - 1
    return low


@lru_cache(4)
def _counter(folder: Path | None) -> Count | None:
    """Counts as genai-bench does: without special tokens, and without the chat template that the server adds."""
    file = folder / "tokenizer.json" if folder else None
    if file is None or not file.is_file():
        return None
    try:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # noqa: BLE001 - it raises bare Exceptions; the trial itself tells what ails its tokenizer
        return None
    return lambda text: max(1, len(tokenizer.encode(text, add_special_tokens=False).ids))
