"""How many users a server can have: which numbers are tried, and what is found."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.core import capacity, objectives
from pipeline.core.arrivals import Arrivals
from pipeline.core.errors import ConfigError
from pipeline.core.record import Level
from pipeline.core.schema import Config
from support.records import CONFIG, make_config, make_metrics

SLO = {"name": "x", "ttft_s": 1.0, "attainment": 0.9, "max_error_rate": 0.1}
REQUESTS = 100_000  # so many that a share is no matter of luck


def config(*, has_slo: bool = True, **traffic: Any) -> Config:
    wanted = {**CONFIG["traffic"], "levels": "capacity", "concurrencies": [1], **traffic}
    return make_config(traffic=wanted, objective=["auto"], **({"slo": SLO} if has_slo else {}))


Server = Callable[[int], Level]


def inside_up_to(limit: int, *, requests: int = REQUESTS, at_limit: float = 1.0, beyond: float = 0.5) -> Server:
    """A server on which the SLO holds for that many users."""

    def level(users: int) -> Level:
        share = 1.0 if users < limit else at_limit if users == limit else beyond
        seen = make_metrics(
            num_requests=requests,
            slo_attainment=share,
            meets_slo=share >= 0.9,
            goodput_requests_per_s=float(users),
        )
        return Level(scenario="D(64,16)", concurrency=users, status="ok", metrics=seen)

    return level


def full_at(limit: int, *, seconds: float = 2.0) -> Server:
    """A server whose throughput grows up to that many users; then they wait for each other."""

    def level(users: int) -> Level:
        tokens = 16 * min(users, limit) / seconds
        waits = seconds * max(1.0, users / limit)
        seen = make_metrics(output_tokens_per_s=tokens)
        assert seen.e2e is not None
        return Level(
            scenario="D(64,16)",
            concurrency=users,
            status="ok",
            metrics=replace(seen, e2e=replace(seen.e2e, mean=waits)),
        )

    return level


def find(server: Server, meant: Config, best: str | None = None) -> list[Level]:
    """Every level that is measured until the capacity is known."""
    done: list[Level] = []
    traffic, slo = meant.traffic, meant.slo
    users: int | None = traffic.steps(capacity.start(traffic, "D(64,16)", best))
    while users is not None:
        done.append(server(users))
        users = capacity.following([capacity.probe(one, traffic, slo) for one in done], traffic, slo)
    return done


def tried(done: list[Level]) -> list[int]:
    return [level.concurrency for level in done]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 37, 64, 100, 511, 1023, 1024])
@pytest.mark.parametrize("best", [None, "D(64,16) x32", "D(8,4) x9"])
def test_the_most_users_are_found_within_the_precision(limit: int, best: str | None) -> None:
    meant = config(precision=0.05)
    done = find(inside_up_to(limit), meant, best)
    (found,) = capacity.of(done, meant)
    assert limit / 1.05 - 1 <= found.users <= limit
    assert found.low == found.users
    assert found.high is None if limit == 1024 else limit < (found.high or 0) <= max(limit + 1, 1.06 * limit)
    assert len(done) == len(set(tried(done))) <= capacity.most_probes(meant.traffic)
    assert found.probes == tuple(tried(done))


def test_they_are_doubled_then_halved_between() -> None:
    assert tried(find(inside_up_to(37), config())) == [1, 2, 4, 8, 16, 32, 64, 45, 38, 35, 36, 37]


def test_the_search_begins_where_the_best_trial_ended() -> None:
    done = find(inside_up_to(37), config(), "D(64,16) x36")
    assert tried(done)[:3] == [36, 72, 51]
    assert len(done) < len(find(inside_up_to(37), config()))


def test_a_server_that_nobody_may_use_has_no_capacity() -> None:
    meant = config()
    done = find(inside_up_to(0), meant, "D(64,16) x8")
    assert tried(done) == [8, 4, 2, 1]
    (found,) = capacity.of(done, meant)
    assert (found.users, found.low, found.high) == (0, 0, 1)
    assert objectives.of(done, meant) == {"goodput_requests_per_s_per_gpu": 0.0}


def test_levels_that_luck_decides_are_not_told_apart_any_further() -> None:
    """Of twenty requests nobody can tell 90% from 85%: two such neighbours end the search, and widen the interval."""

    def server(users: int) -> Level:
        share = 1.0 if users <= 16 else 0.95 if users <= 32 else 0.85
        seen = make_metrics(num_requests=20, slo_attainment=share, meets_slo=share >= 0.9)
        return Level(scenario="D(64,16)", concurrency=users, status="ok", metrics=seen)

    meant = config()
    done = find(server, meant)
    assert tried(done) == [1, 2, 4, 8, 16, 32, 64]
    (found,) = capacity.of(done, meant)
    assert (found.users, found.low, found.high) == (32, 16, None)
    assert found.interval == "[16, ?]"


def test_a_level_that_failed_or_was_cut_is_too_much() -> None:
    def server(users: int) -> Level:
        level = inside_up_to(64)(users)
        assert level.metrics is not None
        if users == 4:
            return replace(level, status="failed", metrics=None)
        return replace(level, metrics=replace(level.metrics, is_cut=users == 3))

    assert tried(find(server, config())) == [1, 2, 4, 3]


@pytest.mark.parametrize("limit", [1, 6, 24, 100, 700])
@pytest.mark.parametrize("best", [None, "D(64,16) x64"])
def test_without_an_slo_it_is_the_knee(limit: int, best: str | None) -> None:
    meant = config(has_slo=False, precision=0.1)
    done = find(full_at(limit), meant, best)
    (found,) = capacity.of(done, meant)
    assert 0.85 * limit <= found.users <= 1.2 * limit
    assert found.low <= limit <= (found.high or 1024)
    assert len(done) <= capacity.most_probes(meant.traffic)


def test_of_each_scenario_only_the_capacity_gives_the_objective() -> None:
    meant = config(scenarios=["D(64,16)", "D(8,4)"])
    one, other = (
        find(inside_up_to(5), meant),
        [replace(level, scenario="D(8,4)") for level in find(inside_up_to(9), meant)],
    )
    assert [found.users for found in capacity.of([*one, *other], meant)] == [5, 9]
    best = objectives.best_level([*one, *other], meant)
    assert best is not None
    assert best.name == "D(8,4) x9"
    slow_at_last = [
        replace(level, metrics=replace(level.metrics, goodput_requests_per_s=100.0 if level.concurrency == 2 else 1.0))
        for level in one
        if level.metrics
    ]
    best = objectives.best_level(slow_at_last, meant)
    assert best is not None
    assert best.name == "D(64,16) x5"


def test_where_nobody_looks_for_it_there_is_none() -> None:
    meant = make_config(slo=SLO)
    assert capacity.of([inside_up_to(3)(2)], meant) == ()


def test_the_busiest_is_first_where_that_is_asked_and_nothing_is_above_the_limit() -> None:
    meant = config(concurrencies=[4, 16], order="busiest_first", max_concurrency=20)
    assert tried(find(inside_up_to(1000), meant)) == [16, 20]
    assert tried(find(inside_up_to(1000), meant, "D(64,16) x64")) == [20]


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (["ttft_p95_s"], "expected a metric that more users raise"),
        (["slo_attainment"], "expected a metric that more users raise"),
        (["output_tokens_per_s", "ttft_p95_s"], "expected one, because traffic.levels=capacity"),
    ],
)
def test_objectives_that_it_cannot_serve_are_refused(objective: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        objectives.check(replace(config(), objective=tuple(objective)))


RATES: dict[str, Any] = {"arrival": "poisson", "rates": [1.0], "rate_step": 0.5, "max_rate": 256.0}


def keeps_up_to(limit: float) -> Callable[[int], Level]:
    """A server whose queue grows at any higher rate; `steps` of half a request per second."""

    def level(steps: int) -> Level:
        rate = steps * 0.5
        is_saturated = rate > limit
        seen = make_metrics(output_tokens_per_s=16 * rate, is_saturated=is_saturated, meets_slo=not is_saturated)
        return Level(scenario="D(64,16)", concurrency=0, rate=rate, status="ok", metrics=seen)

    return level


@pytest.mark.parametrize("limit", [0.5, 1.0, 7.5, 37.0, 100.0, 256.0])
@pytest.mark.parametrize("has_slo", [True, False], ids=["slo", "no slo"])
def test_the_highest_rate_is_found_that_the_server_keeps_up_with(limit: float, *, has_slo: bool) -> None:
    meant = config(has_slo=has_slo, precision=0.05, **RATES)
    done = find(keeps_up_to(limit), meant)
    (found,) = capacity.of(done, meant)
    assert limit / 1.05 - 0.5 <= found.users <= limit
    assert (found.high is None) == (limit == 256.0)
    assert found.probes == tuple(level.rate for level in done)
    (best,) = capacity.levels_at(done, meant)
    assert best.rate == found.users
    assert objectives.best_level(done, meant) == best or has_slo


def test_a_search_for_a_rate_begins_at_the_best_ones() -> None:
    traffic = config(**RATES).traffic
    assert capacity.start(traffic, "D(64,16)", "D(64,16) at 12.5 requests/s") == 12.5
    assert capacity.start(traffic, "D(64,16)", "D(8,4) at 12.5 requests/s") == 1.0
    assert capacity.most(traffic) == 256.0
    assert capacity.ladder(traffic)[:3] == (0.5, 1.0, 2.0)


def test_a_rate_at_which_a_queue_may_grow_is_unsure() -> None:
    meant = config(has_slo=False, **RATES)
    level = keeps_up_to(8.0)(10)
    told: dict[str, Any] = {"rate": 5.0, "sent_per_s": 5.0, "late_p99_s": 0.0, "late_max_s": 0.0, "in_flight_mean": 9.0}
    steady = Arrivals(**told, in_flight_max=12, in_flight_half=9, in_flight_end=9, keeps_up=True)
    assert level.metrics is not None
    begun = replace(level, metrics=replace(level.metrics, num_begun=100))

    def is_unsure(found: Arrivals) -> bool:
        return capacity.probe(replace(begun, arrivals=found), meant.traffic, meant.slo).is_unsure

    assert not is_unsure(steady)
    assert is_unsure(replace(steady, in_flight_end=12))
    assert is_unsure(replace(steady, keeps_up=None))


def test_no_rate_is_above_the_highest_that_may_be_tried() -> None:
    meant = config(has_slo=False, **{**RATES, "max_rate": 1.4})
    assert [level.rate for level in find(keeps_up_to(9.0), meant)] == [1.0]
    assert capacity.most(meant.traffic) == 1.0
