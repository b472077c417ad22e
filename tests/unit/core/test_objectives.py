"""From levels to the one number, or few, that a trial is judged by."""

from typing import Any

import pytest

from pipeline.core import objectives
from pipeline.core.errors import BenchFailed, ConfigError
from pipeline.core.metric_names import known_metrics
from pipeline.core.record import Level, Stats
from pipeline.core.schema import Config
from support.records import make_config, make_failure, make_metrics, make_record


def level(users: int = 1, **changes: Any) -> Level:
    return Level(scenario="D(64,16)", concurrency=users, status="ok", metrics=make_metrics(**changes))


def config(
    objective: str | list[str] = "auto",
    *,
    gpus: int = 0,
    usd: float | None = None,
    has_slo: bool = False,
    **limits: float,
) -> Config:
    limits = {"ttft_s": 1.0} if has_slo else limits
    return make_config(
        objective=[objective] if isinstance(objective, str) else objective,
        hardware={"name": "x", "gpu_count": gpus, "usd_per_gpu_hour": usd},
        slo={"name": "x", "attainment": 0.9, "max_error_rate": 0.1, **limits},
    )


COST = "usd_per_million_output_tokens"
SLOW, FAST = level(1, output_tokens_per_s=80.0), level(4, output_tokens_per_s=160.0)
UNUSABLE = level(8, output_tokens_per_s=999.0, is_usable=False, meets_slo=False)
OUTSIDE = level(8, output_tokens_per_s=999.0, meets_slo=False, goodput_requests_per_s=99.0, slo_attainment=0.5)
INSIDE = level(4, goodput_requests_per_s=9.0, slo_attainment=1.0)
BROKEN = Level(scenario="D(64,16)", concurrency=16, status="failed", failure=make_failure())


@pytest.mark.parametrize(
    ("levels", "made", "expected"),
    [
        ([SLOW, FAST], config(), {"output_tokens_per_s_per_gpu": 160.0}),
        ([SLOW, FAST, UNUSABLE, BROKEN], config(), {"output_tokens_per_s_per_gpu": 160.0}),
        ([FAST], config(gpus=4), {"output_tokens_per_s_per_gpu": 40.0}),
        ([FAST], config("output_tokens_per_s", gpus=4), {"output_tokens_per_s": 160.0}),
        ([INSIDE, OUTSIDE], config(has_slo=True), {"goodput_requests_per_s_per_gpu": 9.0}),
        ([INSIDE, OUTSIDE], config("output_tokens_per_s", has_slo=True), {"output_tokens_per_s": 100.0}),
        ([OUTSIDE], config(has_slo=True), {"goodput_requests_per_s_per_gpu": 0.0}),
        ([SLOW, level(2, ttft=Stats(mean=1, p50=1, p90=1, p95=0.1, p99=1))], config("ttft_p95_s"), {"ttft_p95_s": 0.1}),
        ([FAST], config(["requests_per_s", "e2e_p50_s"]), {"requests_per_s": 10.0, "e2e_p50_s": 0.2}),
        ([SLOW, FAST], config(COST, gpus=4, usd=3.6), {COST: 25.0}),
        ([FAST], config(COST, usd=3.6), {COST: 6.25}),
        ([INSIDE, OUTSIDE], config(COST, usd=3.6, has_slo=True), {COST: 10.0}),
    ],
    ids=[
        "throughput-without-slo", "unusable-levels-do-not-count", "per-gpu", "not-per-gpu", "goodput-with-slo",
        "throughput-inside-the-slo", "zero-when-none-meets-it", "least-latency", "several",
        "cost-of-all-gpus", "cost-of-a-host", "cost-inside-the-slo",
    ],
)  # fmt: skip
def test_the_objective_is_the_best_level_that_counts(
    levels: list[Level], made: Config, expected: dict[str, float]
) -> None:
    assert objectives.of(levels, made) == pytest.approx(expected)


def quick(seconds: float) -> Stats:
    return Stats(mean=seconds, p50=seconds, p90=seconds, p95=seconds, p99=seconds)


BOTH = ["output_tokens_per_s", "ttft_p95_s"]
BUSY = level(8, output_tokens_per_s=200.0, ttft=quick(1.0))
IDLE = level(1, output_tokens_per_s=50.0, ttft=quick(0.1))
CUT = level(16, output_tokens_per_s=999.0, is_cut=True)


def test_several_objectives_are_those_of_one_level_the_one_with_the_most_volume() -> None:
    assert objectives.of([BUSY, IDLE], config(BOTH)) == {"output_tokens_per_s": 50.0, "ttft_p95_s": 0.1}
    assert objectives.best_level([BUSY, IDLE], config(BOTH)) == IDLE


