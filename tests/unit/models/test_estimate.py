"""The rough time of a trial: which way it moves, and where it ends."""

from typing import Any

import pytest

from pipeline.core import capacity
from pipeline.core.schema import Config
from pipeline.models import estimate
from support.groups import group, runtime
from support.records import CONFIG, make_config


def config(model: str = "llama31_8b", /, *, line: str = "D(1000,100)", users: int = 8, **more: Any) -> Config:
    traffic = {"scenarios": [line], "concurrencies": [users], "min_requests": 64, "requests_per_user": 8}
    made = {
        "runtime": runtime("sglang", startup_s=40, health={"path": "/health", "timeout_s": 1200, "interval_s": 1}),
        "model": group("model", model),
        "hardware": group("hardware", "h100"),
        "traffic": {**CONFIG["traffic"], **traffic, "max_time_per_level_s": 600},
        "knobs": {},
    }
    return make_config(**{**made, **more})


def level(made: Config) -> float:
    levels = estimate.estimate(made).levels
    assert levels is not None
    return levels[0]


WARMUP_S, DRAIN_S = CONFIG["timeouts"]["warmup_s"], 10
SLOWER = {**group("hardware", "h100"), "memory_bandwidth_gb_s": 300}
WEAKER = {**group("hardware", "h100"), "bf16_tflops": 100}


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (config(), config(line="D(1000,200)")),
        (config(), config(line="D(4000,100)")),
        (config(), config(hardware=SLOWER)),
        (config(), config(hardware=WEAKER)),
        (config(), config("llama33_70b")),
        (config("llama33_70b", knobs={"tp_size": 4}), config("llama33_70b")),
        (config(knobs={"dp_size": 4}), config()),
        (config("qwen3_30b_a3b", users=1), config("llama33_70b", users=1)),
        (config(users=64), config(users=128)),
    ],
    ids=[
        "longer-answers", "longer-prompts", "less-bandwidth", "less-arithmetic", "a-larger-model", "fewer-gpus",
        "fewer-replicas", "dense-against-experts", "more-users-send-more-requests",
    ],
)  # fmt: skip
def test_a_level_takes_longer_with(less: Config, more: Config) -> None:
    assert level(less) < level(more)


def test_the_same_requests_take_less_time_when_more_are_sent_at_once() -> None:
    assert level(config(users=1)) > level(config(users=4)) > level(config(users=8))


def test_a_level_is_capped() -> None:
    assert level(config("llama33_70b", line="D(8000,4000)", users=256)) == 600


def test_the_whole_is_loading_and_every_level() -> None:
    traffic = {**CONFIG["traffic"], "scenarios": ["D(64,16)", "D(128,16)"], "concurrencies": [1, 2, 4]}
    found = estimate.estimate(config(traffic=traffic))
    assert found.load_s == pytest.approx(40 + 14.96 / estimate.LOAD_GIB_PER_S)
    assert found.levels is not None
    assert len(found.levels) == 6
    assert found.total_s == pytest.approx((found.load_s or 0) + sum(found.levels))
    assert found.at_most_s == 1200 + WARMUP_S + 6 * (10 + DRAIN_S)


def test_loading_fits_the_health_check() -> None:
    health = {"path": "/health", "timeout_s": 60, "interval_s": 1}
    assert estimate.estimate(config("deepseek_v3", runtime=runtime("sglang", health=health))).load_s == 60


@pytest.mark.parametrize(
    ("changes", "load_s"),
    [
        ({"hardware": group("hardware", "cpu")}, pytest.approx(40 + 14.96 / estimate.LOAD_GIB_PER_S)),
        ({"model": {**group("model", "llama31_8b"), "arch": None}}, None),
    ],
    ids=["no-bandwidth", "no-architecture"],
)
def test_only_the_most_is_known_without_the_numbers(changes: dict[str, Any], load_s: float | None) -> None:
    found = estimate.estimate(config(**changes))
    assert (found.levels, found.total_s) == (None, None)
    assert found.load_s == load_s
    assert found.at_most_s == 1200 + WARMUP_S + 600 + DRAIN_S


def test_what_warms_the_server_and_its_cache_is_part_of_the_most_that_it_takes() -> None:
    traffic = {**CONFIG["traffic"], "concurrencies": [1, 2], "warmup_requests": 0}
    bare = estimate.estimate(config(traffic=traffic)).at_most_s
    assert bare == 1200 + 2 * (10 + DRAIN_S)
    warm = {**traffic, "warmup_requests": 1, "cache": "warm", "prefix_tokens": 8}
    assert estimate.estimate(config(traffic=warm)).at_most_s == bare + WARMUP_S + 2 * WARMUP_S


def test_a_capacity_takes_as_many_levels_as_it_may_try() -> None:
    traffic = {**CONFIG["traffic"], "levels": "capacity", "max_concurrency": 64, "scenarios": ["D(64,16)"]}
    made = config(traffic=traffic)
    assert estimate.estimate(made).at_most_s == 1200 + WARMUP_S + capacity.most_probes(made.traffic) * (10 + DRAIN_S)


def test_a_step_of_one_user_reads_the_weights_once() -> None:
    made = config(users=1)
    assert made.model.arch is not None
    step = estimate.step_s(made.model.arch, made.hardware, 1, 1, 0)
    assert step == pytest.approx(estimate.STEP_S + 14.96 * 2**30 / 3350e9 / estimate.DECODE_EFFICIENCY)
