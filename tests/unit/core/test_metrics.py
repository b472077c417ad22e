"""From requests to numbers, and from numbers to the verdict on a trial."""

from typing import Any

import numpy as np
import pytest

from pipeline.core import metrics
from pipeline.core.errors import BenchFailed
from pipeline.core.metric_names import known_metrics
from pipeline.core.metrics import measure
from pipeline.core.record import Client, LevelMetrics, Stats
from pipeline.core.requests import Measurement, Request
from pipeline.core.schema import Slo
from support.records import make_metrics

CUT = (
    "cut: 6 of 12 requests ended in time (traffic.max_time_per_level_s); 1 were still being answered and are in no rate"
)
LATE = "the load generator ran up to 60 ms late (p99) at a median TTFT of 200 ms: latencies are partly its own"
NO_SLO = Slo(name="none", attainment=0.9, max_error_rate=0.1)


def slo(**limits: Any) -> Slo:
    return Slo(**{"name": "x", "attainment": 0.9, "max_error_rate": 0.5, **limits})


def request(**changes: Any) -> Request:
    return Request(**{"ttft_s": 0.2, "tpot_s": 0.02, "e2e_s": 0.5, "input_tokens": 48, "output_tokens": 16, **changes})


def failed(code: int = 503) -> Request:
    return Request(
        ttft_s=None, tpot_s=None, e2e_s=None, input_tokens=0, output_tokens=0, ending="failed", cause=str(code)
    )


def measured(*requests: Request, limits: Slo = NO_SLO, duration: float = 2.0, asked: float = 16.0) -> LevelMetrics:
    return measure(Measurement(run_duration_s=duration, requests=requests), limits, output_tokens_asked=asked)


def test_throughput_counts_answered_requests_over_the_run() -> None:
    found = measured(*[request()] * 6, *[failed()] * 2, duration=4.0)
    assert found.requests_per_s == 1.5
    assert found.output_tokens_per_s == 24.0
    assert found.input_tokens_per_s == 72.0
    assert found.total_tokens_per_s == 96.0
    assert (found.input_tokens_mean, found.output_tokens_mean) == (48.0, 16.0)


def test_the_error_rate_is_counted_from_the_requests() -> None:
    found = measured(*[request()] * 6, failed(503), failed(500))
    assert (found.num_requests, found.num_errors, found.error_rate) == (8, 2, 0.25)
    assert found.error_codes == {"503": 1, "500": 1}


@pytest.mark.parametrize(("errors", "usable"), [(1, True), (2, False)], ids=["at-the-limit", "over-it"])
def test_a_level_with_too_many_errors_is_not_usable(errors: int, *, usable: bool) -> None:
    assert measured(*[request()] * (10 - errors), *[failed()] * errors).is_usable is usable


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_latencies_are_summed_up_as_numpy_does(count: int) -> None:
    times = np.random.default_rng(count).exponential(size=count)
    found = measured(*(request(ttft_s=float(time)) for time in times)).ttft
    assert found is not None
    assert [found.p50, found.p90, found.p95, found.p99] == pytest.approx(np.percentile(times, [50, 90, 95, 99]))
    assert found.mean == pytest.approx(times.mean())


def test_failed_requests_have_no_latency() -> None:
    found = measured(request(ttft_s=0.3), failed()).ttft
    assert found == Stats(mean=0.3, p50=0.3, p90=0.3, p95=0.3, p99=0.3)


def test_a_time_that_no_request_has_is_not_a_zero() -> None:
    found = measured(request(tpot_s=None, output_tokens=1), request(tpot_s=None, output_tokens=1))
    assert found.tpot is None
    assert "tpot_p95_s" not in metrics.flatten(found)


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ([failed()] * 3, "0 of 3 requests answered: HTTP 503 (3)"),
        ([failed(503), failed(500), failed(503)], "0 of 3 requests answered: HTTP 503 (2), HTTP 500 (1)"),
        ([], "0 of 0 requests answered"),
    ],
    ids=["one-code", "two-codes", "none-sent"],
)
def test_a_run_without_an_answer_measured_nothing(requests: list[Request], words: str) -> None:
    with pytest.raises(BenchFailed) as caught:
        measured(*requests)
    assert str(caught.value) == words


