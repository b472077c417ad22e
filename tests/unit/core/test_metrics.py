"""From requests to numbers, and from numbers to the verdict on a trial."""

from typing import Any

import numpy as np
import pytest

from pipeline.core import metrics
from pipeline.core.errors import BenchFailed
from pipeline.core.metric_names import known_metrics
from pipeline.core.metrics import Measurement, Request, measure
from pipeline.core.record import LevelMetrics, Stats
from pipeline.core.schema import Slo
from support.records import make_metrics

NO_SLO = Slo(name="none", attainment=0.9, max_error_rate=0.1)


def slo(**limits: Any) -> Slo:
    return Slo(**{"name": "x", "attainment": 0.9, "max_error_rate": 0.5, **limits})


def request(**changes: Any) -> Request:
    return Request(**{"ttft_s": 0.2, "tpot_s": 0.02, "e2e_s": 0.5, "input_tokens": 48, "output_tokens": 16, **changes})


def failed(code: int = 503) -> Request:
    return Request(ttft_s=None, tpot_s=None, e2e_s=None, input_tokens=0, output_tokens=0, error_code=code)


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
        ([failed()] * 3, "0 of 3 requests answered, HTTP 503 (3)"),
        ([failed(503), failed(500), failed(503)], "0 of 3 requests answered, HTTP 500 (1), HTTP 503 (2)"),
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


def test_a_time_that_could_not_be_taken_is_not_over_its_limit() -> None:
    assert measured(request(tpot_s=None), limits=slo(tpot_s=0.01)).slo_attainment == 1.0


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
    ("changes", "words"),
    [
        ({"output_tokens_mean": 16.0}, ()),
        ({"output_tokens_mean": 14.4}, ()),
        ({"output_tokens_mean": 14.3}, ("the server stopped early: 14.3 of 16 output tokens per request",)),
        ({"output_tokens_asked_mean": None, "output_tokens_mean": 1.0}, ()),
        ({"num_errors": 2}, ("2 of 8 requests failed",)),
    ],
    ids=["all-well", "at-the-limit", "short", "not-asked", "errors"],
)
def test_the_reader_is_warned(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    assert metrics.warnings_for(make_metrics(**changes)) == words


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
        "usd_per_million_output_tokens",
    }  # fmt: skip
