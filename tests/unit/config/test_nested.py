"""Knobs that are JSON, lists or variables: what an override sets, and what the engine gets of it."""

from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir

from pipeline.config import command_line, expand, planning
from pipeline.config.command_line import composed, to_config
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.plan import Assets
from pipeline.core.schema import Config
from pipeline.engines import purpose, server_command, verdict

ASSETS = Assets(model_path=Path("/m"), tokenizer_dir=Path("/m"))


def config(*overrides: str) -> Config:
    with initialize_config_dir(str(CONF)):
        return to_config(composed(["model.path=/m", *overrides]))


def vllm(*overrides: str) -> Config:
    return config("runtime=vllm", *overrides)


def asked(made: Config) -> dict[str, Any]:
    return {name: item for name, item in made.knobs.items() if item is not None}


GRAPHS = '{"cudagraph_mode": "FULL", "pass_config": {"fuse_norm_quant": false}}'
NGRAM = '{"method": "ngram", "num_speculative_tokens": 4}'


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        pytest.param(["compilation_config.cudagraph_mode=FULL"], ['{"cudagraph_mode": "FULL"}'], id="dotted"),
        pytest.param(
            ["compilation_config.cudagraph_mode=FULL", "compilation_config.pass_config.fuse_norm_quant=false"],
            [GRAPHS],
            id="two keys, one of them deep",
        ),
        pytest.param(
            ["compilation_config={cudagraph_mode:FULL,pass_config:{fuse_norm_quant:false}}"], [GRAPHS], id="a mapping"
        ),
        pytest.param(
            ["+compilation_config.debug_dump_path=/d", "compilation_config.mode=3"],
            ['{"debug_dump_path": "/d", "mode": 3}'],
            id="a key that is not listed",
        ),
        pytest.param(
            ['speculative_config="{\\"method\\": \\"ngram\\", \\"num_speculative_tokens\\": 4}"'], [NGRAM], id="text"
        ),
        pytest.param(["speculative_config.method=ngram", "speculative_config=null"], [], id="null takes all keys away"),
    ],
)
def test_a_flags_json_is_one_word(overrides: list[str], words: list[str]) -> None:
    made = server_command.flags(vllm(*overrides))
    assert [word for word in made if not word.startswith("--")] == words
    assert len(made) == 2 * len(words)


def test_a_mapping_and_its_keys_are_the_same_trial() -> None:
    dotted = vllm("speculative_config.method=ngram", "speculative_config.num_speculative_tokens=4")
    text = vllm('speculative_config="{\\"num_speculative_tokens\\": 4, \\"method\\": \\"ngram\\"}"')
    assert (
        asked(dotted)
        == asked(text)
        == {"speculative_config.method": "ngram", "speculative_config.num_speculative_tokens": 4}
    )


def test_a_list_is_several_words() -> None:
    assert server_command.flags(vllm("cudagraph_capture_sizes=[1,2,4]")) == ("--cudagraph-capture-sizes", "1", "2", "4")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("speculative_config=ngram", r"speculative_config\.key=value"),
        ('speculative_config="{method: ngram}"', "expected keys and values"),
        ("cudagraph_capture_sizes=4", r"cudagraph_capture_sizes=\[1,2,4\]"),
        ("compilation_config.cudagraph_mode=FUL", "Did you mean FULL"),
        ("compilation_config.mode=7", "at most 3"),
        ("compilation_config.foo=1", r"\+compilation_config\.foo=1"),
        ("VLLM_USE_DEEP_GEMM=2", "expected one of 0, 1"),
        ("OMP_NUM_THREADS=''", "a word or a number"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_write(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        vllm(override)


def test_json_with_its_own_marks_is_told_how_to_be_quoted() -> None:
    with pytest.raises(ConfigError, match=r"""quote the value: 'speculative_config="\{\\"method"""):
        command_line.check(["runtime=vllm", 'speculative_config={"method": "ngram"}'], is_sweep=False)


def test_keys_whole_mappings_and_variables_are_swept_beside_a_baseline() -> None:
    swept = [
        "runtime=vllm",
        "model.path=/m",
        "compilation_config.cudagraph_mode=FULL,PIECEWISE",
        "speculative_config={method:ngram,num_speculative_tokens:4},null",
        "VLLM_USE_DEEP_GEMM=0",
    ]
    assert command_line.check(swept, is_sweep=True).total == 5
    baseline, *trials = expand.trials(swept, is_sweep=True)
    assert asked(baseline.config) == {"VLLM_USE_DEEP_GEMM": 0}
    graphs = ['{"cudagraph_mode": "FULL"}', '{"cudagraph_mode": "PIECEWISE"}']
    assert {server_command.flags(trial.config)[1:] for trial in trials} == {
        (mode, *drafts) for mode in graphs for drafts in [(), ("--speculative-config", NGRAM)]
    }


def test_a_key_under_the_name_of_an_engine_is_that_engines() -> None:
    words = ["runtime=sglang,vllm", "model.path=/m", "vllm.compilation_config.cudagraph_mode=FULL"]
    trials = list(expand.trials(words, is_sweep=True))
    assert [asked(trial.config) for trial in trials if trial.config.runtime.name == "vllm"][-1] == {
        "compilation_config.cudagraph_mode": "FULL"
    }


def test_rules_see_a_flags_json_whole() -> None:
    made = vllm("speculative_config.method=ngram", "async_scheduling=true", "runtime.version=0.19.1")
    assert "async_scheduling_with_ngram" in {finding.rule for finding in verdict.judge(made).findings}


@pytest.mark.parametrize(("pick", "text"), [("0", "0"), ("true", "1"), ("1", "1")])
def test_a_variable_reaches_the_engine_and_what_is_handed_over(pick: str, text: str, tmp_path: Path) -> None:
    made = vllm(f"VLLM_USE_DEEP_GEMM={pick}", "NCCL_ALGO=Ring")
    expected = {"VLLM_USE_DEEP_GEMM": text, "NCCL_ALGO": "Ring"}
    plan = planning.make(made, ASSETS, sweep_id="s", number=0, run_dir=tmp_path)
    assert {name: plan.env.get(name) for name in expected} == expected
    assert purpose.handed_over(made).runtime.env == expected
    assert not expected.keys() & {what.partition("=")[0] for what, _ in purpose.withheld(made)}
    assert server_command.flags(made) == ()


def test_true_and_1_are_the_same_setting_of_a_variable() -> None:
    assert asked(vllm("VLLM_USE_DEEP_GEMM=true")) == asked(vllm("VLLM_USE_DEEP_GEMM=1"))


def test_a_variable_is_set_in_one_place() -> None:
    with pytest.raises(ConfigError, match="leave one of them out"):
        vllm("NCCL_ALGO=Ring", "+runtime.env.NCCL_ALGO=Tree")


def test_a_secret_is_no_knob() -> None:
    with pytest.raises(ConfigError, match="looks like a secret"):
        vllm("+runtime.knobs.HF_TOKEN={kind: env, env: HF_TOKEN, help: of the hub}", "+HF_TOKEN=abc")


def test_a_variable_of_another_version_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not have this variable"):
        vllm("VLLM_ALLREDUCE_USE_FLASHINFER=1", "runtime.version=0.19.1")


def test_a_knob_that_does_nothing_is_not_offered() -> None:
    with pytest.raises(ConfigError, match="num_continuous_decode_steps is not a knob"):
        config("runtime=sglang", "num_continuous_decode_steps=4")
