"""How the prompts of a level are chosen beyond genai-bench's own way, for the resident runner (`choosing.py`)."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import ceil

from pipeline.bench import Ask, Chosen, Job
from pipeline.core import scenario
from pipeline.core.plan import LevelPlan
from pipeline.core.requests import Measurement
from pipeline.core.schema_traffic import Traffic
from pipeline.prompts import dealing
from pipeline.prompts.shapes import Prompt


def of(traffic: Traffic, level: LevelPlan) -> Chosen | None:
    """What the level sends; None: prompts that genai-bench draws by itself.

    Raises:
        ConfigError: the file of prompts cannot be read any more, or is another one.
    """
    if traffic.is_own:
        first, count = level.first_prompt, level.max_requests
        return Chosen(
            asks=tuple(_asks(dealing.dealt(traffic, first, count), traffic)),
            warming=tuple(_asks(dealing.beside(traffic, first, count), traffic)) if traffic.cache == "warm" else (),
            ignore_eos=traffic.ignore_eos,
        )
    if not traffic.has_prefix:
        return None
    longest = scenario.longest(level.scenario).input
    return Chosen(
        prefix_tokens=traffic.prefix_tokens,
        prefix_ratio=traffic.prefix_ratio,
        prefixes=traffic.prefixes,
        longest_prefix=traffic.prefix_tokens or ceil(longest * (traffic.prefix_ratio or 0)),
    )


def warming(job: Job, timeout_s: float) -> Job:
    """The call that sends what warms the cache before the level of `job`."""
    return replace(job, warms=True, timeout_s=timeout_s)


def count(job: Job) -> int:
    """How many requests warm the cache: each prefix once, in as many requests as the level has users."""
    if job.chosen is None:
        return 0
    if job.chosen.asks:
        return len(job.chosen.warming)
    return ceil(job.users / job.chosen.prefixes) * job.chosen.prefixes


def asked(traffic: Traffic, level: LevelPlan, seen: Measurement) -> float:
    """Output tokens that were asked for, in the mean: of prompts of a file as they were counted when they were sent."""
    sent = [one.asked_tokens for one in seen.requests if one.asked_tokens] if traffic.is_own else []
    return sum(sent) / len(sent) if sent else level.output_tokens_asked


def _asks(prompts: Iterable[Prompt], traffic: Traffic) -> Iterator[Ask]:
    for one in prompts:
        messages = tuple((each.role, each.content) for each in one.messages)
        yield Ask(messages=messages, answer=traffic.output_tokens or (1 if one.answer is None else one.answer))
