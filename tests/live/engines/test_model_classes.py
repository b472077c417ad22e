"""What is read of config.json against transformers' own classes, and states against vLLM's own formulas.

SERVETUNE_TEST_VLLM is the interpreter of an environment with vLLM; the tests skip without it. No model is loaded:
classes are built on PyTorch's meta device, which holds shapes alone.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.models import config_json, kv_cache, layers, model_card, parameters
from support.places import ROOT, TESTS

PYTHON = os.environ.get("SERVETUNE_TEST_VLLM")
TIMEOUT_S = 600

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not PYTHON, reason="SERVETUNE_TEST_VLLM names no interpreter with vLLM"),
    pytest.mark.timeout(TIMEOUT_S),
]

DEFAULTS = """
import json, sys
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
asked = json.load(sys.stdin)
json.dump({kind: {key: getattr(CONFIG_MAPPING[kind], key) for key in keys} for kind, keys in asked.items()}, sys.stdout)
"""
BUILT = """
import json, sys, torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
made = {}
for name, config in json.load(sys.stdin).items():
    kind = {"kimi_k2": "deepseek_v3"}.get(config.pop("model_type"), None) or config["kind"]
    config.pop("kind")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**config))
    made[name] = sum(each.numel() for each in {id(one): one for one in model.parameters()}.values())
json.dump(made, sys.stdout)
"""
STATES = """
import json, math, sys
from vllm.model_executor.layers.mamba.mamba_utils import MambaStateShapeCalculator as Shapes
made = {}
for name, (function, arguments) in json.load(sys.stdin).items():
    made[name] = [math.prod(shape) for shape in getattr(Shapes, function)(**arguments)]
json.dump(made, sys.stdout)
"""
# as vllm/model_executor/models/{qwen3_next,kimi_linear,nemotron_h,jamba,lfm2}.py call them, for two GPUs
CALLS: Mapping[str, tuple[str, dict[str, int]]] = {
    "qwen3_next_80b_a3b": (
        "gated_delta_net_state_shape",
        {
            "tp_world_size": 2,
            "num_k_heads": 16,
            "num_v_heads": 32,
            "head_k_dim": 128,
            "head_v_dim": 128,
            "conv_kernel_size": 4,
        },
    ),
    "kimi_linear_48b": ("kda_state_shape", {"tp_world_size": 2, "num_heads": 32, "head_dim": 128}),
    "nemotron_nano_9b_v2": (
        "mamba2_state_shape",
        {
            "tp_world_size": 2,
            "intermediate_size": 10240,
            "n_groups": 8,
            "num_heads": 128,
            "head_dim": 80,
            "state_size": 128,
            "conv_kernel": 4,
        },
    ),
    "jamba15_mini": (
        "mamba1_state_shape",
        {"tp_world_size": 2, "intermediate_size": 8192, "state_size": 16, "conv_kernel": 4},
    ),
    "lfm2_8b_a1b": ("short_conv_state_shape", {"tp_world_size": 2, "intermediate_size": 2048, "conv_kernel": 3}),
    "granite4_h_small": (
        "mamba2_state_shape",
        {
            "tp_world_size": 2,
            "intermediate_size": 8192,
            "n_groups": 1,
            "num_heads": 128,
            "head_dim": 64,
            "state_size": 128,
            "conv_kernel": 4,
        },
    ),
}
CARDS = {
    path.stem: path for name in ("model_cards", "shapes") for path in (TESTS / "unit" / "models" / name).glob("*.json")
}
UNKNOWN = "deepseek_v4_flash"


def asked(script: str, question: object, tmp_path: Path) -> Any:
    done = subprocess.run(
        [str(PYTHON), "-c", script],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_missing_key_has_the_default_of_its_class(tmp_path: Path) -> None:
    ours = yaml.safe_load((ROOT / "pipeline/models/class_defaults.yaml").read_text())
    assert asked(DEFAULTS, {kind: list(keys) for kind, keys in ours.items()}, tmp_path) == ours


def test_parameters_are_those_of_the_classes(tmp_path: Path) -> None:
    question = {}
    for name, path in CARDS.items():
        config = json.loads(path.read_text())
        config = config.get("text_config", config)
        config.pop("quantization_config", None)
        question[name] = {**config, "kind": config["model_type"]}
    question.pop(UNKNOWN)
    for name, built in asked(BUILT, question, tmp_path).items():
        card = config_json.of(json.loads(CARDS[name].read_text()))
        total, _ = parameters.totals(parameters.parts(card, layers.of(card).each))
        assert total == pytest.approx(built, rel=0.0005), name


def test_states_are_those_of_vllm(tmp_path: Path) -> None:
    for name, elements in asked(STATES, CALLS, tmp_path).items():
        arch = model_card.architecture(config_json.of(json.loads(CARDS[name].read_text())))
        [state] = arch.states
        share = kv_cache.Share(arch=arch, size=2, spread=kv_cache.Parallelism(tensor=2))
        bytes_each = kv_cache.BYTES[state.dtype or arch.dtype]
        expected = elements[0] * 2 + sum(elements[1:]) * bytes_each
        assert kv_cache.state_bytes(share) == state.layers * expected, name
