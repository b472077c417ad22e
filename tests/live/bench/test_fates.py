"""What becomes of requests on a server that misbehaves as real ones do, seen through the real genai-bench."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from fakes.bad_chat import TOKEN_S, misbehaving
from pipeline.bench.resident import Resident
from pipeline.core.errors import FailureKind
from pipeline.core.record import Level
from pipeline.core.schema import Slo
from support.measuring import Make, measure, message

pytestmark = pytest.mark.live

SLO = Slo(name="x", e2e_s=30.0, attainment=0.9, max_error_rate=0.05)


def measured(resident: Resident, make: Make, mood: str, every: int = 1, slo: Slo = SLO, **job: Any) -> Level:
    with misbehaving(mood, every) as chat:
        level = make(chat.url, scenario="D(48,12)", **{"drain_s": 1.0, **job})
        return measure(resident, level._replace(config=replace(level.config, slo=slo)), chat.url)


@pytest.mark.parametrize(
    "mood", ["ok", "comments", "no done", "two finish reasons", "no usage", "stall", "three tokens a chunk"]
)
def test_a_whole_answer_is_good_however_it_comes(resident: Resident, make: Make, mood: str) -> None:
    seen = measured(resident, make, mood).metrics
    assert seen is not None
    assert (seen.fates, seen.num_planned, seen.num_begun, seen.slo_attainment) == ({"good": 8}, 8, 8, 1.0)
    assert seen.output_tokens_mean == 12


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ("truncate", "not what was asked for: 2 of 12 tokens"),
        ("truncate politely", "not what was asked for: 2 of 12 tokens"),
        ("usage lies", "not what was asked for: the server counts 12 tokens, its text has 2"),
        ("usage overshoots", "not what was asked for: the server counts 48 tokens, its text has 12"),
        ("error without code", "engine dead"),
        ("error with words for code", "engine dead"),
        ("error after the last token", "HTTP 500: engine dead"),
        ("empty", "no content"),
        ("not json", "no JSON: {oops (JSONDecodeError)"),
        ("no choices", 'a chunk without choices: {"id": 1}'),
        ("cut character", "no JSON: "),
        ("reset", "the connection broke: "),
        ("no stream", 'answered without streaming: {"choices": [{"message": {"content": "hi"}}]}'),
        ("http 400", "HTTP 400: too long for the context"),
        ("http 502", "HTTP 502: Bad Gateway"),
    ],
)
def test_a_broken_answer_is_an_error_with_its_words(resident: Resident, make: Make, mood: str, words: str) -> None:
    """Every second one: none may vanish, and none may be good."""
    level = measured(resident, make, mood, every=2)
    seen = level.metrics
    assert seen is not None
    assert (seen.num_begun, seen.num_requests, seen.num_errors, seen.fates["good"]) == (8, 8, 4, 4)
    assert next(iter(seen.error_words)).startswith(words)
    assert not seen.is_usable
    assert level.failure is not None
    assert words in level.failure.message


@pytest.mark.parametrize(
    ("mood", "kind", "words"),
    [
        ("error without code", FailureKind.BENCH_ERROR, "0 of 8 requests answered: engine dead (8)"),
        ("http 400", FailureKind.REQUEST_REJECTED, "0 of 8 requests answered: HTTP 400: too long for the context (8)"),
    ],
)
def test_a_level_without_an_answer_ends_at_once_with_the_cause(
    resident: Resident, make: Make, mood: str, kind: FailureKind, words: str
) -> None:
    level = measured(resident, make, mood, max_requests=1000, max_time_s=300.0)
    assert level.failure is not None
    assert (level.failure.kind, message(level)) == (kind, words)


@pytest.mark.parametrize("mood", ["in one piece", "in one burst"])
def test_an_answer_in_one_piece_has_no_time_per_token(resident: Resident, make: Make, mood: str) -> None:
    limits: Mapping[str, Slo] = {"pace": replace(SLO, tpot_s=1.0), "none": SLO}
    seen = {name: measured(resident, make, mood, slo=slo).metrics for name, slo in limits.items()}
    paced, free = seen["pace"], seen["none"]
    assert paced is not None
    assert free is not None
    assert paced.tpot is None
    assert not paced.meets_slo
    assert set(paced.fates) <= {"in_one_piece", "read_late"}  # late: where this machine is too busy to read
    assert free.fates == {"good": 8}


def test_tokens_of_the_first_chunk_do_not_flatter_the_pace(resident: Resident, make: Make) -> None:
    seen = measured(resident, make, "three tokens a chunk").metrics
    assert seen is not None
    assert seen.tpot is not None
    assert seen.tpot.mean >= TOKEN_S


def test_a_level_that_hangs_is_cut_and_its_open_requests_are_missed(resident: Resident, make: Make) -> None:
    level = measured(resident, make, "hang", every=3, max_time_s=2.0)
    seen = level.metrics
    assert seen is not None
    assert seen.fates == {"good": 2, "missed": 1}
    assert (seen.num_planned, seen.num_begun, seen.is_cut, seen.is_usable) == (8, 3, True, False)
    assert any(note.startswith("cut: 2 of 8 requests ended in time") for note in level.warnings)


def test_a_request_that_is_answered_while_the_level_drains_counts(resident: Resident, make: Make) -> None:
    """The level's time ends within the pause of the first answer."""
    seen = measured(resident, make, "stall", max_time_s=0.3, drain_s=30.0).metrics
    assert seen is not None
    assert (seen.fates, seen.is_cut) == ({"good": 1}, True)
