"""The sum of weights and KV cache, against published numbers."""

from typing import Any

import pytest
from hydra import initialize_config_dir

from pipeline.config.command_line import composed, to_config
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.core.schema_model import Architecture
from pipeline.core.values import parse
from pipeline.models import memory
from pipeline.models.kv_cache import Knobs, Parallelism
from support.groups import group, runtime
from support.records import CONFIG, make_config


def arch(model: str, **changes: Any) -> Architecture:
    return parse(Architecture, {**group("model", model)["arch"], **changes})


def config(engine: str, model: str, gpu: str, /, *, users: int = 16, **more: Any) -> Config:
    made = {
        "runtime": runtime(engine),
        "model": group("model", model),
        "hardware": group("hardware", gpu),
        "traffic": {
            **CONFIG["traffic"],
            "scenarios": ["D(64,16)", "N(2700,100)/(240,20)"],
            "concurrencies": [1, users],
        },
        "knobs": {},
    }
    return make_config(**{**made, **more})


def rules(made: Config, **knobs: Any) -> list[str]:
    return [finding.rule for finding in memory.check(made, knobs)]


def need(made: Config, knobs: Knobs) -> memory.Need:
    found = memory.need(made, knobs)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("dtype", "share"),
    [(None, 1), ("auto", 1), ("bfloat16", 1), ("fp8_e5m2", 1 / 2), ("fp8", 1 / 2), ("nvfp4", 9 / 32)],
)
def test_the_kv_dtype_decides_a_tokens_bytes(dtype: str | None, share: float) -> None:
    made = config("sglang", "llama31_8b", "h100")
    whole = need(made, {})
    assert need(made, {"kv_cache_dtype": dtype}).kv_gib == pytest.approx(whole.kv_gib * share)


def test_weights_are_split_over_tensor_and_pipeline() -> None:
    assert memory.weights_gib(arch("llama33_70b"), Parallelism()) == pytest.approx(141_107_412_992 / 2**30, rel=1e-3)
    assert memory.weights_gib(arch("llama33_70b"), Parallelism(tensor=4, pipeline=2, data=3)) == 131.42 / 8


def test_replicas_of_vllm_share_the_experts() -> None:
    spread = Parallelism(data=8)
    assert memory.weights_gib(arch("deepseek_v3"), spread) == 641.3
    assert memory.weights_gib(arch("deepseek_v3"), spread, splits_experts=True) == pytest.approx(94.6, abs=1)
    assert memory.weights_gib(arch("llama31_8b"), spread, splits_experts=True) == 14.96


@pytest.mark.parametrize(
    ("made", "knobs", "expected"),
    [
        (config("sglang", "llama33_70b", "h100"), {}, ["does_not_fit"]),
        (config("sglang", "llama33_70b", "h100", users=1), {"tp_size": 2}, ["tight"]),
        (config("sglang", "llama33_70b", "h100"), {"tp_size": 2, "mem_fraction_static": 0.92}, ["tight"]),
        (config("sglang", "llama33_70b", "h100"), {"tp_size": 2, "mem_fraction_static": 0.95}, []),
        (config("sglang", "llama33_70b", "h100"), {"tp_size": 4}, []),
        (config("sglang", "deepseek_v3", "h100"), {"tp_size": 8}, ["does_not_fit"]),
        (config("sglang", "deepseek_v3", "h200"), {"tp_size": 8}, []),
        (config("sglang", "glm46_fp8", "h20"), {"tp_size": 8}, []),
        (config("sglang", "glm46_fp8", "h20"), {"tp_size": 4}, ["tight"]),
        (config("sglang", "glm46_fp8", "h20"), {"tp_size": 2}, ["does_not_fit"]),
        (config("sglang", "qwen3_8b", "rtx4090", users=1), {}, []),
        (config("sglang", "qwen3_8b", "l4"), {}, ["tight"]),
        (config("sglang", "llama31_8b", "h100", users=64), {}, []),
        (config("sglang", "llama31_8b", "h100", users=256), {}, ["tight"]),
        (config("sglang", "llama31_8b", "h100", users=256), {"max_running_requests": 64}, []),
        (config("sglang", "llama31_8b", "h100", users=256), {"dp_size": 4}, []),
        (config("sglang", "llama31_8b", "h100"), {"mem_fraction_static": 0.1}, ["does_not_fit"]),
        (config("sglang", "llama31_8b", "h100"), {"mem_fraction_static": 0.183}, ["kv_too_small"]),
        (config("vllm", "llama33_70b", "h100"), {"tensor_parallel_size": 2}, ["kv_too_small"]),
        (config("vllm", "llama33_70b", "h100"), {"tensor_parallel_size": 2, "max_model_len": 4096}, ["tight"]),
        (config("vllm", "llama33_70b", "h100"), {"tensor_parallel_size": 2, "max_model_len": -1}, ["tight"]),
        (config("vllm", "llama33_70b", "h100"), {"tensor_parallel_size": 4}, []),
        (config("vllm", "llama31_8b", "l4"), {}, ["kv_too_small"]),
        (config("vllm", "llama31_8b", "l4"), {"max_model_len": 8192}, ["tight"]),
        (config("vllm", "deepseek_v3", "h200"), {"data_parallel_size": 8}, []),
        (config("vllm", "deepseek_v3", "h200"), {"tensor_parallel_size": 8}, []),
    ],
)
def test_a_trial_is_refused_only_where_it_cannot_run(made: Config, knobs: dict[str, Any], expected: list[str]) -> None:
    assert rules(made, **knobs) == expected


