"""Refuses settings of own prompts and shared prefixes that contradict each other, or what measures. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from hydra.core.override_parser.types import Override

from pipeline.core import scenario
from pipeline.core.errors import ConfigError
from pipeline.core.schema import Config
from pipeline.core.schema_traffic import DATASET, Traffic

OF_A_FILE = ("prompt_field", "output_field", "output_tokens", "sample", "sha256")

STAY = {"traffic", *(f"traffic.{name}" for name in (*OF_A_FILE, "path", "format", "ignore_eos", "max_file_mb"))}
MAY_CHANGE = {"traffic", "traffic.path", "experiment"}  # keys with which trials of a sweep may have several files
PINNED = 12  # characters of a SHA-256


def check(traffic: Traffic) -> None:
    """Accept a file of prompts, or drawn prompts with or without a shared beginning.

    Raises:
        ConfigError: with the key, and what to set instead.
    """
    if why := next(_faults(traffic), None):
        raise ConfigError(why)


def check_runner(config: Config) -> None:
    """Accept what the way of calling genai-bench can do: all of it with the resident runner.

    Raises:
        ConfigError: with what to set instead.
    """
    way = way_of(config)
    if way == "aiperf" and config.traffic.has_prefix:
        raise ConfigError("A shared prefix cannot be measured with bench.runner=aiperf. Set bench.runner=resident.")
    if why := next(_beyond(config.traffic), None) if way != "resident" else None:
        key = "bench.location=cluster" if way == "cluster" else f"bench.runner={way}"
        instead = "bench.location=here" if way == "cluster" else "bench.runner=resident"
        what = "it" if way == "aiperf" else "genai-bench itself"
        raise ConfigError(f"{why} cannot be measured with {key}: {what} cannot do it. Set {instead}.")


def under(lines: Iterable[str], option: str) -> list[str]:
    """The overrides of a trial under another option of traffic; what was said of a file of prompts stays with it."""
    kept = (line for line in lines if line.partition("=")[0].lstrip("+~") not in STAY)
    return [*kept, f"traffic={option}"]


def tied(traffic: Traffic, given: Iterable[Override]) -> Traffic | None:
    """The traffic, tied to the file of prompts as it is now; None without one, or where trials have several.

    None also where the command ties it by itself.
    """
    swept = {each.get_key_element() for each in given if each.is_sweep_override()}
    if traffic.dataset is None or traffic.sha256 or not MAY_CHANGE.isdisjoint(swept):
        return None
    return replace(traffic, sha256=traffic.dataset.sha256[:PINNED])


def pins(traffic: Traffic | None) -> list[str]:
    """The override that ties trials to the file, on whatever machine they run, and however late."""
    return [f"traffic.sha256={traffic.sha256}"] if traffic else []


def way_of(config: Config) -> str:
    """resident, cli, aiperf or cluster."""
    return "cluster" if config.bench.location == "cluster" else config.bench.runner


def _faults(traffic: Traffic) -> Iterator[str]:
    is_dataset = DATASET in traffic.scenarios
    if traffic.dataset is not None:
        yield "traffic.dataset is what servetune has read in traffic.path: it cannot be set."
    if is_dataset and traffic.path is None:
        yield f"traffic.path has no value: add traffic.path=prompts.jsonl, the file that traffic={DATASET} takes."
    if traffic.is_own and traffic.scenarios != (DATASET,):
        yield f"traffic.path={traffic.path} goes with traffic={DATASET}; traffic.scenarios draw prompts of their own."
    if traffic.is_own and traffic.has_prefix:
        yield "traffic.prefix_tokens and prefix_ratio are for drawn prompts: your own ones bring what they share."
    if not is_dataset:
        yield from _without_file(traffic)
        yield from _prefix_faults(traffic)


def _without_file(traffic: Traffic) -> Iterator[str]:
    set_here = next((name for name in OF_A_FILE if getattr(traffic, name) is not None), None)
    if set_here or traffic.ignore_eos:
        yield f"traffic.{set_here or 'ignore_eos'} is for prompts of a file: it goes with traffic={DATASET}."


def _prefix_faults(traffic: Traffic) -> Iterator[str]:
    if traffic.prefix_tokens is not None and traffic.prefix_ratio is not None:
        yield "Set one of traffic.prefix_tokens and traffic.prefix_ratio; null takes the other one out."
    if not traffic.has_prefix and traffic.prefixes > 1:
        yield f"traffic.prefixes={traffic.prefixes}: set traffic.prefix_tokens or traffic.prefix_ratio, too."
    if not traffic.has_prefix and traffic.cache == "warm":
        yield "traffic.cache=warm: no two prompts share anything. Set traffic.prefix_tokens or prefix_ratio, too."
    for line in traffic.scenarios if traffic.prefix_tokens else ():
        if traffic.prefix_tokens and traffic.prefix_tokens >= scenario.mean(line).input:
            yield (
                f"traffic.prefix_tokens={traffic.prefix_tokens} leaves a usual prompt of {line} no token of its own: "
                "the prefix is one part of its tokens. Lower it, or raise the scenario's input."
            )


def _beyond(traffic: Traffic) -> Iterator[str]:
    """What genai-bench 0.0.5 has no option for: cli/validation.py, validate_prefix_options; sampling/text.py:384."""
    if traffic.is_own:
        yield f"traffic={DATASET}, each prompt with its own answer length and all of them in one order,"
    if traffic.cache == "warm":
        yield "traffic.cache=warm"
    if traffic.prefixes > 1:
        yield f"traffic.prefixes={traffic.prefixes}"
    if traffic.prefix_ratio is not None and not all(line.startswith("D(") for line in traffic.scenarios):
        yield "traffic.prefix_ratio with scenarios other than D(in,out)"
