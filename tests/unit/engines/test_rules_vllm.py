"""What is known of vLLM before deploying: every rule with a trial that it applies to and one that it does not."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir

from pipeline.config.command_line import composed, to_config
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.core.schema_hardware import Hardware
from pipeline.core.values import parse, plain
from pipeline.engines import verdict
from support.architectures import DEEPSEEK_V3, LLAMA_8B, QWEN3_30B_A3B

Case = Mapping[str, Any]
HARDWARE = {
    path.stem: parse(Hardware, yaml.safe_load(path.read_text())) for path in sorted((CONF / "hardware").glob("*.yaml"))
} | {
    "t4": Hardware(name="t4", gpu_count=4, vendor="nvidia", compute_capability=7.5, gpu_memory_gib=15),
    "v100": Hardware(name="v100", gpu_count=8, vendor="nvidia", compute_capability=7.0, gpu_memory_gib=32),
    "rtx5090": Hardware(name="rtx5090", gpu_count=1, vendor="nvidia", compute_capability=12.0, gpu_memory_gib=32),
}
MODELS = {
    "llama_8b": LLAMA_8B,
    "qwen3_30b_a3b": QWEN3_30B_A3B,
    "deepseek_v3": DEEPSEEK_V3,
    "odd_heads": replace(LLAMA_8B, heads=30, kv_heads=6, head_dim=100),
    "wide_heads": replace(LLAMA_8B, head_dim=512),
    "own_heads": replace(LLAMA_8B, attention="mha", kv_heads=32),
    "fp8": replace(LLAMA_8B, quantization="fp8"),
    "awq": replace(LLAMA_8B, quantization="awq"),
}
CASES = yaml.safe_load((Path(__file__).parent / "rules_vllm.yaml").read_text())
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case["rule"])
OLD = {"version": "0.19.1"}
MLA = {"model": "deepseek_v3"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """vLLM, with rules that tell of defaults too."""
    told = [replace(rule, verdict="warned") if rule.verdict == "default" else rule for rule in verdict.load("vllm")]
    path = tmp_path_factory.mktemp("rules") / "told.yaml"
    path.write_text(yaml.safe_dump([plain(rule) for rule in told]))
    with initialize_config_dir(str(CONF)):
        config = to_config(composed(["runtime=vllm", "model.path=/m"]))
    return replace(config, runtime=replace(config.runtime, rules=(str(path),)))


def trial(base: Config, case: Case) -> Config:
    asked = {name: case.get(name) for name in base.runtime.knobs}
    assert case.keys() - asked.keys() <= {"on", "model", "version", "env", "extra_args"}
    return replace(
        base,
        runtime=replace(
            base.runtime,
            version=case.get("version", "0.33.0"),
            env=case.get("env", {}),
            extra_args=tuple(case.get("extra_args", ())),
        ),
        model=replace(base.model, arch=MODELS[case.get("model", "llama_8b")]),
        hardware=HARDWARE[case.get("on", "h100")],
        traffic=replace(base.traffic, concurrencies=(1, 16)),
        knobs=asked,
    )


def findings(base: Config, case: Case) -> dict[str, str]:
    """What is said of a trial: each rule with its verdict."""
    found = verdict.judge(trial(base, case)).findings
    assert all(finding.source.startswith("vllm 0.") for finding in found)
    return {finding.rule: finding.verdict for finding in found}


def test_every_rule_has_a_case() -> None:
    assert [case["rule"] for case in CASES] == [rule.id for rule in verdict.load("vllm")]


@EVERY
def test_a_rule_applies(base: Config, case: Mapping[str, Case]) -> None:
    assert str(case["rule"]) in findings(base, case["hits"])


@EVERY
def test_a_rule_does_not_apply(base: Config, case: Mapping[str, Case]) -> None:
    assert str(case["rule"]) not in findings(base, case["misses"])


@EVERY
def test_a_version_without_a_catalogue_can_be_judged(base: Config, case: Mapping[str, Case]) -> None:
    for told in (case["hits"], case["misses"]):
        assert verdict.judge(trial(base, {**told, "version": None})).word


@pytest.mark.parametrize("version", ["0.33.0", "0.19.1"])
@pytest.mark.parametrize("gpu", sorted(HARDWARE))
@pytest.mark.parametrize("model", ["llama_8b", "qwen3_30b_a3b", "deepseek_v3"])
def test_what_the_engine_chooses_itself_is_not_refused(base: Config, version: str, gpu: str, model: str) -> None:
    found = findings(base, {"version": version, "on": gpu, "model": model})
    refused = {rule for rule, word in found.items() if word == "refused"}
    refused -= {"cpu_without_mla"} if gpu == "cpu" else set()
    assert refused <= {"quantization_needs_other_gpu", "quantization_needs_other_gpu_before"}
    assert not refused or gpu == "v100"


ATTENTION: dict[str, tuple[Case, str]] = {
    "dense on ampere": ({"on": "a100_80"}, "FLASH_ATTN"),
    "dense on hopper": ({}, "FLASH_ATTN"),
    "dense on blackwell": ({"on": "b200"}, "FLASHINFER"),
    "dense on consumer blackwell": ({"on": "rtx5090"}, "FLASH_ATTN"),
    "dense on turing": ({"on": "t4"}, "TRITON_ATTN"),
    "fp8 cache on ada": ({"on": "l4", "kv_cache_dtype": "fp8"}, "FLASHINFER"),
    "fp8 cache on hopper": ({"kv_cache_dtype": "fp8"}, "FLASH_ATTN"),
    "float32": ({"dtype": "float32"}, "TRITON_ATTN"),
    "mla on ampere": ({"on": "a100_80", **MLA}, "TRITON_MLA"),
    "mla on hopper": (MLA, "FLASH_ATTN_MLA"),
    "mla on hopper, fp8 cache": ({"kv_cache_dtype": "fp8", **MLA}, "FLASHMLA"),
    "mla on blackwell": ({"on": "b200", **MLA}, "FLASHINFER_MLA"),
    "mla on blackwell, small blocks": ({"on": "b200", "block_size": 16, **MLA}, "TRITON_MLA"),
}
BATCHES: dict[str, tuple[Case, tuple[int, int]]] = {
    "h100": ({}, (8192, 1024)),
    "b200": ({"on": "b200"}, (16384, 1024)),
    "b200 before": ({"on": "b200", **OLD}, (8192, 1024)),
    "a100": ({"on": "a100_80"}, (2048, 256)),
    "throughput": ({"performance_mode": "throughput"}, (16384, 2048)),
    "whole prompts": ({"enable_chunked_prefill": False}, (131072, 1024)),
    "few short requests": ({"max_num_seqs": 4, "max_model_len": 512}, (2048, 4)),
    "few tokens": ({"max_num_batched_tokens": 512}, (512, 512)),
}


def fact(base: Config, case: Case, words: str, tmp_path: Path) -> str:
    """What the rules leave of a fact."""
    probe = {"id": "probe", "verdict": "warned", "when": "true", "reason": words, "source": "test"}
    path = tmp_path / "probe.yaml"
    path.write_text(yaml.safe_dump([probe]))
    probed = replace(base, runtime=replace(base.runtime, rules=(*base.runtime.rules, str(path))))
    return str(verdict.judge(trial(probed, case)).findings[-1].reason)


@pytest.mark.parametrize("name", ATTENTION)
def test_vllms_choice_of_attention_is_foreseen(base: Config, tmp_path: Path, name: str) -> None:
    case, expected = ATTENTION[name]
    assert fact(base, case, "{{ attention_backend }}", tmp_path) == expected


@pytest.mark.parametrize("name", BATCHES)
def test_vllms_choice_of_batches_is_foreseen(base: Config, tmp_path: Path, name: str) -> None:
    case, (tokens, seqs) = BATCHES[name]
    assert fact(base, case, "{{ max_num_batched_tokens }} {{ max_num_seqs }}", tmp_path) == f"{tokens} {seqs}"


@pytest.mark.parametrize(
    ("asked", "taken"), [(1, 1), (3, 2), (7, 4), (15, 8), (250, 248), (300, 288), (512, 512), (9000, 8192)]
)
def test_a_graph_size_is_cut_down_to_one_that_vllm_captures(base: Config, asked: int, taken: int) -> None:
    found = verdict.judge(trial(base, {"max_cudagraph_capture_size": asked, "max_num_batched_tokens": 8192}))
    assert found.knobs["max_cudagraph_capture_size"] == taken


@pytest.mark.parametrize("extra", [["--attention-config.backend", "FLEX_ATTENTION"], ["--attention-backend", "CUSTOM"]])
def test_kernels_that_are_not_known_are_not_judged(base: Config, extra: list[str]) -> None:
    assert (
        "refused" not in findings(base, {"block_size": 24, "kv_cache_dtype": "fp8_e5m2", "extra_args": extra}).values()
    )


def test_what_the_traffic_cannot_reward_is_warned_about_for_either_value(base: Config) -> None:
    for case in ({"enable_prefix_caching": True}, {"enable_prefix_caching": False}):
        assert findings(base, case)["no_prompt_has_anothers_prefix"] == "warned"
    flag = {"extra_args": ["--no-enable-prefix-caching"]}
    assert "no_prompt_has_anothers_prefix" in findings(base, flag)
    assert "no_prompt_has_anothers_prefix" not in findings(base, {})


def test_drafts_are_not_warned_about_where_answers_end(base: Config) -> None:
    case = {"speculative_config": '{"method": "ngram", "num_speculative_tokens": 4}'}
    assert "drafts_of_text_past_its_end" in findings(base, case)
    ending = replace(base, runtime=replace(base.runtime, api_backend="openai"))
    assert "drafts_of_text_past_its_end" not in findings(ending, case)