def test_a_front_is_made_of_levels() -> None:
    record = make_record(config=config(BOTH), levels=(BUSY, IDLE, UNUSABLE, CUT))
    assert objectives.points(record) == {"D(64,16) x8": (200.0, 1.0), "D(64,16) x1": (50.0, 0.1)}


def test_a_cut_level_does_not_count() -> None:
    assert objectives.of([SLOW, CUT], config()) == {"output_tokens_per_s_per_gpu": 80.0}
    with pytest.raises(BenchFailed):
        objectives.of([CUT], config())


@pytest.mark.parametrize(
    ("levels", "made", "words"),
    [
        ([], config(), "No level can be used: "),
        ([BROKEN], config(), "D(64,16) x16: the server ended with code 1"),
        ([UNUSABLE, BROKEN], config(), "D(64,16) x8: outside the SLO | D(64,16) x16: the server ended with code 1"),
        ([OUTSIDE], config("ttft_p95_s", has_slo=True), "D(64,16) x8: outside the SLO"),
        ([level(tpot=None)], config("tpot_p95_s"), "D(64,16) x1: the objective was not measured"),
    ],
    ids=["no-levels", "all-failed", "none-usable", "latency-has-no-zero", "latency-not-measured"],
)
def test_a_trial_without_a_usable_level_fails(levels: list[Level], made: Config, words: str) -> None:
    with pytest.raises(BenchFailed) as caught:
        objectives.of(levels, made)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("levels", "made", "expected"),
    [
        ([SLOW, FAST], config(), FAST),
        ([SLOW, FAST, UNUSABLE, BROKEN], config(), FAST),
        ([level(1), level(2, ttft=Stats(mean=9, p50=9, p90=9, p95=9, p99=9))], config("ttft_p95_s"), level(1)),
        ([INSIDE, OUTSIDE], config(has_slo=True), INSIDE),
        ([OUTSIDE], config(has_slo=True), None),
        ([], config(), None),
    ],
    ids=["most-throughput", "unusable-ones-left-out", "least-latency", "inside-the-slo", "none-inside", "none-at-all"],
)
def test_the_best_level_is_the_one_that_gave_the_objective(
    levels: list[Level], made: Config, expected: Level | None
) -> None:
    assert objectives.best_level(levels, made) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("output_tokens_per_s_per_gpu", True), ("slo_attainment", True), ("ttft_p95_s", False), ("e2e_mean_s", False)],
)
def test_more_is_better_of_throughput_and_less_of_latency(name: str, *, expected: bool) -> None:
    assert objectives.is_maximised(name) is expected


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (config("speed"), "objective=speed: expected one of requests_per_s, "),
        (config(["ttft_p95_s", "ttft_p96_s"]), "objective=ttft_p96_s: expected one of"),
        (config("slo_attainment_per_gpu"), "objective=slo_attainment_per_gpu: expected one of"),
        (config("goodput_requests_per_s"), "objective=goodput_requests_per_s needs an SLO: add slo=interactive"),
        (config(COST, gpus=4), f"objective={COST} needs a price: add hardware.usd_per_gpu_hour=..."),
        (config("slo_attainment"), "objective=slo_attainment needs an SLO"),
        (config(limits={"ttft": 1.0}), "slo.limits.ttft: expected one of ttft_mean_s, "),  # type: ignore[arg-type]
        (config(limits={"requests_per_s": 1.0}), "slo.limits.requests_per_s: expected one of"),  # type: ignore[arg-type]
    ],
    ids=[
        "unknown",
        "second-unknown",
        "no-such-per-gpu",
        "goodput",
        "price",
        "attainment",
        "limit-unknown",
        "limit-no-latency",
    ],
)
def test_a_name_of_no_metric_is_refused(made: Config, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        objectives.check(made)
    assert words in str(caught.value)


def test_what_no_sensor_told_is_no_zero() -> None:
    with pytest.raises(BenchFailed, match="the objective was not measured"):
        objectives.of([level()], config("tokens_per_s_per_watt"))


@pytest.mark.parametrize("name", known_metrics())
def test_every_known_metric_is_accepted(name: str) -> None:
    made = config(name, usd=1.0, has_slo=True)
    objectives.check(made)
    inside = level(
        goodput_requests_per_s=1.0,
        goodput_output_tokens_per_s=1.0,
        slo_attainment=1.0,
        joules_per_output_token=1.0,
        tokens_per_s_per_watt=1.0,
    )
    assert all(objectives.of([inside], made).values())
