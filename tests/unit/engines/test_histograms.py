"""An engine's own latency histograms, read as Prometheus text."""

import pytest

from fakes import Answer, FakeEngine
from pipeline.core.engine_times import Reading, Sum
from pipeline.core.schema_engine import Tells
from pipeline.engines import histograms

TELLS = Tells(metrics_path="/metrics", ttft=("vllm:ttft_seconds",), tpot=("vllm:new_seconds", "vllm:old_seconds"))
# As vllm 0.32.0 prints it: labels, several engines, a time stamp of creation beside each histogram
TEXT = """\
# HELP vllm:ttft_seconds Histogram of time to first token in seconds.
# TYPE vllm:ttft_seconds histogram
vllm:ttft_seconds_bucket{engine="0",le="0.001",model_name="m"} 0.0
vllm:ttft_seconds_bucket{engine="0",le="+Inf",model_name="m"} 29.0
vllm:ttft_seconds_count{engine="0",model_name="m"} 29.0
vllm:ttft_seconds_sum{engine="0",model_name="m"} 0.783
vllm:ttft_seconds_count{engine="1",model_name="m"} 1.0
vllm:ttft_seconds_sum{engine="1",model_name="m"} 1.5e-02
vllm:ttft_seconds_created{engine="0",model_name="m"} 1.7960043e+09
vllm:old_seconds_count 464.0
vllm:old_seconds_sum 4.25
"""
READ = Reading(ttft=Sum(seconds=0.798, count=30), tpot=Sum(seconds=4.25, count=464))


def test_sums_and_counts_are_those_of_all_engines_of_the_server() -> None:
    with FakeEngine(**{"GET /metrics": (200, TEXT)}) as server:
        assert histograms.read(server.url, TELLS) == READ


def test_of_several_names_the_first_that_is_there_counts() -> None:
    both = TEXT + "vllm:new_seconds_count 29.0\nvllm:new_seconds_sum 0.29\n"
    with FakeEngine(**{"GET /metrics": (200, both)}) as server:
        seen = histograms.read(server.url, TELLS)
    assert seen is not None
    assert seen.tpot == Sum(seconds=0.29, count=29)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        ((404, "no such path"), None),
        ((500, ""), None),
        ((200, "vllm:ttft_seconds_sum many"), None),
        ((200, '{"detail": "no text"}'), Reading(ttft=None, tpot=None)),
    ],
    ids=["not-enabled", "an-error", "no-number", "other-text"],
)
def test_what_cannot_be_read_is_none_and_never_an_error(answer: Answer, seen: Reading | None) -> None:
    with FakeEngine(**{"GET /metrics": answer}) as server:
        assert histograms.read(server.url, TELLS) == seen


def test_an_engine_that_has_none_is_not_asked() -> None:
    with FakeEngine(**{"GET /metrics": (200, TEXT)}) as server:
        assert histograms.read(server.url, Tells()) is None
        assert server.asked == []


def test_nobody_there_is_no_error() -> None:
    assert histograms.read("http://127.0.0.1:9", TELLS) is None
