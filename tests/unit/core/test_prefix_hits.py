"""Prompts that begin alike, and a prefix cache that had nothing of it."""

from typing import Any

import pytest

from pipeline.core import prefix_hits
from pipeline.core.record import EngineMetrics, Level
from support.records import CONFIG, make_config, make_metrics

UNKNOWN = "prompts begin alike in 50% of their tokens, and it is not known what the prefix cache had of that"


def warned(rate: float | None = None, by: Any = "engine", *, requests: int = 9, users: int = 2, **traffic: Any) -> str:
    """The warning of a level, or nothing."""
    config = make_config(traffic={**CONFIG["traffic"], "prefix_ratio": 0.5, **traffic})
    engine = None if rate is None else EngineMetrics(samples=1, prefix_hit_rate=rate, prefix_hits_by=by)
    level = Level(
        scenario="D(64,16)",
        concurrency=users,
        status="ok",
        metrics=make_metrics(num_requests=requests),
        engine_metrics=engine,
        warnings=("other",),
    )
    first, *rest = prefix_hits.told(config, level).warnings
    assert first == "other"
    return "".join(rest)


@pytest.mark.parametrize(
    ("by", "whose"), [("engine", "by the engine's count"), ("answers", "by the answers' cached_tokens")]
)
def test_a_cache_that_had_nothing_is_told_with_who_says_so(by: str, whose: str) -> None:
    assert warned(0.0, by) == (
        f"prompts begin alike in 50% of their tokens, and the prefix cache had 0% of them, {whose}: it is off, "
        "what they share is shorter than one of its blocks, or the model's sliding window leaves nothing to reuse "
        "(llama.cpp: set swa_full=true)"
    )


def test_a_chat_template_alone_is_no_hit() -> None:
    assert "the prefix cache had 0% of them" in warned(0.004)


def test_what_nobody_says_is_told() -> None:
    assert warned().startswith(UNKNOWN)
    engine = EngineMetrics(samples=3, running_mean=1.0)
    level = Level(scenario="x", concurrency=1, status="ok", metrics=make_metrics(num_requests=9), engine_metrics=engine)
    config = make_config(traffic={**CONFIG["traffic"], "prefix_ratio": 0.5})
    (told,) = prefix_hits.told(config, level).warnings
    assert told.startswith(UNKNOWN)


def test_a_cache_that_a_knob_turned_off_is_no_surprise() -> None:
    tells = {"no_prefix_cache": {"page_size": 32}}
    runtime = {**CONFIG["runtime"], "tells": tells}
    traffic = {**CONFIG["traffic"], "prefix_ratio": 0.5}
    level = Level(scenario="x", concurrency=1, status="ok", metrics=make_metrics(num_requests=9))
    off = make_config(runtime=runtime, traffic=traffic, knobs={**CONFIG["knobs"], "page_size": 32})
    assert prefix_hits.told(off, level).warnings == ()
    on = make_config(runtime=runtime, traffic=traffic, knobs={**CONFIG["knobs"], "page_size": 64})
    assert len(prefix_hits.told(on, level).warnings) == 1


def test_hits_are_no_news() -> None:
    assert warned(0.3) == ""


def test_prompts_that_share_nothing_cannot_hit() -> None:
    assert warned(0.0, prefix_ratio=None) == ""
    assert warned(0.0, prefix_ratio=0.04) == ""


def test_requests_that_all_begin_at_once_find_nothing_unless_the_cache_is_warm() -> None:
    assert warned(0.0, requests=2, users=2) == ""
    assert warned(0.0, requests=4, users=2, prefixes=4) == ""
    assert warned(0.0, requests=2, users=2, cache="warm") != ""


def test_a_level_that_was_not_measured_has_no_warning() -> None:
    level = Level(scenario="x", concurrency=1, status="failed")
    config = make_config(traffic={**CONFIG["traffic"], "prefix_ratio": 0.5})
    assert prefix_hits.told(config, level) == level