def test_a_run_that_lasted_no_time_measured_nothing() -> None:
    with pytest.raises(BenchFailed, match="2 requests answered in a run that lasted 0 s"):
        measured(request(), request(), duration=0.0)


@pytest.mark.parametrize(
    ("limits", "share"),
    [
        ({"ttft_s": 0.2}, 1.0),
        ({"ttft_s": 0.1999}, 0.0),
        ({"ttft_s": 0.2, "tpot_s": 0.02, "e2e_s": 0.5}, 1.0),
        ({"ttft_s": 0.2, "tpot_s": 0.01}, 0.0),
        ({"ttft_s": 0.2, "e2e_s": 0.4}, 0.0),
    ],
    ids=["exactly-at-the-limit", "just-over-it", "all-three", "tpot-misses", "e2e-misses"],
)
def test_a_request_is_good_when_it_meets_every_limit(limits: dict[str, float], share: float) -> None:
    assert measured(request(), request(), limits=slo(**limits)).slo_attainment == share


def test_attainment_looks_at_each_request_not_at_means() -> None:
    found = measured(*[request(ttft_s=0.1)] * 9, request(ttft_s=10.0), limits=slo(ttft_s=0.5, attainment=0.9))
    assert found.ttft is not None
    assert found.ttft.mean > 0.5
    assert found.slo_attainment == 0.9
    assert found.meets_slo


def test_a_failed_request_misses_the_slo() -> None:
    found = measured(*[request()] * 3, failed(), limits=slo(ttft_s=1.0))
    assert found.slo_attainment == 0.75
    assert found.goodput_requests_per_s == 1.5


def test_an_answer_of_one_token_has_no_time_per_token_to_miss() -> None:
    found = measured(request(tpot_s=None, output_tokens=1), limits=slo(tpot_s=0.01, limits={"tpot_p95_s": 0.01}))
    assert (found.slo_attainment, found.meets_slo) == (1.0, True)


@pytest.mark.parametrize("limits", [{"tpot_s": 0.01}, {"limits": {"tpot_p95_s": 0.01}}], ids=["per-request", "level"])
def test_an_answer_in_one_piece_cannot_meet_a_limit_on_time_per_token(limits: dict[str, Any]) -> None:
    found = measured(*[request(tpot_s=None, is_in_one_piece=True)] * 4, limits=slo(**limits))
    assert (found.slo_attainment, found.meets_slo, found.goodput_requests_per_s) == (0.0, False, 0.0)
    assert found.fates == {"in_one_piece": 4}


def test_an_answer_that_we_read_late_tells_nothing_of_the_server() -> None:
    late = request(tpot_s=None, is_in_one_piece=True, ttft_s=0.2, lag_s=0.15)
    found = measured(*[request()] * 3, late, limits=slo(tpot_s=0.05))
    assert (found.num_requests, found.slo_attainment) == (3, 1.0)
    assert found.fates == {"good": 3, "read_late": 1}


def test_goodput_has_no_jump_where_one_more_request_misses() -> None:
    found = [
        measured(*[request()] * (20 - slow), *[request(ttft_s=9.0)] * slow, limits=slo(ttft_s=1.0))
        for slow in range(21)
    ]
    shares = [level.slo_attainment or 0.0 for level in found]
    goodputs = [level.goodput_requests_per_s or 0.0 for level in found]
    assert np.diff(shares) == pytest.approx([-0.05] * 20)
    assert np.diff(goodputs) == pytest.approx([-0.5] * 20)


def test_goodput_counts_good_requests_and_their_tokens() -> None:
    requests = [request(output_tokens=10), request(output_tokens=30), request(ttft_s=9.0, output_tokens=100)]
    found = measured(*requests, limits=slo(ttft_s=1.0), duration=2.0)
    assert found.goodput_requests_per_s == 1.0
    assert found.goodput_output_tokens_per_s == 20.0


