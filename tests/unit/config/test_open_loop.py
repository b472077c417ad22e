"""Rates: settings that contradict each other are refused before anything is deployed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from pipeline.bench import command
from pipeline.config import command_line, open_loop, planning
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.core.schema_traffic import Trace, Traffic
from support.records import make_config

POISSON = {"arrival": "poisson", "rates": (2.0, 4.0)}
TRACE = {"arrival": "trace", "trace": Path("a.txt")}
FOUND = Trace(sha256="0" * 64, arrivals=90, rate=3.0)


def traffic(**changes: Any) -> Traffic:
    return replace(make_config().traffic, **changes)


def composed(*words: str) -> Config:
    with initialize_config_dir(str(CONF)):
        return command_line.to_config(command_line.composed(words))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rates": (1.0,)}, "traffic.rates needs an open loop"),
        ({"trace": Path("a.txt")}, "goes with traffic.arrival=trace"),
        ({"max_in_flight": 4}, "traffic.max_in_flight is for an open loop"),
        ({"arrival": "poisson"}, "traffic.rates has no value"),
        ({"arrival": "constant"}, "traffic.rates has no value"),
        ({"arrival": "trace"}, "traffic.trace has no value"),
        ({**POISSON, "trace": Path("a.txt")}, "goes with traffic.arrival=trace, not poisson"),
        ({**POISSON, "rates": (4.0, 2.0)}, "traffic.rates=[4,2]: 2 comes after 4. Expected rising rates"),
        ({**POISSON, "rates": (2.0, 2.0)}, "Expected rising rates"),
        ({**POISSON, "rates": (2.0, 2.0000001)}, "2 is there twice, to six digits"),
        ({**POISSON, "recorded": FOUND}, "it cannot be set"),
        ({**TRACE, "levels": "capacity"}, "traffic.levels=capacity needs traffic.arrival=constant or poisson"),
        ({**POISSON, "levels": "capacity", "max_rate": 3.0}, "4 is more than traffic.max_rate=3"),
        ({**POISSON, "levels": "capacity", "max_rate": 3.0, "rate_step": 5.0}, "is less than traffic.rate_step"),
        ({**POISSON, "levels": "capacity", "rate_step": 1e-9}, "traffic.rate_step=1e-09: expected 1e-06 or more"),
        ({**POISSON, "levels": "capacity", "rate_step": 1e-4}, "makes more than 2000000 rates up to traffic.max_rate"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_loop.check(traffic(**changes))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [{}, POISSON, TRACE, {**TRACE, "rates": (1.0, 2.0)}, {**POISSON, "max_in_flight": 8, "levels": "capacity"}],
)
def test_settings_that_go_together_are_taken(changes: dict[str, Any]) -> None:
    open_loop.check(traffic(**changes))


def test_users_and_rates_in_one_command_are_refused() -> None:
    given = OverridesParser.create().parse_overrides(["traffic.concurrencies=[1]", "traffic.rates=[1]"])
    with pytest.raises(ConfigError, match=r"Set one of traffic\.concurrencies and traffic\.rates"):
        open_loop.check_words(given)
    open_loop.check_words(given[:1])


@pytest.mark.parametrize(
    ("bench", "instead"),
    [
        ({"runner": "cli"}, "Set bench.runner=resident"),
        ({"location": "cluster"}, "Set bench.location=here"),
        ({"runner": "aiperf", "location": "cluster"}, "set bench.location=here"),
        ({"runner": "aiperf"}, "traffic.max_in_flight cannot be kept with bench.runner=aiperf"),
    ],
)
def test_a_load_generator_that_cannot_do_it_is_refused(bench: dict[str, Any], instead: str) -> None:
    config = replace(make_config(), traffic=traffic(**POISSON, max_in_flight=4))
    open_loop.check_runner(config)
    with pytest.raises(ConfigError) as caught:
        open_loop.check_runner(replace(config, bench=replace(config.bench, **bench)))
    assert instead in str(caught.value)


def test_levels_that_cannot_be_sent_in_their_time_are_refused() -> None:
    slow = traffic(arrival="poisson", rates=(0.01,), min_requests=10, max_time_per_level_s=60.0)
    with pytest.raises(ConfigError, match=r"10 requests at 0\.01 requests/s take 1000 s"):
        open_loop.check_time(slow)
    with pytest.raises(ConfigError, match=r"10 requests at 1e-300 requests/s take 1e\+301 s"):
        open_loop.check_time(replace(slow, rates=(1e-300,)))
    with pytest.raises(ConfigError, match="at most 1000000 are sent"):
        open_loop.check_time(replace(slow, rates=(1e6, 1e308)))
    with pytest.raises(ConfigError, match=r"Raise it, or lower traffic\.arrivals_s"):
        open_loop.check_time(replace(slow, rates=(1.0,), max_time_per_level_s=15.0))
    long = traffic(**TRACE, recorded=replace(FOUND, arrivals=900), max_time_per_level_s=60.0)
    with pytest.raises(ConfigError, match="lower the number of arrivals"):
        open_loop.check_time(long)
    open_loop.check_time(replace(slow, rates=(1.0,)))


def test_a_rate_is_a_level_with_its_own_name_requests_and_times() -> None:
    config = replace(make_config(), traffic=traffic(**POISSON, arrivals_s=30.0, min_requests=70))
    levels = [*planning.levels(config)]
    assert [level.name for level in levels] == ["D(64,16) at 2 requests/s", "D(64,16) at 4 requests/s"]
    assert [level.max_requests for level in levels] == [70, 120]
    assert len({level.seed for level in levels}) == 2
    times = command.schedule(config.traffic, levels[1])
    assert len(times) == 120
    assert times[-1] == pytest.approx(119 / 4)
    assert times == command.schedule(config.traffic, [*planning.levels(config)][1])


def test_a_trace_has_its_own_rate_or_those_that_are_given(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("0\n1\n4\n")
    words = ("traffic=smoke", "traffic.arrival=trace", f"traffic.trace={path}")
    (own,) = planning.levels(config := composed(*words))
    assert (own.name, own.max_requests) == ("D(48,16) at 0.5 requests/s", 3)
    assert command.schedule(config.traffic, own) == (0.0, 1.0, 4.0)
    (faster,) = planning.levels(config := composed(*words, "traffic.rates=[2]"))
    assert command.schedule(config.traffic, faster) == (0.0, 0.25, 1.0)
    assert config.traffic.identity.trace is None


def test_users_have_no_schedule() -> None:
    config = make_config()
    (level, *_) = planning.levels(config)
    assert command.schedule(config.traffic, level) == ()
    assert config.traffic.demands == config.traffic.concurrencies


CAPACITY = {**POISSON, "levels": "capacity"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_rate": 50.0}, "traffic.max_rate=50 makes no difference here: it goes with traffic.levels=capacity"),
        ({"max_concurrency": 8}, "traffic.max_concurrency=8 makes no difference here: it goes with traffic.levels=cap"),
        ({"precision": 0.1}, "traffic.precision=0.1 makes no difference here: it goes with traffic.levels=capacity"),
        ({"arrivals_s": 9.0}, "it goes with traffic.rates and traffic.arrival=constant or poisson"),
        ({**TRACE, "arrivals_s": 9.0}, "traffic.arrivals_s=9 makes no difference here"),
        ({"levels": "capacity", "max_rate": 50.0}, "it goes with traffic.rates; users have traffic.max_concurrency"),
        ({**CAPACITY, "max_concurrency": 8}, "it goes with traffic.concurrencies; rates have traffic.max_rate"),
        (
            {**CAPACITY, "rates": (0.26,)},
            "tries nothing else: the first is 0.3 requests/s",
        ),
        ({**CAPACITY, "rates": (2.0, 4.04), "order": "busiest_first"}, "4.04 is no multiple of traffic.rate_step=0.1"),
    ],
)
def test_what_makes_another_difference_than_it_says_is_told(changes: dict[str, Any], words: str) -> None:
    (told,) = open_loop.told(traffic(**changes))
    assert words in told


@pytest.mark.parametrize(
    "changes",
    [
        {},
        POISSON,
        TRACE,
        {"levels": "capacity", "max_concurrency": 8, "precision": 0.1},
        {**CAPACITY, "max_rate": 50.0},
    ],
)
def test_nothing_is_told_of_what_is_read(changes: dict[str, Any]) -> None:
    assert [*open_loop.told(traffic(**changes))] == []


def test_it_is_told_before_anything_starts_but_not_of_a_sweep_that_reads_it_somewhere() -> None:
    given = ["dry_run=true", "traffic.max_concurrency=9", "n_threads=1"]
    (told,) = command_line.check(given, is_sweep=False).warnings
    assert told.startswith("traffic.max_concurrency=9 makes no difference here")
    assert command_line.check([*given, "traffic.levels=given,capacity"], is_sweep=True).warnings == ()
