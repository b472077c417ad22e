"""Deals the user's prompts out to levels: the same in every trial, others at every level as far as there are enough."""

import random
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice

from pipeline.core.schema_traffic import Traffic
from pipeline.prompts import own
from pipeline.prompts.shapes import Prompt

MIXED = 104_729  # beside traffic.seed: the order in which prompts are dealt


def dealt(traffic: Traffic, first: int, count: int) -> tuple[Prompt, ...]:
    """`count` prompts, from the `first`-th of the seed's order on; at the end of the order it begins again.

    Raises:
        ConfigError: the file cannot be used, or is another one than before.
    """
    prompts = own.read(traffic).prompts
    order = _order(len(prompts), traffic.seed)
    return tuple(prompts[order[index % len(order)]] for index in range(first, first + count))


def beside(traffic: Traffic, first: int, count: int) -> tuple[Prompt, ...]:
    """As many other prompts, from the order's end: they warm a cache and give no level away, if there are enough."""
    prompts = own.read(traffic).prompts
    taken = {one.at for one in dealt(traffic, first, count)}
    others = (prompts[index] for index in reversed(_order(len(prompts), traffic.seed)))
    return tuple(islice((one for one in others if one.at not in taken), count))


@lru_cache(8)
def _order(count: int, seed: int) -> Sequence[int]:
    order = [*range(count)]
    random.Random(seed + MIXED).shuffle(order)  # noqa: S311 - to repeat, not to hide
    return order
