"""Traffic and addresses of the right kind with which nothing could run."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline.config import ranges
from pipeline.core.errors import ConfigError
from support.records import make_config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scenarios": ("D(16,0)",)}, "D(16,0): a request needs at least 1 token of input and 1 of output"),
        ({"scenarios": ("D(0,16)",)}, "at least 1 token"),
        ({"scenarios": ("N(0,0)/(10,0)",)}, "at least 1 token"),
        ({"scenarios": ("U(0,0)",)}, "at least 1 token"),
        ({"scenarios": ("U(100,10)/(10,20)",)}, "input tokens from 100 to 10: the smaller number comes first"),
        ({"scenarios": ("U(1,10)/(20,10)",)}, "output tokens from 20 to 10: the smaller number comes first"),
        ({"scenarios": ("D(99999999999999999999,16)",)}, "at most 1000000000 tokens are taken"),
        ({"scenarios": ("D(16,16)", "D(8,8)", "D(016,16)")}, "D(016,16) is there twice"),
        ({"concurrencies": (1, 4, 1)}, "traffic.concurrencies: 1 is there twice"),
    ],
    ids=["no-output", "no-input", "no-mean", "no-top", "input", "output", "too-long", "scenario", "users"],
)
def test_traffic_that_cannot_be_sent_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ranges.check_traffic(replace(make_config().traffic, **changes))
    assert words in str(caught.value)


@pytest.mark.parametrize("scenario", ["D(1,1)", "N(300,0)/(480,240)", "N(10,100)/(10,200)", "U(50,9)", "U(5,5)/(2,9)"])
def test_traffic_that_can_be_sent_is_taken(scenario: str) -> None:
    traffic = replace(make_config().traffic, scenarios=(scenario,))
    ranges.check_traffic(traffic)
    assert traffic.scenarios == (scenario,)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("", "is empty: set it to an address of this machine"),
        ("::1", "IPv6 is not supported; use 127.0.0.1"),
        ("[::]", "IPv6 is not supported"),
        ("fe80::1%eth0", "IPv6 is not supported"),
        ("127.0.0.1:8000", "leave the port out: each trial is given a free one"),
        ("http://here", "expected an IPv4 address or a name"),
        ("my host", "expected an IPv4 address or a name"),
    ],
)
def test_an_address_that_cannot_be_served_on_is_refused(host: str, words: str) -> None:
    config = make_config()
    with pytest.raises(ConfigError) as caught:
        ranges.check_address(replace(config, backend=replace(config.backend, host=host)))
    assert words in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", "node-1.example.org"])
def test_an_address_of_ipv4_or_a_name_is_taken(host: str) -> None:
    config = make_config()
    asked = replace(config, backend=replace(config.backend, host=host))
    ranges.check_address(asked)
    assert asked.backend.host == host


@pytest.mark.parametrize("words", [("--port", "80"), ("--port=80",)], ids=["two-words", "one-word"])
def test_a_port_of_the_users_own_is_refused(words: tuple[str, ...]) -> None:
    config = make_config()
    command = ("engine", "--host", "{host}", "--port", "{port}")
    runtime = replace(config.runtime, command=command, extra_args=words)
    with pytest.raises(ConfigError, match="leave --port out: each trial is given a free port"):
        ranges.check_address(replace(config, runtime=runtime))
