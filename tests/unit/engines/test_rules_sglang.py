"""Every rule of engines/rules/sglang.yaml: a trial that it hits, with what it makes of it, and one that it misses."""

from collections.abc import Iterator, Mapping
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
from pipeline.core.values import parse
from pipeline.engines import verdict
from support.architectures import DEEPSEEK_V3, LLAMA_8B, QWEN3_30B_A3B

CASES = yaml.safe_load((Path(__file__).parent / "rules_sglang.yaml").read_text())
RULES = {rule.id: rule for rule in verdict.load("sglang")}
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case["rule"])
ARCHITECTURES = {
    "llama_8b": replace(LLAMA_8B, name="LlamaForCausalLM"),
    "qwen3_30b_a3b": replace(QWEN3_30B_A3B, name="Qwen3MoeForCausalLM"),
    "deepseek_v3": replace(DEEPSEEK_V3, name="DeepseekV3ForCausalLM"),
    "odd_kv": replace(LLAMA_8B, heads=36, kv_heads=6),
}
RTX_5090 = Hardware(name="rtx5090", gpu_count=1, gpu_memory_gib=32, vendor="nvidia", compute_capability=12.0)


@pytest.fixture(scope="module")
def base() -> Iterator[Config]:
    with initialize_config_dir(str(CONF)):
        yield to_config(composed(["runtime=sglang"]))


def hardware(name: str) -> Hardware:
    if name == RTX_5090.name:
        return RTX_5090
    return parse(Hardware, yaml.safe_load((CONF / "hardware" / f"{name}.yaml").read_text()))


def trial(base: Config, told: Mapping[str, Any]) -> Config:
    asked = {name: told.get(name) for name in base.runtime.knobs}
    rest = {name for name in told if name not in asked}
    assert rest <= {"on", "model", "version", "concurrency", "env", "extra_args"}
    return replace(
        base,
        runtime=replace(
            base.runtime,
            version=told.get("version", "0.5.23"),
            rules=("sglang",),
            env=told.get("env", {}),
            extra_args=tuple(told.get("extra_args", ())),
        ),
        model=replace(base.model, arch=ARCHITECTURES[told.get("model", "llama_8b")]),
        hardware=hardware(told.get("on", "h200")),
        traffic=replace(base.traffic, concurrencies=(told.get("concurrency", 1),)),
        knobs=asked,
    )


def facts(config: Config, names: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """What the rules make of facts, by a rule of our own that tells them."""
    reason = "\n".join(f"{{{{ {name} }}}}" for name in names)
    probe = {"id": "probe", "verdict": "warned", "when": "true", "reason": reason, "source": "here"}
    path = folder / "probe.yaml"
    path.write_text(yaml.safe_dump([probe]))
    found = verdict.judge(replace(config, runtime=replace(config.runtime, rules=("sglang", str(path)))))
    told = next(finding.reason for finding in found.findings if finding.rule == "probe")
    return dict(zip(names, told.split("\n"), strict=True))


def hit(config: Config, rule: str) -> bool:
    return any(finding.rule == rule for finding in verdict.judge(config).findings)


def test_every_rule_has_a_case() -> None:
    assert [case["rule"] for case in CASES] == list(RULES)


@EVERY
def test_a_rule_hits(base: Config, case: Mapping[str, Any], tmp_path: Path) -> None:
    config, rule, gives = trial(base, case["hits"]), RULES[case["rule"]], case["gives"]
    if isinstance(gives, str):
        assert rule.verdict == gives
        assert hit(config, rule.id)
    elif rule.verdict == "default":
        assert not hit(config, rule.id)
        assert facts(config, gives, tmp_path) == {name: str(item) for name, item in gives.items()}
    else:
        assert hit(config, rule.id)
        assert {name: verdict.judge(config).knobs[name] for name in gives} == pytest.approx(gives)


@EVERY
def test_a_rule_misses(base: Config, case: Mapping[str, Any], tmp_path: Path) -> None:
    config, rule, gives = trial(base, case["misses"]), RULES[case["rule"]], case["gives"]
    assert not hit(config, rule.id)
    if rule.verdict == "default":
        assert facts(config, gives, tmp_path) != {name: str(item) for name, item in gives.items()}


@EVERY
def test_a_reason_tells_nothing_that_was_not_asked_or_found(base: Config, case: Mapping[str, Any]) -> None:
    for finding in verdict.judge(trial(base, case["hits"])).findings:
        assert "None" not in finding.reason


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_a_rule_cites_the_sources(rule: verdict.Rule) -> None:
    assert "sglang 0.5." in rule.source
    assert ".py" in rule.source


@pytest.mark.parametrize("version", ["0.5.10.post1", "0.5.23", "0.5.19", None], ids=str)
@pytest.mark.parametrize("on", ["cpu", "a10", "a100_80", "h200", "b200", "mi300x"])
@pytest.mark.parametrize("model", [*ARCHITECTURES, None], ids=str)
def test_nothing_asked_is_never_refused(base: Config, version: str | None, on: str, model: str | None) -> None:
    config = trial(base, {"on": on})
    arch = ARCHITECTURES[model] if model else None
    config = replace(config, runtime=replace(config.runtime, version=version), model=replace(config.model, arch=arch))
    assert {finding.verdict for finding in verdict.judge(config).findings} <= {"warned"}


def test_divided_attention_of_an_old_version_takes_no_more_gpus_than_there_are(base: Config) -> None:
    old = trial(base, {"version": "0.5.10.post1", "tp_size": 8, "dp_size": 8, "enable_dp_attention": True})
    found = verdict.judge(replace(old, runtime=replace(old.runtime, rules=base.runtime.rules)))
    assert not any(finding.rule == "more_gpus_than_there_are" for finding in found.findings)
