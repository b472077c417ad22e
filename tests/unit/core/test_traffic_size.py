"""What a traffic asks for, and how much of it is shared."""

from dataclasses import replace

import pytest

from pipeline.core import traffic_size
from pipeline.core.schema_traffic import Traffic
from support.records import make_config


def traffic(**changes: object) -> Traffic:
    return replace(make_config().traffic, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({}, 0.0),
        ({"prefix_tokens": 16}, 0.25),
        ({"prefix_ratio": 0.5}, 0.5),
        ({"prefix_tokens": 16, "scenarios": ("D(64,8)", "D(32,8)")}, 0.5),
        ({"prefix_tokens": 60, "scenarios": ("N(40,40)/(8,8)",)}, 1.0),
    ],
)
def test_the_share_of_a_prompt_that_others_begin_with(changes: dict[str, object], share: float) -> None:
    assert traffic_size.shared(traffic(**changes)) == share


def test_a_prefix_is_part_of_the_input() -> None:
    shared = traffic(prefix_tokens=16)
    assert traffic_size.longest(shared) == traffic_size.least(shared) == 80
    assert traffic_size.mean(shared, "D(64,16)").input == 64


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "quick: D(64,16), seed 1"),
        ({"prefix_tokens": 16}, "quick: D(64,16), seed 1, 1 shared prefix (16 tokens), cache cold"),
        (
            {"prefix_ratio": 0.5, "prefixes": 3, "cache": "warm"},
            "quick: D(64,16), seed 1, 3 shared prefixes (50% of each prompt), cache warm",
        ),
    ],
)
def test_reports_say_what_is_shared_and_how_warm_the_cache_was(changes: dict[str, object], words: str) -> None:
    assert traffic_size.told(traffic(**changes)) == words
    assert traffic_size.beyond(traffic(**changes)) == words.split(", ")[2:]
