"""Own prompts and shared prefixes: settings that contradict each other, and what ties a sweep to its file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from pipeline.config import own_traffic, planning, trial_limit
from pipeline.core.errors import ConfigError
from pipeline.core.schema import Config
from pipeline.core.schema_traffic import Traffic
from support.records import make_config, make_dataset

OWN = {"path": Path("p.jsonl"), "scenarios": ("dataset",)}
FOUND = make_dataset()


def traffic(**changes: Any) -> Traffic:
    return replace(make_config().traffic, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scenarios": ("dataset",)}, "traffic.path has no value"),
        ({"path": Path("p.jsonl")}, "traffic.path=p.jsonl goes with traffic=dataset"),
        ({**OWN, "scenarios": ("dataset", "D(8,8)")}, "goes with traffic=dataset"),
        ({**OWN, "prefix_tokens": 8}, "your own ones bring what they share"),
        ({**OWN, "dataset": FOUND}, "it cannot be set"),
        ({"sample": 5}, "traffic.sample is for prompts of a file"),
        ({"ignore_eos": True}, "traffic.ignore_eos is for prompts of a file"),
        ({"prefix_tokens": 8, "prefix_ratio": 0.5}, "Set one of traffic.prefix_tokens and traffic.prefix_ratio"),
        ({"prefixes": 2}, "set traffic.prefix_tokens or traffic.prefix_ratio, too"),
        ({"cache": "warm"}, "no two prompts share anything"),
        ({"prefix_tokens": 64}, "leaves a usual prompt of D(64,16) no token of its own"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        own_traffic.check(traffic(**changes))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [{}, OWN, {**OWN, "cache": "warm"}, {"prefix_tokens": 63, "prefixes": 4}, {"prefix_ratio": 0.9, "cache": "warm"}],
)
def test_settings_that_go_together_are_taken(changes: dict[str, Any]) -> None:
    own_traffic.check(traffic(**changes))
    own_traffic.check_runner(replace(make_config(), traffic=traffic(**changes)))


def called(way: str, **changes: Any) -> Config:
    config = replace(make_config(), traffic=traffic(**changes))
    bench: dict[str, Any] = {"cluster": {"location": "cluster"}, "cli": {"runner": "cli"}}[way]
    return replace(config, bench=replace(config.bench, **bench))


@pytest.mark.parametrize(("way", "instead"), [("cli", "bench.runner=resident"), ("cluster", "bench.location=here")])
@pytest.mark.parametrize(
    "changes",
    [
        OWN,
        {"prefix_tokens": 8, "prefixes": 2},
        {"prefix_tokens": 8, "cache": "warm"},
        {"prefix_ratio": 0.5, "scenarios": ("U(8,8)",)},
    ],
    ids=["own", "prefixes", "warm", "ratio of lengths"],
)
def test_what_plain_genai_bench_cannot_do_is_refused(way: str, instead: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"genai-bench itself cannot do it. Set {instead}"):
        own_traffic.check_runner(called(way, **changes))
    own_traffic.check_runner(called(way, prefix_tokens=8))
    own_traffic.check_runner(called(way, prefix_ratio=0.5))


def tied(*words: str) -> list[str]:
    given = OverridesParser.create().parse_overrides(list(words))
    return own_traffic.pins(own_traffic.tied(traffic(**OWN, dataset=FOUND), given))


def test_a_sweep_ties_its_trials_to_the_file() -> None:
    assert tied("n=1,2", "traffic.path=p.jsonl", "traffic.cache=cold,warm") == ["traffic.sha256=abababababab"]
    assert tied("traffic.path=p.jsonl,q.jsonl") == tied("traffic=dataset,chat") == []
    assert own_traffic.pins(own_traffic.tied(traffic(), [])) == []


def test_held_out_traffic_takes_nothing_of_the_file() -> None:
    lines = ["a=1", "traffic=dataset", "traffic.path=p.jsonl", "traffic.sha256=ab", "traffic.min_requests=5"]
    assert own_traffic.under(lines, "chat") == ["a=1", "traffic.min_requests=5", "traffic=chat"]


def test_every_level_is_dealt_prompts_of_its_own_in_whatever_order() -> None:
    for order in ("rising", "busiest_first"):
        own = traffic(**OWN, dataset=FOUND, concurrencies=(4, 1, 2), order=order)
        levels = {one.concurrency: one for one in planning.levels(replace(make_config(), traffic=own))}
        assert [(levels[n].first_prompt, levels[n].max_requests) for n in (1, 2, 4)] == [(0, 4), (4, 4), (8, 8)]
        assert levels[1].output_tokens_asked == 5.0
        assert levels[1].output_tokens_exact is None


def test_a_file_is_the_same_wherever_it_lies() -> None:
    here, there = (traffic(path=Path(path), scenarios=("dataset",), dataset=FOUND) for path in ("a/p.jsonl", "q.jsonl"))
    guessed = replace(there, dataset=replace(FOUND, is_counted=False, longest_tokens=99))
    assert here.identity == there.identity == guessed.identity
    assert here.identity != replace(here, dataset=replace(FOUND, sha256="cd" * 32)).identity
    assert here.identity != replace(here, output_tokens=4).identity


def test_warming_has_time_of_its_own() -> None:
    config = make_config()
    cold, warm = (
        trial_limit.of(replace(config, traffic=traffic(prefix_tokens=8, cache=cache))) for cache in ("cold", "warm")
    )
    assert warm - cold == 2 * 3 * config.timeouts.warmup_s  # two levels and one again, each of them twice


def test_levels_that_look_for_the_capacity_are_dealt_others_at_each_number_of_users() -> None:
    own = traffic(**OWN, dataset=FOUND, levels="capacity")
    config = replace(make_config(), traffic=own)
    begun = [planning.level(config, "dataset", users).first_prompt for users in (1, 2, 3, 4)]
    assert begun == [0, 4, 8, 14]  # each after all that smaller numbers of users would send
