"""The fates of requests: each has one, the counts add up, and none but a good answer raises goodput."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.errors import BenchFailed
from pipeline.core.metrics import measure
from pipeline.core.record import LevelMetrics
from pipeline.core.requests import ERRORS, FATES, IN_NO_RATE, Ending, Fate, Measurement, Request, fate
from pipeline.core.schema import Slo

SLO = Slo(name="x", ttft_s=1.0, tpot_s=0.1, e2e_s=5.0, attainment=0.9, max_error_rate=1.0)
GOOD = Request(ttft_s=0.2, tpot_s=0.02, e2e_s=0.5, input_tokens=24, output_tokens=16)
AT_ONCE = replace(GOOD, tpot_s=None, is_in_one_piece=True)
DRAIN_S = 2.0
# The same examples on every machine, however slow it is
fixed = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])


def still(open_s: float, silent_s: float = 0.0, **changes: Any) -> Request:
    gone = replace(GOOD, ttft_s=None, tpot_s=None, e2e_s=None, output_tokens=0)
    return replace(gone, ending="open", open_s=open_s, silent_s=silent_s, **changes)


@pytest.mark.parametrize(
    ("request_", "limits", "expected"),
    [
        (GOOD, {}, "good"),
        (replace(GOOD, ttft_s=1.5), {}, "late"),
        (replace(GOOD, fault="2 of 16 tokens"), {}, "short"),
        (replace(GOOD, fault="2 of 16 tokens", ttft_s=9.0), {}, "short"),
        (AT_ONCE, {}, "in_one_piece"),
        (AT_ONCE, {"tpot_s": None}, "good"),
        (AT_ONCE, {"tpot_s": None, "limits": {"tpot_p95_s": 1}}, "in_one_piece"),
        (replace(AT_ONCE, lag_s=0.15), {}, "read_late"),
        (replace(GOOD, lag_s=9.0), {}, "good"),
        (still(5.1), {}, "missed"),
        (still(4.9, ttft_s=0.0), {"ttft_s": None}, "censored"),
        (still(1.1), {}, "missed"),
        (still(1.1, ttft_s=0.0), {}, "censored"),
        (still(1.2, ttft_s=0.0, asked_tokens=2), {}, "missed"),
        (still(1.0, silent_s=2.0, ttft_s=0.0), {}, "missed"),
        (still(99.0), {"ttft_s": None, "tpot_s": None, "e2e_s": None}, "censored"),
        (still(99.0, silent_s=2.0), {"ttft_s": None, "tpot_s": None, "e2e_s": None}, "missed"),
        (replace(still(99.0), ending="stopped"), {}, "stopped"),
    ],
)  # fmt: skip
def test_a_request_has_one_fate(request_: Request, limits: dict[str, Any], expected: Fate) -> None:
    assert fate(request_, replace(SLO, **limits), drain_s=DRAIN_S) == expected


def times() -> st.SearchStrategy[float]:
    return st.floats(min_value=0.0, max_value=10.0)


REQUESTS = st.builds(
    Request,
    ttft_s=times(),
    tpot_s=st.none() | times(),
    e2e_s=times(),
    input_tokens=st.integers(0, 100),
    output_tokens=st.integers(1, 100),
    ending=st.sampled_from(get_args(Ending)),
    cause=st.none() | st.sampled_from(["503", "stream_error"]),
    words=st.none() | st.sampled_from(["engine dead", "no room"]),
    fault=st.none() | st.just("2 of 16 tokens"),
    is_in_one_piece=st.booleans(),
    lag_s=times(),
    open_s=times(),
    silent_s=times(),
)
LIMITS = st.builds(
    lambda **limits: replace(SLO, **limits),
    ttft_s=st.none() | times().filter(bool),
    tpot_s=st.none() | times().filter(bool),
    e2e_s=times().filter(bool),
)


def measured(requests: list[Request], slo: Slo) -> LevelMetrics | None:
    seen = Measurement(run_duration_s=4.0, requests=tuple(requests), drain_s=DRAIN_S)
    try:
        return measure(seen, slo, output_tokens_asked=16.0)
    except BenchFailed:
        return None


@fixed
@given(st.lists(REQUESTS, min_size=1, max_size=30), LIMITS)
def test_the_counts_add_up(requests: list[Request], slo: Slo) -> None:
    seen = measured(requests, slo)
    if seen is None:
        return
    fates = seen.fates
    assert sum(fates.values()) == seen.num_begun == len(requests)
    assert seen.num_errors == sum(fates.get(name, 0) for name in ERRORS) == sum(seen.error_codes.values())
    assert seen.num_requests == seen.num_begun - sum(fates.get(name, 0) for name in IN_NO_RATE)
    assert seen.goodput_requests_per_s == pytest.approx(fates.get("good", 0) / 4.0)
    assert 0.0 <= (seen.slo_attainment or 0.0) <= 1.0


@fixed
@given(st.lists(REQUESTS, min_size=1, max_size=20), REQUESTS, LIMITS)
def test_no_fate_but_a_good_answer_raises_goodput(requests: list[Request], one: Request, slo: Slo) -> None:
    before, after = measured([GOOD, *requests], slo), measured([GOOD, *requests, one], slo)
    if before is None or after is None:
        return
    is_good = fate(one, slo, drain_s=DRAIN_S) == "good"
    gained = (after.goodput_output_tokens_per_s or 0.0) - (before.goodput_output_tokens_per_s or 0.0)
    assert gained == pytest.approx(one.output_tokens / 4.0 if is_good else 0.0)
    assert is_good or (after.slo_attainment or 0.0) <= (before.slo_attainment or 0.0)


def test_every_fate_can_be_met() -> None:
    """A fate that no test meets is one that nobody needs."""
    assert set(FATES) == {"good", "late", "short", *IN_NO_RATE, *ERRORS, "in_one_piece"}
