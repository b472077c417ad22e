"""The tokens that a traffic asks for: of its scenarios, or of its file of prompts. Pure."""

import math

from pipeline.core import scenario
from pipeline.core.scenario import Tokens
from pipeline.core.schema_traffic import Traffic


def mean(traffic: Traffic, line: str) -> Tokens:
    """The mean request of one of its scenarios."""
    if found := traffic.dataset:
        return Tokens(input=found.input_tokens_mean, output=found.output_tokens_mean)
    return scenario.mean(line)


def longest(traffic: Traffic) -> float:
    """Tokens of the longest request to expect, prompt and answer."""
    if found := traffic.dataset:
        return found.longest_tokens
    return max(scenario.longest(line).total for line in traffic.scenarios)


def certain(traffic: Traffic) -> float:
    """Tokens of a request that is certainly among them, for what is refused on its account; 1 where none is counted."""
    if found := traffic.dataset:
        return found.longest_tokens if found.is_counted else 1
    return longest(traffic)


def least(traffic: Traffic) -> int:
    """Tokens of the usual request of the shortest scenario; of the shortest one of a file, 1 where none is counted."""
    if found := traffic.dataset:
        return found.least_tokens if found.is_counted else 1
    return math.ceil(min(scenario.mean(line).total for line in traffic.scenarios))


def shared(traffic: Traffic) -> float:
    """The share of a usual prompt with which others begin as well, from 0 to 1."""
    if found := traffic.dataset:
        return found.shared_prefix
    if traffic.prefix_ratio is not None:
        return traffic.prefix_ratio
    shortest = min(scenario.mean(line).input for line in traffic.scenarios)
    return min(1.0, traffic.prefix_tokens / shortest) if traffic.prefix_tokens else 0.0


def told(traffic: Traffic) -> str:
    """What is sent, in words: for reports."""
    return ", ".join([f"{traffic.name}: {', '.join(traffic.scenarios)}", f"seed {traffic.seed}", *beyond(traffic)])


def beyond(traffic: Traffic) -> list[str]:
    """What is the traffic's own of sending, file, prefix and cache, in words."""
    parts = [*_sent(traffic), *_file(traffic)]
    if traffic.has_prefix:
        size = (
            f"{traffic.prefix_tokens} tokens" if traffic.prefix_tokens else f"{traffic.prefix_ratio:.0%} of each prompt"
        )
        parts.append(f"{traffic.prefixes} shared prefix{'es' if traffic.prefixes > 1 else ''} ({size})")
    if traffic.has_prefix or traffic.is_own:
        parts.append(f"cache {traffic.cache}")
    return parts


def _sent(traffic: Traffic) -> list[str]:
    if not traffic.is_open:
        return []
    told = {
        "constant": "requests sent at equal distances",
        "poisson": "requests sent as a Poisson process",
        "trace": f"requests sent at the times of {traffic.trace.name if traffic.trace else 'a trace'}",
    }
    most = f", at most {traffic.max_in_flight} open" if traffic.max_in_flight else ""
    return [f"{told[traffic.arrival]}{most}"]


def _file(traffic: Traffic) -> list[str]:
    found = traffic.dataset
    if found is None or traffic.path is None:
        return []
    some = f"{found.prompts} of {found.in_file}" if found.prompts < found.in_file else str(found.in_file)
    return [f"{some} prompts of {traffic.path.name} (sha256 {found.sha256[:12]})"]
