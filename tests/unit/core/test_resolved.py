"""What the engine says it runs, against what was asked and against other trials."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline.core import resolved
from pipeline.core.resolved import Rewrite
from pipeline.core.schema import Config
from pipeline.core.values import Scalar
from support.records import CONFIG, make_config

KNOBS = {
    "page_size": {"kind": "int", "flag": "--page-size", "help": "tokens", "setting": "page_size"},
    "dtype": {"kind": "choice", "flag": "--dtype", "help": "type", "choices": ["auto", "fp8"], "setting": "kv.dtype"},
    "share": {"kind": "float", "flag": "--share", "help": "share", "setting": "share"},
    "mixed": {"kind": "bool", "flag": "--mixed", "help": "mixed", "setting": "mixed"},
    "silent": {"kind": "int", "flag": "--silent", "help": "never told"},
}
TOLD = {"page_size": 64, "kv": {"dtype": "FP8"}, "share": 0.9, "mixed": False}


def trial(**knobs: Scalar | None) -> Config:
    runtime = {**CONFIG["runtime"], "knobs": KNOBS}
    return make_config(runtime=runtime, knobs={**dict.fromkeys(KNOBS), **knobs})


@pytest.mark.parametrize(
    ("knobs", "found"),
    [
        ({}, ()),
        ({"page_size": 64, "dtype": "fp8", "share": 0.9, "mixed": False}, ()),
        ({"page_size": 16}, (Rewrite(knob="page_size", asked=16, got=64),)),
        ({"dtype": "auto"}, ()),
        ({"mixed": True}, (Rewrite(knob="mixed", asked=True, got=False),)),
        ({"share": 0.8}, (Rewrite(knob="share", asked=0.8, got=0.9),)),
        ({"silent": 1}, ()),
    ],
    ids=["nothing-asked", "as-asked", "page-size", "left-to-the-engine", "switch", "share", "not-told"],
)
def test_a_knob_is_rewritten_when_the_engine_says_another_value(
    knobs: dict[str, Any], found: tuple[Rewrite, ...]
) -> None:
    assert resolved.rewrites(trial(**knobs), TOLD) == found


@pytest.mark.parametrize("settings", [None, {}, {"kv": 3}, {"page_size": [64]}], ids=["none", "empty", "flat", "list"])
def test_what_the_engine_does_not_tell_is_not_rewritten(settings: dict[str, Any] | None) -> None:
    assert resolved.rewrites(trial(page_size=16, dtype="fp8"), settings) == ()


@pytest.mark.parametrize(
    ("knobs", "told", "alike"),
    [
        ({"page_size": 16}, TOLD, True),
        ({"page_size": 16}, {**TOLD, "page_size": 16}, False),
        ({"page_size": 16}, {**TOLD, "share": 0.8}, False),
        ({"page_size": 16}, {"kv": {"dtype": "fp8"}}, False),
        ({"page_size": 64, "silent": 1}, TOLD, False),
        ({"page_size": 64}, TOLD, True),
    ],
    ids=["rewritten", "as-asked", "something-else-differs", "told-less", "asked-in-silence", "same"],
)
def test_trials_are_alike_when_every_difference_is_gone(
    knobs: dict[str, Any], told: dict[str, Any], *, alike: bool
) -> None:
    assert resolved.are_alike(trial(page_size=64), TOLD, trial(**knobs), told) is alike


def test_trials_of_other_traffic_are_not_alike() -> None:
    other = trial(page_size=16)
    other = replace(other, traffic=replace(other.traffic, seed=2))
    assert not resolved.are_alike(trial(page_size=64), TOLD, other, TOLD)


def test_the_tracker_makes_no_difference() -> None:
    other = trial(page_size=16)
    other = replace(other, tracker=replace(other.tracker, timeout_s=1))
    assert resolved.are_alike(trial(page_size=64), TOLD, other, TOLD)


@pytest.mark.parametrize(
    ("asked", "got", "same"),
    [
        (32, "32", True),
        (32, 32.0, True),
        ("fp8", "FP8", True),
        (True, "True", True),
        (True, 1, False),
        (0.9, 0.91, False),
    ],
)
def test_one_setting_in_two_spellings(asked: Scalar, got: Scalar, *, same: bool) -> None:
    assert resolved.is_same(asked, got) is same
