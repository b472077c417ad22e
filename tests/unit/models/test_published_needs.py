"""The memory line of a dry run against what others published or measured: models times hardware, 24 GB to 288 GB.

Weights are those of one GPU as its engine reports them once loaded, or the files' size divided by the GPUs.
"""

import re
from typing import Any, NamedTuple

import pytest

from pipeline import dry_run
from pipeline.models import memory, needs
from support.groups import group, runtime
from support.records import CONFIG, make_config

GB = 1e9 / 2**30  # in GiB


class Case(NamedTuple):
    """One pair. `weights` and `kv`: GiB of one GPU, as published; 0: not said."""

    engine: str
    model: str
    hardware: str
    knobs: dict[str, Any]
    tokens: tuple[int, int]  # requests, and tokens of each
    weights: float
    kv: float
    source: str


def vllm(gpus: int = 1) -> dict[str, Any]:
    return {"tensor_parallel_size": gpus}


CASES = [
    Case("vllm", "gpt_oss_20b", "rtx4090", vllm(), (1, 128), 12.8, 0, "arXiv 2508.10925, table 1: 12.8 GiB"),
    Case("vllm", "gpt_oss_120b", "h100", vllm(), (1, 128), 64.38, 0, "vllm issue 33155: took 64.38 GiB on one H100"),
    Case("vllm", "gpt_oss_120b", "mi300x", vllm(), (2, 131_072), 0, 9.088, "ollama issue 16480: 9216 + 90 MiB"),
    Case("vllm", "nemotron_nano_9b_v2", "l40s", vllm(), (1, 128), 16.56, 0, "vllm issue 23230: took 16.5557 GiB"),
    Case("vllm", "llama31_8b", "l40s", vllm(), (1, 128_000), 16 * GB, 15.62, "huggingface.co/blog/llama31"),
    Case("vllm", "llama33_70b", "h200", vllm(2), (1, 128_000), 70 * GB, 19.53, "huggingface.co/blog/llama31"),
    Case("vllm", "llama31_405b_fp8", "h100", vllm(8), (1, 128), 57.75, 0, "vllm issue 6746: took 57.7520 GB each"),
    Case(
        "sglang", "qwen3_235b_a22b_fp8", "h100", {"tp_size": 4}, (1, 367_404), 0, 16.46,
        "vllm issue 21348: 367404 tokens, K 8.23 GB, V 8.23 GB",
    ),
    Case("vllm", "qwen3_235b_a22b_fp8", "h100", vllm(4), (1, 178_880), 0, 8.11, "vllm issue 21348: 8.11 GiB"),
    Case("vllm", "gemma3_27b", "h100", vllm(), (1, 128), 54 * GB, 0, "developers.googleblog.com: 54 GB in bf16"),
    Case("vllm", "gemma3_12b", "a10", vllm(), (1, 128), 24 * GB, 0, "developers.googleblog.com: 24 GB in bf16"),
    Case(
        "vllm", "minimax_m2", "mi355x", vllm(2), (1, 1_000_000), 110 * GB, 120 * GB,
        "vllm-project/recipes: 220 GB for weights, 240 GB for a million tokens",
    ),
    Case("vllm", "kimi_k2_thinking", "h200", vllm(8), (1, 128), 594 / 8 * GB, 0, "its files on the hub: 594 GB"),
    Case(
        "sglang", "deepseek_v3", "h200", {"tp_size": 8}, (1, 1_000_000), 688.6 / 8 * GB, 70.272 * GB,
        "its index; arXiv 2505.09343, table 1: 70.272 KB for each token",
    ),
    Case("vllm", "jamba15_mini", "a100_80", vllm(2), (1, 262_144), 0, 2.0, "arXiv 2408.12570, table 1: 4 GB"),
]  # fmt: skip


def config(case: Case) -> Any:
    requests, tokens = case.tokens
    return make_config(
        runtime=runtime(case.engine),
        model=group("model", case.model),
        hardware=group("hardware", case.hardware),
        traffic={**CONFIG["traffic"], "scenarios": [f"D({tokens - 16},16)"], "concurrencies": [requests]},
        knobs={},
    )


def told(case: Case) -> tuple[float, float]:
    """Weights and KV cache, as the line says them."""
    line = needs.told(config(case), case.knobs)
    found = re.match(r"weights ([\d.]+) \+ KV cache(?: and states)? ([\d.]+) \(", line or "")
    assert found, line
    return float(found[1]), float(found[2])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.model}-{case.hardware}-{case.engine}")
def test_a_dry_run_says_what_others_measured(case: Case) -> None:
    weights, kv = told(case)
    if case.weights:
        assert weights == pytest.approx(case.weights, rel=0.1)
    if case.kv:
        assert kv == pytest.approx(case.kv, rel=0.1)


def test_the_pairs_are_of_every_kind() -> None:
    pairs = {(case.model, case.hardware) for case in CASES}
    sizes = {group("hardware", hardware)["gpu_memory_gib"] for _, hardware in pairs}
    kinds = {group("model", model)["arch"]["attention"] for model, _ in pairs}
    assert len(pairs) >= 12
    assert (min(sizes), max(sizes)) == (22.49, 287.98)
    assert kinds == {"gqa", "mla"}


def test_what_did_not_fit_is_refused() -> None:
    """vllm issue 16712: Llama 4 Scout in bf16 runs out of memory on two H100 NVL, at 1,000 tokens."""
    case = Case("vllm", "llama4_scout", "h100_nvl", {**vllm(2), "max_model_len": 1000}, (1, 128), 0, 0, "")
    [finding] = memory.check(config(case), case.knobs)
    assert finding.rule == "does_not_fit"


def test_a_dry_run_names_what_it_does_not_know() -> None:
    arch = {
        **group("model", "deepseek_v3")["arch"],
        "caches": None,
        "unread": ["'compress_ratios' says that its layers keep tokens in a way that is not known here"],
    }
    case = Case("vllm", "deepseek_v3", "b300", vllm(8), (1, 128), 0, 0, "")
    made = config(case)
    unknown = make_config(
        runtime=runtime("vllm"),
        model={**group("model", "deepseek_v3"), "arch": arch},
        hardware=group("hardware", "b300"),
        traffic=CONFIG["traffic"],
        knobs={},
    )
    assert needs.told(made, case.knobs)
    line = needs.told(unknown, case.knobs) or ""
    assert line.startswith("weights 80.2 + reserve ")
    assert line.endswith(" GiB per GPU; KV cache: not known")
    assert ["'compress_ratios'" in finding.reason for finding in memory.check(unknown, case.knobs)] == [True]


def test_the_line_is_in_the_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    dry_run.show(["runtime=sglang", "model=qwen3_next_80b_a3b", "hardware=h100", "tp_size=4"], is_sweep=False)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("  memory "))
    assert line.startswith("  memory   weights 37.1 + KV cache and states ")
    assert line.endswith(" of 79.7 GiB per GPU")