def test_the_slack_keeps_a_model_that_just_about_fits() -> None:
    made = config("sglang", "llama31_8b", "h100")
    fraction = 14.96 * (1 - memory.WEIGHT_SLACK) / 79.65
    assert rules(made, mem_fraction_static=fraction - 0.001) == ["does_not_fit"]
    assert rules(made, mem_fraction_static=fraction + 0.001) == ["kv_too_small"]


def test_a_matrix_that_the_files_hold_twice_counts_once() -> None:
    found = need(config("sglang", "qwen3_0_6b", "h100"), {})
    assert found.least_weights_gib < 1.2 / 2**30 * 1e9
    assert found.weights_gib == 1.4


def test_a_quantized_checkpoint_may_have_a_small_kv_cache() -> None:
    made = config("vllm", "glm46_fp8", "h20")
    knobs = {"tensor_parallel_size": 8}
    assert need(made, {**knobs, "kv_cache_dtype": "bfloat16"}).least_kv_gib == 2 * need(made, knobs).least_kv_gib


def test_a_tight_trial_is_told_the_sum_and_the_way_out() -> None:
    [finding] = memory.check(config("sglang", "qwen3_8b", "l4"), {})
    assert finding.verdict == "warned"
    assert finding.reason.startswith("weights 15.3 + reserve 7.")
    assert " + KV 7.3 GiB for 16 x 3300 tokens = " in finding.reason
    assert " of 22.5 GiB per GPU: " in finding.reason
    assert finding.reason.endswith("raise tp_size, set kv_cache_dtype=fp8_e5m2, or lower the concurrency")


@pytest.mark.parametrize(
    ("chunk", "words"),
    [(2048, "requests will wait or be preempted; "), (8192, "the engine may not start; ")],
)
def test_a_tight_trial_is_told_what_will_come_of_it(chunk: int, words: str) -> None:
    [finding] = memory.check(config("sglang", "qwen3_8b", "l4"), {"chunked_prefill_size": chunk})
    assert words in finding.reason


def test_the_fuller_stage_of_a_pipeline_counts() -> None:
    found = need(config("sglang", "deepseek_v3", "h200"), {"tp_size": 8, "pp_size": 2})
    assert found.weights_gib == pytest.approx(641.3 / 8 * 31 / 61)
    assert found.least_weights_gib == pytest.approx(641.3 / 16 * (1 - memory.WEIGHT_SLACK))


def test_a_small_kv_dtype_is_not_recommended_twice() -> None:
    [finding] = memory.check(
        config("vllm", "qwen3_8b", "l4", users=64), {"kv_cache_dtype": "fp8", "max_model_len": 4096}
    )
    assert finding.reason.endswith("raise tensor_parallel_size, or lower the concurrency")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (config("sglang", "llama33_70b", "h100"), "weights 131.4 GiB do not fit 78.0 of 79.7 GiB per GPU"),
        (config("vllm", "llama31_8b", "l4"), "KV 16.0 GiB for one request of 131072 tokens do not fit 20.7 of 22.5"),
    ],
    ids=["weights", "kv"],
)
def test_a_refusal_is_told_the_sum(made: Config, words: str) -> None:
    [finding] = memory.check(made, {})
    assert finding.verdict == "refused"
    assert words in finding.reason


@pytest.mark.parametrize(("version", "share"), [("0.19.1", 0.9), ("0.20.0", 0.92), ("0.33.0", 0.92)])
def test_the_share_of_vllm_is_that_of_its_version(version: str, share: float) -> None:
    words = ["runtime=vllm", f"runtime.version={version}", "model=llama31_8b", "hardware=h100"]
    with initialize_config_dir(str(CONF)):
        made = to_config(composed(words))
    assert need(made, made.knobs).most_gib == pytest.approx(share * 79.65)


