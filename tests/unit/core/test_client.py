"""From which number of users on latencies are the load generator's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.core.client import own_from, told
from pipeline.core.metrics import stats
from pipeline.core.record import Client

QUIET = Client(cpu_share=0.3, lag_p99_s=0.002, lag_max_s=0.01, users=512, workers=1)
TTFT = stats([0.1])


@pytest.mark.parametrize(
    ("client", "users"),
    [
        (QUIET, None),
        (replace(QUIET, cpu_share=0.9), 512),
        (replace(QUIET, cpu_share=1.0), 460),
        (replace(QUIET, lag_p99_s=0.05), 256),
        (replace(QUIET, lag_p99_s=0.05, unsure_p99_s=0.0), None),  # read late, but the kernel knew when it came
        (replace(QUIET, lag_p99_s=0.05, cpu_share=0.99), 256),  # the limit that was passed first
        (replace(QUIET, lag_p99_s=100.0), 1),
    ],
)
def test_latencies_are_its_own_from_where_a_limit_is_passed(client: Client, users: int | None) -> None:
    assert own_from(client, TTFT) == users


def test_the_reader_is_told_the_rule_and_the_number() -> None:
    (words,) = told(replace(QUIET, cpu_share=1.0), TTFT)
    since = "(by this measure from about 460 users on)"
    assert words == f"the load generator used 100% of its core: latencies are partly its own {since}"
    assert [*told(QUIET, TTFT)] == []
    assert [*told(QUIET, None)] == []


def test_time_that_users_wait_for_it_is_throughput_that_it_costs() -> None:
    (words,) = told(replace(QUIET, idle_share=0.12), TTFT)
    assert words.startswith("users waited 12% of the time for the load generator")


def test_requests_that_were_sent_twice_are_told() -> None:
    (words,) = told(replace(QUIET, resent=3), TTFT)
    assert words.startswith("3 requests were sent twice")
