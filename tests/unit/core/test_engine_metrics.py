"""What an engine's metrics say of a level, and where they contradict the load generator."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.engine_metrics import AGAIN, Reading, Seen, disagreements, rows, summary
from pipeline.core.engine_times import Sum
from pipeline.core.record import EngineMetrics, LevelMetrics
from support.records import make_metrics

IDLE = Reading(gauges={"running": 0.0, "waiting": 0.0, "kv_use": 0.1})


def at_work(running: float = 4, waiting: float = 2, kv_use: float = 0.5, **gauges: float) -> Reading:
    return Reading(gauges={"running": running, "waiting": waiting, "kv_use": kv_use, **gauges})


def counted(**counters: float) -> Reading:
    return Reading(counters=counters)


def seen(before: Reading | None = None, after: Reading | None = None, *samples: Reading, **more: Any) -> Seen:
    timed = tuple((1.0 * at, one) for at, one in enumerate(samples, 1))
    return Seen(before=before, samples=timed, after=after, **more)


def told(found: Seen, measured: LevelMetrics | None = None) -> EngineMetrics:
    made = summary(found, measured)
    assert made is not None
    return made


def answered(count: int = 8, begun: int | None = None, **changes: Any) -> LevelMetrics:
    """So many answers of 64 tokens in and 16 out."""
    return make_metrics(fates={"good": count}, num_begun=begun or count, **changes)


def test_gauges_are_those_of_the_time_when_the_engine_worked() -> None:
    found = told(seen(IDLE, IDLE, IDLE, at_work(2, 0, 0.4), IDLE, at_work(4, 6, 0.8), IDLE, IDLE))
    assert (found.samples, found.running_mean, found.running_max) == (3, 2.0, 4.0)
    assert (found.waiting_mean, found.waiting_max) == (2.0, 6.0)
    assert (found.kv_use_mean, found.kv_use_max) == pytest.approx((1.3 / 3, 0.8))


def test_an_engine_that_was_never_seen_at_work_has_no_gauges() -> None:
    found = told(seen(counted(requests=1), counted(requests=9), IDLE))
    assert (found.samples, found.running_mean, found.kv_use_max, found.requests) == (0, None, None, 8)


def test_counters_are_what_came_meanwhile() -> None:
    found = told(
        seen(counted(preemptions=5, requests=1), counted(preemptions=7, requests=9, prompt_tokens=512, output_tokens=9))
    )
    assert (found.preemptions, found.requests, found.prompt_tokens, found.output_tokens) == (2, 8, 512, 9)


def test_counters_that_went_back_say_nothing() -> None:
    found = told(seen(counted(requests=5, output_tokens=50), counted(requests=2, output_tokens=90)))
    assert (found.requests, found.output_tokens, found.missing) == (None, None, AGAIN)


def test_without_a_last_reading_there_are_gauges_alone() -> None:
    found = told(seen(counted(requests=5), None, at_work(), missing="/metrics: connection refused"))
    assert (found.requests, found.running_mean, found.missing) == (None, 4.0, "/metrics: connection refused")


def test_times_are_means_per_request() -> None:
    before = Reading(times={"queue": Sum(seconds=1.0, count=10)})
    after = Reading(times={"queue": Sum(seconds=5.0, count=18), "decode": Sum(seconds=4.0, count=8)})
    found = told(seen(before, after))
    assert (found.queue_mean_s, found.prefill_mean_s, found.decode_mean_s) == (0.5, None, 0.5)


def test_seconds_over_all_requests_are_divided_by_those_that_were_answered() -> None:
    found = seen(counted(prefill=1.0), counted(prefill=5.0))
    assert told(found, answered(8)).prefill_mean_s == 0.5
    assert summary(found, None) is None


@pytest.mark.parametrize(
    ("after", "rate", "by"),
    [
        ({"cache_queries": 400, "cached_tokens": 100}, 0.25, "engine"),
        ({"prompt_tokens": 400, "cached_tokens": 100}, 0.25, "engine"),
        ({"uncached_tokens": 300, "cached_tokens": 100}, 0.25, "engine"),
        ({"prompt_tokens": 400, "cached_tokens": 0}, 0.0, "engine"),
        ({"prompt_tokens": 512}, 0.5, "answers"),
        ({"uncached_tokens": 256}, 0.5, "answers"),
    ],
    ids=["of-what-was-looked-for", "of-prompts", "beside-what-was-computed", "no-hit", "no-counter", "half-a-counter"],
)
def test_the_hit_rate_is_the_engines_else_the_answers(after: dict[str, float], rate: float, by: str) -> None:
    found = told(seen(counted(), counted(**after)), answered(cached_tokens_mean=32.0))
    assert (found.prefix_hit_rate, found.prefix_hits_by) == (rate, by)


def test_without_any_metrics_the_answers_tell_the_hit_rate() -> None:
    found = told(seen(), answered(cached_tokens_mean=16.0))
    assert (found.prefix_hit_rate, found.prefix_hits_by, found.samples) == (0.25, "answers", 0)


def test_an_engine_that_counts_hits_and_looks_for_none_has_a_cache_that_is_off() -> None:
    """vLLM 0.32.0 with --no-enable-prefix-caching: both counters are there, and stay at 0."""
    off = seen(counted(), counted(prompt_tokens=512, cache_queries=0, cached_tokens=0))
    found = told(off)
    assert (found.prefix_hit_rate, found.prefix_hits_by) == (0.0, "engine")
    assert told(off, answered(cached_tokens_mean=32.0)).prefix_hits_by == "answers"


def test_where_nobody_tells_it_there_is_none() -> None:
    assert summary(seen(), answered()) is None
    assert told(seen(counted(), counted(requests=8)), answered()).prefix_hit_rate is None


def test_accepted_tokens_are_a_share_of_the_drafted_ones() -> None:
    found = told(seen(counted(), counted(drafted_tokens=200, accepted_tokens=150)))
    assert (found.drafted_tokens, found.accepted_tokens, found.accept_rate) == (200, 150, 0.75)


def test_an_engine_that_drafts_nothing_accepts_nothing() -> None:
    found = told(seen(counted(requests=0), counted(requests=8, drafted_tokens=0, accepted_tokens=0)))
    assert (found.drafted_tokens, found.accepted_tokens, found.accept_rate) == (None, None, None)


def test_a_share_that_is_a_gauge_counts_where_there_were_drafts() -> None:
    assert told(seen(None, None, at_work(accept_rate=0), at_work(accept_rate=0.6))).accept_rate == 0.6
    assert told(seen(None, None, at_work(accept_rate=0))).accept_rate is None


def test_the_samples_are_a_table_with_the_columns_that_are_there() -> None:
    table = rows(seen(None, None, Reading(gauges={"running": 1.0}), at_work()))
    assert table == {"columns": ["at_s", "running", "waiting", "kv_use"], "rows": [[1, 1, None, None], [2, 4, 2, 0.5]]}


COUNTS = EngineMetrics(samples=0, requests=8, prompt_tokens=512, output_tokens=128)


@pytest.mark.parametrize(
    ("changes", "measured", "words"),
    [
        ({}, answered(), []),
        ({"prompt_tokens": 520, "output_tokens": 136}, answered(), []),
        ({"requests": None, "prompt_tokens": None}, answered(), []),
        ({"output_tokens": 137}, answered(), ["output tokens: 137 in the engine, 128 at the load generator"]),
        ({"prompt_tokens": 300}, answered(), ["prompt tokens: 300 in the engine, 512 at the load generator"]),
        ({"requests": 9}, answered(), ["requests: 9 in the engine, 8 at the load generator"]),
        ({"requests": 5}, answered(6, 8), ["requests: 5 in the engine, 6 to 8 at the load generator"]),
        ({"requests": 7, "output_tokens": 500}, answered(6, 8), []),
        ({"requests": None, "output_tokens": 500}, answered(6, 8), []),
        ({"prompt_tokens": 300}, answered(input_tokens_mean=0.0), []),
    ],
    ids=[
        "agree",
        "one-more-for-each",
        "untold",
        "more-tokens",
        "fewer-tokens",
        "others-requests",
        "lost-requests",
        "some-unanswered",
        "unanswered-and-untold",
        "uncounted-prompts",
    ],
)
def test_counts_that_contradict_the_load_generator_are_said(
    changes: dict[str, Any], measured: LevelMetrics, words: list[str]
) -> None:
    assert list(disagreements(replace(COUNTS, **changes), measured)) == words
