"""What limits a trial: for each rule a case that it applies to, and one that it just misses."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from pipeline.core.advice import WORDS, Limit
from pipeline.core.places import CONF
from pipeline.core.record import Client, EngineMetrics, GpuUse, HardwareUse, Level, Load, Stats
from pipeline.core.schema import Config, Runtime
from pipeline.core.values import parse
from pipeline.models import bottleneck, roofline
from pipeline.models.bottleneck import Case
from support.records import CONFIG, make_config, make_levels, make_metrics

RELIEF = {
    "queue": {"slots": "raise it"},
    "kv": {"page_size": "try others", "newer": "raise it", "gone": "no such knob"},
    "prefill": {"page_size": "raise it"},
}
SLOTS = {**CONFIG["runtime"]["knobs"]["slots"], "setting": "n_slots"}
KNOBS = {
    **CONFIG["runtime"]["knobs"],
    "slots": SLOTS,
    "newer": {"kind": "int", "flag": "--newer", "help": "x", "versions": ">=2"},
}
RUNTIME = {**CONFIG["runtime"], "version": "1.0", "knobs": KNOBS, "relief": RELIEF}
# 16 GB of weights on a GPU that reads 1,000 GB/s: 62.5 steps a second at most, for however many requests
ARCH = {
    "attention": "gqa", "layers": 32, "hidden_size": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128,
    "parameters_b": 8.0, "active_parameters_b": 8.0, "weights_gib": 16e9 / 2**30, "dtype": "bfloat16",
    "context_tokens": 8192,
}  # fmt: skip
GPU = {"name": "h100", "gpu_count": 1, "memory_bandwidth_gb_s": 1000.0, "bf16_tflops": 100.0}
CPU = CONFIG["hardware"]
MODEL = {**CONFIG["model"], "arch": ARCH}


def config(hardware: dict[str, Any] = GPU, slots: int | None = None) -> Config:
    return make_config(
        runtime=RUNTIME, hardware=hardware, model=MODEL, knobs={"page_size": 32, "slots": slots, "newer": None}
    )


def stats(mean: float) -> Stats:
    return Stats(mean=mean, p50=mean, p90=mean, p95=mean, p99=mean)


def level(
    *,
    speed: float = 100.0,
    ttft: float = 0.2,
    e2e: float = 1.0,
    users: int = 16,
    begun: int = 100,
    client: Client | None = None,
    load: Load | None = None,
    gpu: float | None = None,
    **engine: Any,
) -> Level:
    """A level in which nothing is near a limit, but for what is changed."""
    metrics = make_metrics(
        output_tokens_per_s=speed, ttft=stats(ttft), e2e=stats(e2e), num_begun=begun, input_tokens_per_s=4 * speed
    )
    use = None if gpu is None else HardwareUse(samples=3, gpus=(GpuUse(index=0, utilisation=gpu),))
    told = EngineMetrics(samples=3, **{"running_mean": 16.0, "waiting_mean": 0.0, "waiting_max": 0.0, **engine})
    made = replace(make_levels()[0], concurrency=users, metrics=metrics, client=client, load=load)
    return replace(made, engine_metrics=told, hardware=use)


def busy(cores: int = 4, *, engine: float = 1.0, busiest: float = 0.5) -> Load:
    return Load(cores=cores, others_cores=0.0, is_crowded=False, engine_cores=engine, busiest_cores=busiest)


def client(cpu_share: float = 0.2, lag: float = 0.001) -> Client:
    return Client(cpu_share=cpu_share, lag_p99_s=lag, lag_max_s=lag)


# limit, what it applies to, words of why, and what it just misses
CASES: list[tuple[Limit, Level, str, Level]] = [
    ("kv", level(preemptions=1), "1 preemptions in 100 requests", level(preemptions=0)),
    ("kv", level(preemptions=3, begun=300), "3 preemptions in 300", level(preemptions=2, begun=300)),
    ("kv", level(kv_use_max=0.96, waiting_max=1), "it was 96% full at most", level(kv_use_max=0.95, waiting_max=1)),
    ("kv", level(kv_use_max=1.0, waiting_max=1), "100% full", level(kv_use_max=1.0, waiting_max=0)),
    (
        "queue",
        level(running_mean=4, running_max=4, waiting_mean=12),
        "12.0 of 16.0 requests waited",
        level(running_mean=15, running_max=15, waiting_mean=1),
    ),
    ("client", level(client=client(0.9)), "it used 90% of its core", level(client=client(0.89))),
    ("client", level(client=client(lag=0.051)), "it ran up to 51 ms late (p99)", level(client=client(lag=0.049))),
    # 8e9 parameters twice for 2,500 tokens a second: 40% of 100 TFLOPS
    ("prefill", level(ttft=0.6, speed=500), "60% of a request's time is prefill, at 40%", level(ttft=0.5, speed=500)),
    ("prefill", level(ttft=0.6, speed=260), "at 21% of the GPUs' arithmetic", level(ttft=0.6, speed=240)),
    (
        "prefill",
        level(ttft=0.1, speed=500, prefill_mean_s=0.6, decode_mean_s=0.4),
        "60% of a request's time",
        level(ttft=0.9, speed=500, prefill_mean_s=0.1, decode_mean_s=0.9),
    ),
    (
        "prefill",
        level(ttft=0.8, speed=500, queue_mean_s=0.1),
        "78% of a request's time",
        level(ttft=0.8, speed=500, queue_mean_s=0.7),
    ),
    # 16 requests at once: a step for every 16 tokens, 62.5 steps a second at most
    ("bandwidth", level(speed=520), "decoding takes 52% of the GPUs' bandwidth", level(speed=480)),
    ("bandwidth", level(speed=520), "decoding", level(speed=520, drafted_tokens=9)),
    ("host", level(gpu=0.69), "nothing to do for 31% of the time", level(gpu=0.71)),
    ("host", level(load=busy(busiest=0.95)), "kept 0.9 cores busy, the GPUs at", level(load=busy(busiest=0.85))),
    ("host", level(load=busy(busiest=0.95), speed=300), "busy", level(load=busy(busiest=0.95), speed=520)),
]


@pytest.mark.parametrize(
    ("limit", "hit", "words", "miss"), CASES, ids=[f"{at}-{one[0]}" for at, one in enumerate(CASES)]
)
def test_a_rule_applies_to_its_case_and_not_to_the_next(limit: Limit, hit: Level, words: str, miss: Level) -> None:
    found = bottleneck.advice(config(), [hit], None)
    assert found is not None
    assert found.limit == limit
    assert words in found.because
    other = bottleneck.advice(config(), [miss], None)
    assert other is not None
    assert other.limit != limit


@pytest.mark.parametrize(("engine", "limit"), [(3.3, "cores"), (3.1, "unknown")], ids=["all-of-them", "not-all"])
def test_an_engine_on_the_cpu_is_limited_by_its_cores(engine: float, limit: Limit) -> None:
    found = bottleneck.advice(config(CPU), [level(load=busy(engine=engine))], None)
    assert found is not None
    assert found.limit == limit


def test_every_rule_has_a_case() -> None:
    assert {*bottleneck.RULES, "unknown"} == WORDS.keys()
    assert {limit for limit, *_ in CASES} | {"cores"} == bottleneck.RULES.keys()


def test_of_several_rules_the_engines_own_queue_comes_first() -> None:
    found = bottleneck.advice(
        config(), [level(running_mean=4, running_max=4, waiting_mean=12, client=client(0.99), gpu=0.1)], None
    )
    assert found is not None
    assert found.limit == "queue"


@pytest.mark.parametrize(
    ("slots", "settings", "limit"),
    [
        (5, None, "queue"),
        (16, None, "unknown"),
        (None, {"n_slots": 5}, "queue"),
        (None, {"n_slots": 256}, "unknown"),
        (256, {"n_slots": 4}, "queue"),
        (None, {"other": 256}, "queue"),
    ],
    ids=["asked", "asked-more", "told", "told-more", "told-beats-asked", "unknown"],
)
def test_requests_wait_for_slots_only_where_all_slots_are_taken(
    slots: int | None, settings: dict[str, Any] | None, limit: Limit
) -> None:
    waits = level(running_mean=4, running_max=4, waiting_mean=12)
    found = bottleneck.advice(config(slots=slots), [waits], None, settings)
    assert found is not None
    assert found.limit == limit


def test_where_the_slots_are_not_known_they_are_taken_if_as_many_run_all_the_time() -> None:
    found = [
        bottleneck.advice(config(), [level(running_mean=mean, running_max=8, waiting_mean=12)], None)
        for mean in (6.0, 5.9)
    ]
    assert [one.limit for one in found if one] == ["queue", "unknown"]


def test_without_numbers_nothing_is_claimed() -> None:
    bare = replace(level(), engine_metrics=None)
    found = bottleneck.advice(config(), [bare], None)
    assert found is not None
    assert (found.limit, found.short, found.knobs) == ("unknown", "", {})
    assert found.text == (
        "Advice: what limits D(64,16) x16 does not show: the engine's queue is not known; the engine's processes were "
        "not seen."
    )
    assert bottleneck.advice(config(), [replace(bare, metrics=None)], None) is None


def test_where_nothing_is_at_its_limit_a_crowded_machine_is_named() -> None:
    crowded = replace(busy(engine=0.6), cores=2, others_cores=1.4, is_crowded=True)
    found = bottleneck.advice(config(CPU), [level(load=crowded)], None)
    assert found is not None
    assert (found.limit, found.because.split(";")[0]) == ("unknown", "other processes used 1.4 of 2 cores")


def test_advice_names_the_knobs_that_this_version_has() -> None:
    found = bottleneck.advice(config(), [level(preemptions=50)], None)
    assert found is not None
    assert found.knobs == {"page_size": "try others"}
    assert found.text == (
        "Advice: D(64,16) x16 is limited by KV cache: 50 preemptions in 100 requests. Try page_size (try others)."
    )
    assert found.short == "limited by KV cache; advice: try page_size (try others)"


def test_where_no_knob_helps_that_is_said() -> None:
    found = bottleneck.advice(config(), [level(gpu=0.1)], None)
    assert found is not None
    assert found.short == "limited by host; advice: no knob of this runtime is known to move that"


def test_the_level_is_that_of_the_objective_else_the_busiest() -> None:
    levels = [level(users=2), level(users=8), level(users=4)]
    found = [bottleneck.advice(config(), levels, best) for best in (levels[0], None)]
    assert [one.level for one in found if one] == ["D(64,16) x2", "D(64,16) x8"]


def test_shares_of_the_roofline() -> None:
    case = Case(config(), level(speed=1000.0), make_metrics())
    # 62.5 steps a second of 16 GB and of 16 requests of 72 tokens with 128 KiB each
    assert case.bandwidth == pytest.approx((16e9 + 16 * 72 * 131072) * 62.5 / 1000e9, rel=1e-6)
    assert case.arithmetic == pytest.approx(2 * 8e9 * 5000 / 100e12)
    assert roofline.bandwidth_share(config(CPU), level()) is None
    assert roofline.arithmetic_share(config(CPU), level()) is None


@pytest.mark.parametrize("path", sorted((CONF / "runtime").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_knob_that_could_help_is_one_of_the_runtime(path: Any) -> None:
    data = yaml.safe_load(path.read_text())["runtime"]
    assert {name for some in data.get("relief", {}).values() for name in some} <= data["knobs"].keys()
    is_started = bool(data["command"])  # else nobody knows which engine it is
    assert bool(data.get("relief")) == is_started
    assert bool(parse(Runtime, {**data, "image": None}).relief) == is_started
