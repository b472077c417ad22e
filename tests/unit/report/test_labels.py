"""What people read instead of the metrics' names."""

import pytest

from pipeline.core.metric_names import known_metrics
from pipeline.report import labels
from support.records import make_config


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("output_tokens_per_s_per_gpu", "output tokens/s per GPU"),
        ("goodput_requests_per_s", "goodput: requests/s"),
        ("ttft_p95_s", "TTFT p95 (s)"),
        ("e2e_mean_s", "E2E latency mean (s)"),
        ("usd_per_million_output_tokens", "US dollars per million output tokens"),
    ],
)
def test_a_metric_has_words_and_a_unit(name: str, words: str) -> None:
    assert labels.metric(name) == words


def test_no_metric_is_left_as_it_is_typed() -> None:
    assert not [name for name in known_metrics() if "_" in labels.metric(name)]


def test_without_a_gpu_nothing_is_per_gpu() -> None:
    assert labels.metric("output_tokens_per_s_per_gpu", make_config()) == "output tokens/s"


def test_limits_are_told_with_their_units() -> None:
    slo = {"name": "x", "ttft_s": 1, "tpot_s": 0.1, "attainment": 0.9, "max_error_rate": 0, "limits": {"e2e_p99_s": 30}}
    told = labels.slo(make_config(slo=slo).slo)
    assert told == "TTFT ≤ 1 s, TPOT ≤ 0.1 s for 90% of the requests and E2E latency p99 ≤ 30 s"
