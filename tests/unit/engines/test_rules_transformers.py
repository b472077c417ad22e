"""Every rule of engines/rules/transformers.yaml: a trial that it hits, and one that it misses."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir

from pipeline.config.command_line import composed, to_config
from pipeline.core.findings import Verdict
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.core.schema_hardware import Hardware
from pipeline.core.values import parse
from pipeline.engines import verdict
from support.architectures import LLAMA_8B

Case = Mapping[str, Any]
CASES = yaml.safe_load((Path(__file__).parent / "rules_transformers.yaml").read_text())
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case["rule"])
ONE = {
    "t4": Hardware(name="t4", gpu_count=1, vendor="nvidia", compute_capability=7.5, gpu_memory_gib=15),
    "a10": Hardware(name="a10", gpu_count=1, vendor="nvidia", compute_capability=8.6, gpu_memory_gib=22),
}


@pytest.fixture(scope="module")
def base() -> Config:
    with initialize_config_dir(str(CONF)):
        return to_config(composed(["runtime=transformers", "model.path=/m"]))


def judged(base: Config, case: Case) -> Verdict:
    on = case.get("on", "a10")
    hardware = ONE.get(on) or parse(Hardware, yaml.safe_load((CONF / "hardware" / f"{on}.yaml").read_text()))
    knobs = {name: case.get(name) for name in base.runtime.knobs}
    assert case.keys() <= {"on", *knobs}
    return verdict.judge(replace(base, hardware=hardware, model=replace(base.model, arch=LLAMA_8B), knobs=knobs))


def told(base: Config, case: Case) -> set[str]:
    return {finding.rule for finding in judged(base, case).findings}


def test_every_rule_has_a_case() -> None:
    assert [case["rule"] for case in CASES] == [rule.id for rule in verdict.load("transformers")]


@EVERY
def test_a_rule_applies(base: Config, case: Mapping[str, Case]) -> None:
    assert str(case["rule"]) in told(base, case["hits"])


@EVERY
def test_a_rule_does_not_apply(base: Config, case: Mapping[str, Case]) -> None:
    assert str(case["rule"]) not in told(base, case["misses"])


@pytest.mark.parametrize("on", ["cpu", "a10", "h100"])
def test_the_defaults_are_not_refused(base: Config, on: str) -> None:
    for batching in (None, True):
        assert judged(base, {"on": on, "continuous_batching": batching}).word in {"ok", "warned"}


def test_knobs_of_pages_without_pages_are_the_baseline(base: Config) -> None:
    found = judged(base, {"cb_block_size": 64, "cb_max_batch_tokens": 512, "cb_use_cuda_graph": True})
    assert found.word == "rewritten"
    assert not any(found.knobs.values())
