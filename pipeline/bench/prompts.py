"""The prompts of a level: a list that is made before the level begins, so that no user waits while one is made.

Runs in the forked child of driver.py. What makes a prompt is genai-bench's own sampler (sampling/text.py). Standard
library only.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import chain, repeat
from typing import Any

MOST_AHEAD, MOST_EACH = 2_000, 40  # prompts; for each user, where that is more: a level may plan more than it sends
MOST_LETTERS = 256 * 2**20  # of all of them: they are kept in memory
AHEAD_S = 20.0  # that a level may wait for its prompts; bench.level_grace_s must leave time for it
LINES = 4096  # of genai-bench's text; it has a few dozen, and tokenizes them again for each prompt


def install(bench: Any, command: Mapping[str, Any]) -> None:
    """Let genai-bench's sampler hand out prompts that are made when the scenario is known, in this process."""
    runner = bench.DistributedRunner
    update = runner.update_scenario

    def update_scenario(self: Any, scenario: str) -> None:
        update(self, scenario)
        environment = self.environment
        remember_lines(environment.sampler)
        made = ahead(lambda: environment.sampler.sample(environment.scenario), enough(command))
        environment.prompts_ahead = len(made)
        rest = map(environment.sampler.sample, repeat(environment.scenario))
        environment.sampler.sample = dealer(chain(_given_away(made), rest))

    runner.update_scenario = update_scenario


def enough(command: Mapping[str, Any]) -> int:
    """How many prompts to make before the level: all, where each has its time."""
    if command.get("times"):
        return int(command["max_requests"])
    planned, users = int(command["max_requests"]), int(command["users"])
    return min(planned, max(MOST_AHEAD, MOST_EACH * users))


def ahead(make: Callable[[], Any], count: int, *, clock: Callable[[], float] = time.monotonic) -> deque[Any]:
    """The first `count` prompts, as far as time and memory allow: in their order, whatever is left out at the end."""
    end, letters = clock() + AHEAD_S, 0
    made: deque[Any] = deque()
    while len(made) < count and clock() < end and letters < MOST_LETTERS:
        made.append(make())
        letters += len(getattr(made[-1], "prompt", ""))
    return made


def _given_away(prompts: deque[Any]) -> Iterator[Any]:
    """Each once; none is kept."""
    while prompts:
        yield prompts.popleft()


def dealer(prompts: Iterator[Any]) -> Callable[[Any], Any]:
    """The sampler's `sample`: hands out `prompts`, one each."""
    return lambda _scenario: next(prompts)


def remember_lines(sampler: Any) -> None:
    """Tokenize each line of the text once: genai-bench does so for each prompt again."""
    encode = sampler.tokenizer.encode

    @lru_cache(LINES)
    def once(text: str, add_special_tokens: bool) -> tuple[int, ...]:
        return tuple(encode(text, add_special_tokens=add_special_tokens))

    known = frozenset(sampler.data)

    def remembered(text: str, *, add_special_tokens: bool = True, **more: Any) -> Any:
        if text in known and not more:
            return list(once(text, add_special_tokens))
        return encode(text, add_special_tokens=add_special_tokens, **more)

    sampler.tokenizer.encode = remembered
