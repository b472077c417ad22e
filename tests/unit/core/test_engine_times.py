"""What the engine's own clock says against what the load generator measured."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.engine_times import WHY, Reading, Sum, between, compared
from pipeline.core.record import EngineTimes, Level, Stats
from support.records import make_levels


def level(ttft: float | None = 0.1, tpot: float | None = 0.01, **changes: Any) -> Level:
    """Eight requests, all answered, with these means."""

    def stats(mean: float | None) -> Stats | None:
        return None if mean is None else Stats(mean=mean, p50=mean, p90=mean, p95=mean, p99=mean)

    made = make_levels()[0]
    assert made.metrics is not None
    given = {"ttft": stats(ttft), "tpot": stats(tpot), "num_begun": 8, "fates": {"good": 6, "late": 2}, **changes}
    return replace(made, metrics=replace(made.metrics, **given), warnings=())


def engine(ttft: float | None = 0.1, tpot: float | None = 0.01, requests: int = 8) -> EngineTimes:
    return EngineTimes(requests=requests, ttft_mean_s=ttft, tpot_mean_s=tpot)


def test_a_mean_is_what_came_between_two_readings() -> None:
    before = Reading(ttft=Sum(seconds=1.0, count=10), tpot=Sum(seconds=0.5, count=100))
    after = Reading(ttft=Sum(seconds=3.0, count=20), tpot=Sum(seconds=1.5, count=200))
    assert between(before, after) == EngineTimes(requests=10, ttft_mean_s=0.2, tpot_mean_s=0.01)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, Reading(ttft=None, tpot=None)),
        (Reading(ttft=None, tpot=None), None),
        (Reading(ttft=None, tpot=None), Reading(ttft=None, tpot=None)),
        (Reading(ttft=Sum(seconds=1.0, count=9), tpot=None), Reading(ttft=Sum(seconds=1.0, count=9), tpot=None)),
        (Reading(ttft=Sum(seconds=9.0, count=9), tpot=None), Reading(ttft=Sum(seconds=1.0, count=1), tpot=None)),
    ],
    ids=["no-first", "no-second", "no-histograms", "no-request", "started-anew"],
)
def test_without_both_readings_there_are_no_times(before: Reading | None, after: Reading | None) -> None:
    assert between(before, after) is None


@pytest.mark.parametrize(
    ("seen", "by_engine"),
    [
        (level(), engine()),
        (level(ttft=0.119), engine()),
        (level(ttft=0.024), engine(ttft=0.005)),
        (level(tpot=0.0115), engine(tpot=0.0100)),
        (level(tpot=0.0025), engine(tpot=0.0010)),
        (level(tpot=None, output_tokens_mean=1.0), engine(tpot=0.01)),
        (level(), engine(ttft=None, tpot=None)),
    ],
    ids=["equal", "a-fifth", "short-ttft", "small-tpot", "shorter-than-a-time-slice", "single-tokens", "no-times"],
)
def test_small_differences_are_kept_and_not_told(seen: Level, by_engine: EngineTimes) -> None:
    assert compared(seen, by_engine) == replace(seen, engine=by_engine)


@pytest.mark.parametrize(
    ("seen", "by_engine", "words"),
    [
        (level(ttft=0.186), engine(ttft=0.027), "mean TTFT 186 ms at the load generator, 27 ms in the engine"),
        (level(tpot=0.0012), engine(tpot=0.005), "mean TPOT 1.2 ms at the load generator, 5 ms in the engine"),
        (level(tpot=0.02), engine(tpot=0.012), "mean TPOT 20 ms at the load generator, 12 ms in the engine"),
        (level(tpot=None), engine(tpot=0.005), "mean TPOT unknown at the load generator, 5 ms in the engine"),
    ],
    ids=["ttft-late", "tpot-flattered", "tpot-late", "tpot-unknown"],
)
def test_a_disagreement_is_said_with_the_level(seen: Level, by_engine: EngineTimes, words: str) -> None:
    found = compared(seen, by_engine)
    assert found.engine == replace(by_engine, is_apart=True)
    assert found.warnings == (f"latencies differ: {words}. {WHY}",)


@pytest.mark.parametrize("requests", [0, 7, 9], ids=["none", "fewer", "somebody-elses-too"])
def test_nothing_is_said_where_the_engine_counted_other_requests(requests: int) -> None:
    by_engine = engine(ttft=0.001, requests=requests)
    assert compared(level(), by_engine) == replace(level(), engine=by_engine)


def test_requests_that_failed_after_their_first_token_may_be_among_them() -> None:
    seen = level(ttft=0.5, num_begun=10, fates={"good": 8, "failed": 2})
    assert compared(seen, engine(requests=9)).warnings


def test_a_failed_level_only_keeps_them() -> None:
    failed = replace(level(), status="failed", metrics=None)
    assert compared(failed, engine()) == replace(failed, engine=engine())
    assert compared(failed, None) == failed
