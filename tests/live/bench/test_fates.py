"""What becomes of requests on a server that misbehaves as real ones do, seen through the real genai-bench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from fakes.bad_chat import TOKEN_S, misbehaving
from pipeline.bench import results
from pipeline.bench.resident import Resident
from pipeline.core.errors import FailureKind
from pipeline.core.record import Level
from pipeline.core.requests import Request
from pipeline.core.schema import Slo
from support.measuring import Make, measure, message

pytestmark = pytest.mark.live

SLO = Slo(name="x", e2e_s=30.0, attainment=0.9, max_error_rate=0.05)
WELL = (
    "ok",
    "comments",
    "no done",
    "no end",
    "two finish reasons",
    "no usage",
    "stall",
    "three tokens a chunk",
    "plain",
)
BROKEN = {
    "truncate": "2 of 12 tokens",
    "truncate politely": "2 of 12 tokens",
    "usage lies": "the server counts 12 tokens, its text has 2",
    "usage overshoots": "the server counts 48 tokens, its text has 12",
    "error without code": "engine dead",
    "error with words for code": "engine dead",
    "error after the last token": "engine dead",
    "empty": "no content",
    "not json": "no JSON: {oops (JSONDecodeError)",
    "no choices": 'a chunk without choices: {"id": 1}',
    "cut character": "no JSON: ",
    "reset": "the connection broke: ",
    "no stream": 'answered without streaming: {"choices": [{"message": {"content": "hi"}}]}',
    "http 400": "too long for the context",
    "http 502": "Bad Gateway",
}


class Seen(NamedTuple):
    """A level, and its requests in the order of the server's moods."""

    level: Level
    requests: Sequence[Request]


def measured(resident: Resident, make: Make, *moods: str, slo: Slo = SLO, **job: Any) -> Seen:
    """One user, so that the moods come in their order."""
    with misbehaving(*moods) as chat:
        planned = make(chat.url, scenario="D(48,12)", **{"drain_s": 1.0, **job})
        level = measure(resident, planned._replace(config=replace(planned.config, slo=slo)), chat.url)
        return Seen(level, results.of(planned.job.folder, planned.plan.levels[0])[0].requests)


def test_a_whole_answer_is_good_however_it_comes(resident: Resident, make: Make) -> None:
    seen = measured(resident, make, *WELL, max_requests=len(WELL))
    metrics = seen.level.metrics
    assert metrics is not None
    assert (metrics.fates, metrics.slo_attainment) == ({"good": len(WELL)}, 1.0), seen.requests
    assert (metrics.num_planned, metrics.num_begun, metrics.output_tokens_mean) == (len(WELL), len(WELL), 12)
    paces = dict(zip(WELL, (request.tpot_s for request in seen.requests), strict=True))
    assert (paces["plain"] or 0) >= TOKEN_S  # read as it comes, although it is not chunked
    assert (paces["three tokens a chunk"] or 0) >= TOKEN_S  # the first chunk's tokens do not flatter it


def test_a_broken_answer_is_an_error_with_its_words(resident: Resident, make: Make) -> None:
    """Each after a good one: none may vanish, and none may be good."""
    moods = [mood for broken in BROKEN for mood in ("ok", broken)]
    seen = measured(resident, make, *moods, max_requests=len(moods))
    metrics = seen.level.metrics
    assert metrics is not None
    assert (metrics.num_begun, metrics.num_errors, metrics.fates["good"]) == (len(moods), len(BROKEN), len(BROKEN))
    assert not metrics.is_usable
    assert seen.level.failure is not None
    assert "15 of 30 requests failed: " in seen.level.failure.message
    for (mood, words), request in zip(BROKEN.items(), seen.requests[1::2], strict=True):
        assert str(request.words or request.fault).startswith(words), mood


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
    level = measured(resident, make, mood, max_requests=1000, max_time_s=300.0).level
    assert level.failure is not None
    assert (level.failure.kind, message(level)) == (kind, words)


def test_an_answer_in_one_piece_has_no_time_per_token(resident: Resident, make: Make) -> None:
    moods = ("in one piece", "in one burst")
    seen = measured(resident, make, *moods, slo=replace(SLO, tpot_s=1.0))
    assert seen.level.metrics is not None
    assert seen.level.metrics.tpot is None
    assert not seen.level.metrics.meets_slo
    assert set(seen.level.metrics.fates) <= {"in_one_piece", "read_late"}  # late: where this machine is too busy


def test_a_level_that_hangs_is_cut_and_its_open_requests_are_missed(resident: Resident, make: Make) -> None:
    level = measured(resident, make, "ok", "ok", "hang", max_time_s=4.0).level
    seen = level.metrics
    assert seen is not None
    assert seen.fates == {"good": 2, "missed": 1}
    assert (seen.num_planned, seen.num_begun, seen.is_cut, seen.is_usable) == (8, 3, True, False)
    assert any(note.startswith("cut: 2 of 8 requests ended in time") for note in level.warnings)


def test_a_request_that_is_answered_while_the_level_drains_counts(resident: Resident, make: Make) -> None:
    """The level's time ends within the pause of the first answer."""
    seen = measured(resident, make, "stall", max_time_s=0.3, drain_s=30.0).level.metrics
    assert seen is not None
    assert (seen.fates, seen.is_cut) == ({"good": 1}, True)