def test_sglang_sets_aside_what_its_source_says() -> None:
    assert need(config("sglang", "llama31_8b", "l4"), {}).reserve_gib == pytest.approx(
        (512 + 4096 * 1.5 + 1024 / 8 + 48 * 2 + 480) / 1024
    )
    assert need(config("sglang", "llama31_8b", "h100"), {"chunked_prefill_size": 2048}).reserve_gib == 10
    assert need(config("sglang", "llama31_8b", "h100"), {"mem_fraction_static": 0.8}).reserve_gib == pytest.approx(
        15.93
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"arch": None, "unread": "/m/config.json: expected a positive number 'hidden_size'"},
            "memory and compatibility are not checked for model=llama33_70b: /m/config.json: expected a positive",
        ),
        ({"arch": None}, "set model.path to a folder with a config.json, or model.arch: without the architecture"),
        (
            {"arch": {"weights_gib": None, "unread": ["quant_method 'aqlm' is not known here"]}},
            "memory is not checked for model=llama33_70b: quant_method 'aqlm' is not known here. Set it in model.arch",
        ),
        (
            {"arch": {"caches": None, "weights_gib": 8.0, "unread": ["'compress_ratios' says"]}},
            "the KV cache is not checked for model=llama33_70b: 'compress_ratios' says. Set it in model.arch",
        ),
    ],
    ids=["unreadable", "nothing", "no-weights", "no-caches"],
)
def test_what_is_not_known_of_a_model_is_said(changes: dict[str, Any], words: str) -> None:
    model = group("model", "llama33_70b")
    given = {**changes, "arch": {**model["arch"], **changes["arch"]} if changes["arch"] else None}
    [finding] = memory.check(config("vllm", "llama33_70b", "h100", model={**model, **given}), {})
    assert finding.verdict == "warned"
    assert finding.reason.startswith(words)


def test_weights_are_checked_where_the_caches_are_not_known() -> None:
    model = group("model", "llama33_70b")
    given = {**model, "arch": {**model["arch"], "caches": None, "unread": ["its layers are not known"]}}
    assert rules(config("vllm", "llama33_70b", "h100", model=given)) == ["does_not_fit"]


@pytest.mark.parametrize(
    ("engine", "model", "gpu", "knobs", "expected"),
    [
        ("vllm", "nemotron_nano_9b_v2", "l40s", {}, []),
        ("vllm", "qwen3_next_80b_a3b", "h100", {"tensor_parallel_size": 4}, []),
        ("vllm", "kimi_linear_48b", "h200", {"max_model_len": 1048576}, []),
        ("vllm", "gpt_oss_20b", "rtx4090", {}, []),
        ("vllm", "gemma3_27b", "h100", {}, []),
        ("vllm", "llama4_scout", "h100", {"tensor_parallel_size": 8, "max_model_len": 1048576}, []),
        ("vllm", "llama4_scout", "h100_nvl", {"tensor_parallel_size": 2, "max_model_len": 1000}, ["does_not_fit"]),
        ("vllm", "jamba15_mini", "a100_80", {"tensor_parallel_size": 2}, []),
        ("vllm", "deepseek_v32", "h200", {"tensor_parallel_size": 8}, []),
        ("sglang", "qwen3_32b_awq", "rtx4090", {}, ["tight"]),
    ],
)
def test_hybrid_and_windowed_models_are_not_refused_for_layers_that_keep_little(
    engine: str, model: str, gpu: str, knobs: dict[str, Any], expected: list[str]
) -> None:
    assert rules(config(engine, model, gpu, users=1), **knobs) == expected


@pytest.mark.parametrize(
    ("changes", "knobs"),
    [
        ({"runtime": runtime("sglang", memory=None)}, {}),
        ({"hardware": group("hardware", "cpu")}, {}),
        ({"hardware": {**group("hardware", "h100"), "gpu_memory_gib": None}}, {}),
        ({}, {"quantization": "fp8"}),
        ({}, {"cpu_offload_gb": 80}),
        ({}, {"kv_cache_dtype": "turboquant_4bit_nc"}),
        ({"runtime": runtime("sglang", extra_args=["--quantization=fp8"])}, {}),
        ({"runtime": runtime("sglang", extra_args=["--tp", "8"])}, {}),
    ],
    ids=[
        "no-plan", "no-gpu", "no-gpu-memory", "quantized-on-the-way", "offloaded", "unknown-format",
        "quantized-by-an-argument", "spread-by-an-argument",
    ],
)  # fmt: skip
def test_nothing_is_said_without_the_numbers(changes: dict[str, Any], knobs: dict[str, Any]) -> None:
    assert rules(config("sglang", "llama33_70b", "h100", **changes), **knobs) == []
