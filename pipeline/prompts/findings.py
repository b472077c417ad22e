"""What is foreseen of a trial on account of its prompts: too few, too long, left out, left in the cache. Pure."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.core import capacity, traffic_size
from pipeline.core.findings import Finding
from pipeline.core.schema import Config
from pipeline.core.schema_traffic import Dataset, Traffic
from pipeline.prompts import rows

SOURCE = "docs/prompts.md"


def of(config: Config) -> tuple[Finding, ...]:
    """Warnings; none where prompts are drawn and share nothing."""
    told = {**_of_cache(config), **_of_file(config)}
    return tuple(
        Finding(rule=rule, verdict="warned", reason=reason, source=SOURCE) for rule, reason in told.items() if reason
    )


def _of_cache(config: Config) -> Mapping[str, str]:
    traffic, runtime = config.traffic, config.runtime
    is_there = config.backend.is_endpoint
    if not (traffic.has_prefix or traffic.is_own) or (runtime.cache_reset != "none" and not is_there):
        return {}
    if is_there and traffic.is_own:
        return {"cache_stays": _of_the_server(traffic)}
    who = (
        "backend=endpoint does not empty a server's prefix cache"
        if is_there
        else f"runtime={runtime.name} has no way to empty a prefix cache"
    )
    return {"cache_stays": f"{who}: a level that is measured again finds what it has left there itself"}


def _of_the_server(traffic: Traffic) -> str:
    """Prompts of a file are the same in every trial; those that are drawn are each trial's own."""
    return (
        f"every trial sends the same prompts of {traffic.path}, and backend=endpoint does not empty a server's prefix "
        f"cache: from its second trial on, and with rounds of confirmation, a server may find them there whole, "
        f"whatever traffic.cache={traffic.cache} says; the hit rate of each level tells"
    )


def _of_file(config: Config) -> Mapping[str, str | None]:
    traffic, found = config.traffic, config.traffic.dataset
    if found is None:
        return {}
    return {
        "prompts_repeat": _repeats(traffic, found),
        "prompt_exceeds_context": _too_long(config, found),
        "conversations_left_out": _left_out(traffic, found),
        "prompts_too_few_to_warm": _not_warm(traffic, found),
    }


def _repeats(traffic: Traffic, found: Dataset) -> str | None:
    if capacity.is_wanted(traffic):
        return _repeats_in_one(traffic, found)
    needed = sum(traffic.requests(each) for each in set(traffic.demands))
    if needed <= found.prompts:
        return None
    return (
        f"the levels send {needed} requests, {traffic.path} gives {found.prompts} prompts: some are sent again, at "
        "another level or at the same one, where a prefix cache may hold them whole"
    )


def _repeats_in_one(traffic: Traffic, found: Dataset) -> str | None:
    """Which levels are tried, the trial decides; a cache that is emptied between them forgets the others' prompts."""
    most = traffic.requests(traffic.most_demand)
    if most <= found.prompts:
        return None
    top = f"{traffic.most_demand:g} {'requests/s' if traffic.is_open else 'users'}"
    return (
        f"traffic.levels=capacity tries up to {top}, a level of {most} requests, and {traffic.path} gives "
        f"{found.prompts} prompts: a longer level sends some of them again, and a prefix cache may hold them "
        "whole"
    )


def _too_long(config: Config, found: Dataset) -> str | None:
    context = config.model.longest_context
    if context is None or found.longest_tokens <= context:
        return None
    return (
        f"the longest request, {_place(config.traffic, found)}, has {_about(found)}{found.longest_tokens} tokens with "
        f"its answer, the model's context {context}: the server refuses such requests, or ends them early"
    )


def _left_out(traffic: Traffic, found: Dataset) -> str | None:
    if not found.left_out:
        return None
    whole = found.in_file + found.left_out
    return f"{found.left_out} of {whole} conversations of {traffic.path} are left out: without a question, or an answer"


def _not_warm(traffic: Traffic, found: Dataset) -> str | None:
    most = max(traffic.requests(each) for each in traffic.demands)
    if traffic.cache == "cold" or found.prompts >= 2 * most:
        return None
    return (
        f"traffic.cache=warm sends as many other prompts before a level as the level sends: {traffic.path} has "
        f"{found.prompts}, the largest level takes {most}"
    )


def _place(traffic: Traffic, found: Dataset) -> str:
    counted = rows.place(rows.format_of(Path(str(traffic.path)), traffic.format))
    return f"{counted} {found.longest_at} of {traffic.path}"


def _about(found: Dataset) -> str:
    return "" if found.is_counted else "about "


def told(traffic: Traffic) -> Iterator[str]:
    """What is in the file, or shared, in one line for the dry run; nothing where prompts are simply drawn."""
    found = traffic.dataset
    if traffic.has_prefix:
        yield ", ".join(traffic_size.beyond(traffic))
    if found is None:
        return
    about = "" if found.is_counted else " (estimated: the model's tokenizer is not here yet)"
    sampled = f" of {found.in_file}" if found.prompts < found.in_file else ""
    yield (
        f"{found.prompts}{sampled} of {traffic.path}, sha256 {found.sha256[:12]}; input {found.input_tokens_mean:.0f} "
        f"tokens in the mean, {found.input_tokens_longest} at most; output {found.output_tokens_mean:.0f}, "
        f"{found.output_tokens_longest} at most{about}; {found.shared_prefix:.0%} of the text begins another one, too; "
        f"cache {traffic.cache}"
    )
