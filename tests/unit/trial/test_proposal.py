"""What is proposed to be searched: knobs that can matter, values that can start."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from hydra import initialize_config_dir

from pipeline.config import tiers
from pipeline.config.command_line import composed, to_config
from pipeline.config.tiers import Tier
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.core.values import parse
from pipeline.trial import preflight, proposal
from pipeline.trial.proposal import Proposal

TIERS = [
    pytest.param(path.parent.name, path.stem, id=f"{path.parent.name}-{path.stem}")
    for path in sorted((CONF / "space").glob("*/*.yaml"))
]
MACHINES = {  # of each engine: models and machines that its tiers are made for
    "sglang": [("qwen3_8b", "h100"), ("deepseek_v3", "b200"), ("qwen3_30b_a3b", "a100_80"), ("llama33_70b", "h20")],
    "vllm": [("qwen3_8b", "l4"), ("deepseek_v3", "h200"), ("qwen3_30b_a3b", "h100"), ("qwen3_0_6b", "cpu")],
    "llamacpp": [("gemma3_270m", "cpu")],
    "transformers": [("qwen3_0_6b", "cpu"), ("qwen3_8b", "h100")],
}


@cache
def config(*overrides: str) -> Config:
    with initialize_config_dir(str(CONF)):
        return to_config(composed(list(overrides)))


def made(config: Config, tier: str = "standard", taken: tuple[str, ...] = ()) -> Proposal:
    return proposal.made(config, tiers.load(config.runtime.name, tier, [CONF]), taken)


def values(found: Proposal) -> dict[str, tuple[Any, ...]]:
    return {one.knob: one.values for one in found.dimensions}


def own(knobs: Mapping[str, Any]) -> Tier:
    """A tier with knobs of its own."""
    filled = {name: {"why": "w", "source": "s", **entry} for name, entry in knobs.items()}
    return parse(Tier, {"engine": "sglang", "name": "own", "trials": 4, "sources": ["s"], "knobs": filled})


@pytest.mark.parametrize(("engine", "name"), TIERS)
def test_every_value_of_a_shipped_tier_can_start_beside_the_defaults(engine: str, name: str) -> None:
    tier = tiers.load(engine, name, [CONF])
    assert tier.knobs
    found = 0
    for model, machine in MACHINES[engine]:
        for traffic in ("chat", "long_prompt"):
            base = config(f"runtime={engine}", f"model={model}", f"hardware={machine}", f"traffic={traffic}")
            plan = proposal.made(base, tier, ())
            found += len(plan.dimensions)
            for one in plan.dimensions:
                under = tier.knobs[one.knob].under  # type: ignore[union-attr]
                for pick in one.values if not under else ():
                    tried = proposal.with_knobs(base, {**plan.fixed, one.knob: pick})
                    assert preflight.foresee(tried).word != "refused", (model, machine, one.knob, pick)
    assert found


@pytest.mark.parametrize("engine", MACHINES)
def test_a_quick_space_is_ten_trials_at_most(engine: str) -> None:
    assert 6 <= tiers.load(engine, "quick", [CONF]).trials <= 10


def test_experts_are_searched_where_there_are_experts() -> None:
    dense = made(config("runtime=sglang", "model=qwen3_8b", "hardware=h100"), "moe")
    assert "moe_runner_backend" not in values(dense)
    assert dense.left_out["moe_runner_backend"] == "for models with experts, on NVIDIA GPUs"
    moe = made(config("runtime=sglang", "model=qwen3_30b_a3b", "hardware=h100"), "moe")
    assert "moe_runner_backend" in values(moe)


def test_what_cannot_start_is_left_out_with_the_rules_reason() -> None:
    found = made(config("runtime=sglang", "model=qwen3_8b", "hardware=a100_80", "traffic=long_prompt"))
    assert "trtllm_mha on a100_80" in found.left_out["attention_backend=trtllm_mha"]
    assert "trtllm_mha" not in values(found)["attention_backend"]


def test_what_the_engine_does_by_itself_is_no_value() -> None:
    found = made(config("runtime=sglang", "model=qwen3_8b", "hardware=h100"))
    assert found.left_out["attention_backend=fa3"] == "what the engine does by itself"


def test_a_model_that_one_gpu_cannot_hold_gets_as_many_as_it_takes() -> None:
    found = made(config("runtime=vllm", "model=llama33_70b", "hardware=h100"))
    assert found.fixed == {"tensor_parallel_size": 4}
    assert "fewer GPUs do not hold the model" in found.left_out["tensor_parallel_size"]


def test_every_number_of_gpus_that_is_left_out_has_its_reason() -> None:
    left_out = made(config("runtime=vllm", "model=llama33_70b", "hardware=h100")).left_out
    assert left_out["tensor_parallel_size=1"].startswith("weights 131.4 GiB do not fit 73.3 of 79.7 GiB per GPU")
    assert "for one request of 131072 tokens do not fit" in left_out["tensor_parallel_size=2"]
    assert "tensor_parallel_size=4" not in left_out
    assert left_out["tensor_parallel_size=8"].startswith("all trials have tensor_parallel_size=4, the least that holds")


def test_gpus_that_hold_the_weights_and_not_the_rest_are_left_out_with_the_sum() -> None:
    left_out = made(config("runtime=sglang", "model=deepseek_v3", "hardware=b200")).left_out
    assert left_out["tp_size=4"].startswith("weights 160.3 + reserve ")
    assert "the engine may not start" in left_out["tp_size=4"]


def test_where_one_gpu_holds_the_model_none_is_fixed() -> None:
    found = made(config("runtime=vllm", "model=qwen3_8b", "hardware=h100"))
    assert found.fixed == {}
    assert values(found)["tensor_parallel_size"] == (2, 4, 8)
    assert not [name for name in found.left_out if name.startswith("tensor_parallel_size")]


def test_there_is_nothing_to_search_where_all_gpus_together_do_not_hold_the_weights() -> None:
    found = made(config("runtime=sglang", "model=deepseek_v3", "hardware=h100"))
    assert found.dimensions == ()
    assert [*found.left_out] == ["tp_size=8"]
    assert found.left_out["tp_size=8"].startswith("weights 80.2 GiB do not fit ")


def test_a_knob_that_makes_the_model_fit_is_searched_all_the_same() -> None:
    base = config("runtime=sglang", "model=deepseek_v3", "hardware=h100")
    found = proposal.made(base, own({"cpu_offload_gb": {"values": [16]}}), ())
    assert values(found) == {"cpu_offload_gb": (16,)}


def test_gpus_that_may_not_suffice_are_not_chosen() -> None:
    assert made(config("runtime=sglang", "model=deepseek_v3", "hardware=b200")).fixed == {"tp_size": 8}


def test_what_the_command_sets_is_left_to_it() -> None:
    base = config("runtime=vllm", "model=llama33_70b", "hardware=h100", "tensor_parallel_size=8")
    found = made(base, taken=("tensor_parallel_size", "compilation_config.cudagraph_mode"))
    assert found.fixed == {}
    assert found.left_out["compilation_config.cudagraph_mode"] == "set by the command"


def test_a_knob_under_another_needs_it() -> None:
    base = config("runtime=sglang", "model=qwen3_8b", "hardware=h100", "traffic=shared_prefix")
    found = made(base, "long_context")
    assert values(found)["hicache_ratio"] == (2.0, 4.0)
    alone = proposal.made(
        base, own({"hicache_ratio": {"values": [2.0], "under": {"enable_hierarchical_cache": [True]}}}), ()
    )
    assert alone.dimensions == ()
    assert alone.left_out["hicache_ratio"] == "only with enable_hierarchical_cache=True"


def test_a_value_that_is_not_taken_is_left_out() -> None:
    base = config("runtime=sglang", "model=qwen3_8b", "hardware=h100")
    found = proposal.made(base, own({"page_size": {"values": ["x", 64]}, "nothing": {"values": [1]}}), ())
    assert values(found) == {"page_size": (64,)}
    assert "expected an integer" in found.left_out["page_size=x"]
    assert found.left_out["nothing"] == "no knob of this runtime"


def test_a_condition_that_cannot_be_read_is_told() -> None:
    with pytest.raises(ConfigError, match="== =="):
        proposal.made(config("runtime=sglang"), own({"page_size": {"values": [64], "when": "sm == =="}}), ())


def test_a_tier_may_leave_out_a_knob_of_the_one_that_it_extends() -> None:
    assert "schedule_conservativeness" in tiers.load("sglang", "quick", [CONF]).knobs
    assert "schedule_conservativeness" not in tiers.load("sglang", "latency", [CONF]).knobs