def test_without_an_slo_there_is_no_goodput() -> None:
    found = measured(request())
    assert (found.slo_attainment, found.goodput_requests_per_s, found.goodput_output_tokens_per_s) == (None, None, None)
    assert found.meets_slo


@pytest.mark.parametrize(
    ("limits", "meets"),
    [
        ({"ttft_p95_s": 0.2}, True),
        ({"ttft_p95_s": 0.19}, False),
        ({"e2e_mean_s": 1.0, "tpot_p99_s": 0.001}, False),
    ],
    ids=["at-the-limit", "over-it", "one-of-two"],
)
def test_limits_on_a_levels_numbers_are_part_of_the_slo(limits: dict[str, float], *, meets: bool) -> None:
    assert measured(*[request()] * 4, limits=slo(limits=limits)).meets_slo is meets


def test_a_level_with_too_many_errors_does_not_meet_the_slo() -> None:
    limits = slo(ttft_s=1.0, attainment=0.5, max_error_rate=0.1)
    assert not measured(*[request()] * 8, *[failed()] * 2, limits=limits).meets_slo


@pytest.mark.parametrize(
    ("changes", "seen", "words"),
    [
        ({}, {}, ()),
        (
            {"num_errors": 2, "error_words": {"HTTP 503: no room": 2}},
            {},
            ("2 of 8 requests failed: HTTP 503: no room (2)",),
        ),
        (
            {"is_cut": True, "num_planned": 12, "num_begun": 9, "fates": {"good": 6, "missed": 2, "censored": 1}},
            {},
            (CUT,),
        ),
        (
            {},
            {"client": Client(cpu_share=0.95, lag_p99_s=0.001, lag_max_s=0.1)},
            ("the load generator used 95% of its core: latencies are partly its own",),
        ),
        (
            {},
            {"client": Client(cpu_share=0.2, lag_p99_s=0.06, lag_max_s=0.1)},
            (LATE,),
        ),
        ({}, {"notes": ("2 answers ended without [DONE]",)}, ("2 answers ended without [DONE]",)),
        (
            {},
            {"requests": (request(tpot_s=None, is_in_one_piece=True),)},
            ("1 answers came in one piece: their time per token (TPOT) is unknown",),
        ),
        (
            {"fates": {"in_one_piece": 1}},
            {"requests": (request(tpot_s=None, is_in_one_piece=True),)},
            ("1 answers came in one piece: their time per token (TPOT) is unknown, so they miss the limit on it",),
        ),
    ],
    ids=["all-well", "errors", "cut", "busy-client", "late-client", "notes", "one-piece", "one-piece-with-a-limit"],
)
def test_the_reader_is_warned(changes: dict[str, Any], seen: dict[str, Any], words: tuple[str, ...]) -> None:
    whole = Measurement(**{"run_duration_s": 1.0, "requests": (), **seen})
    assert metrics.warnings_for(make_metrics(**changes), whole) == words


@pytest.mark.parametrize(
    ("changes", "over"),
    [
        ({}, False),
        ({"error_rate": 0.5}, False),
        ({"error_rate": 0.51}, True),
        ({"slo_attainment": 0.1}, False),
        ({"slo_attainment": 0.09}, True),
    ],
    ids=["well", "half-failed", "most-failed", "a-tenth-met", "hardly-any-met"],
)
def test_a_level_is_overloaded_by_a_wide_margin_only(changes: dict[str, Any], *, over: bool) -> None:
    assert metrics.is_overloaded(make_metrics(**changes)) is over


def test_every_number_has_one_name() -> None:
    flat = metrics.flatten(make_metrics())
    assert flat["ttft_p95_s"] == 0.35
    assert flat["output_tokens_per_s"] == 100.0
    assert {name.removesuffix("_per_gpu") for name in known_metrics()} - flat.keys() == {
        "auto", "slo_attainment", "goodput_requests_per_s", "goodput_output_tokens_per_s",
        "usd_per_million_output_tokens", "tokens_per_s_per_watt", "joules_per_output_token",
    }  # fmt: skip
