"""`space=quick` as the overrides that it stands for."""

from pathlib import Path

import pytest

from pipeline.config import command_line, expand
from pipeline.core.errors import ConfigError
from pipeline.sweep import spaced
from pipeline.sweep.spaced import Spaced

SGLANG = ("runtime=sglang", "model=qwen3_8b", "hardware=h100", "traffic=long_prompt")


def made(*words: str) -> Spaced:
    found = spaced.expanded(words, is_sweep=True)
    assert found is not None
    return found


def test_a_command_without_a_space_stays_as_it_is() -> None:
    assert spaced.expanded(["n_threads=1,2"], is_sweep=True) is None
    assert spaced.expanded(["experiment=smoke"], is_sweep=True) is None


@pytest.mark.parametrize(("engine", "space"), [("sglang", "standard"), ("sglang", "moe"), ("vllm", "thorough")])
def test_no_knob_needs_to_be_named(engine: str, space: str) -> None:
    found = made(f"space={space}", f"runtime={engine}", "model=qwen3_30b_a3b", "hardware=h100", "traffic=long_prompt")
    outline = command_line.check(found.overrides, is_sweep=True)
    assert outline.total
    assert len(outline.swept) >= 2
    assert not any(word.startswith("space=") for word in found.overrides)
    assert f"space={space} of {engine}" in found.summary


def test_trials_are_as_many_as_the_tier_says_unless_the_command_does() -> None:
    assert "hydra.sweeper.n_trials=8" in made("space=quick", *SGLANG).overrides
    own = made("space=quick", "hydra.sweeper.n_trials=5", *SGLANG).overrides
    assert [word for word in own if "n_trials" in word] == ["hydra.sweeper.n_trials=5"]
    assert not any("n_trials" in word for word in made("space=quick", "hydra/sweeper=basic", *SGLANG).overrides)


def test_a_knob_on_the_command_line_overrides() -> None:
    found = made("space=standard", "attention_backend=fa3,flashinfer", "page_size=32", *SGLANG)
    assert [word for word in found.overrides if "attention_backend" in word] == ["attention_backend=fa3,flashinfer"]
    assert "attention_backend: set by the command" in found.told


def test_engines_side_by_side_have_their_own_knobs() -> None:
    found = made("space=quick", "runtime=sglang,vllm", *SGLANG[1:])
    assert any(word.startswith("sglang.attention_backend=null,") for word in found.overrides)
    assert any(word.startswith("vllm.max_num_batched_tokens=null,") for word in found.overrides)
    assert command_line.check(found.overrides, is_sweep=True).total == 16
    assert len(found.summary.splitlines()) == 2


def test_every_value_and_what_was_left_out_is_told_with_its_source() -> None:
    told = made("space=quick", *SGLANG).told
    assert "chunked_prefill_size=null,2048,4096" in told
    assert "[docs.sglang.io, advanced_features/hyperparameter_tuning]" in told
    assert "attention_backend=fa3: what the engine does by itself" in told


def test_llama_cpp_on_this_machine_has_a_quick_space() -> None:
    found = made("space=quick", "runtime=llamacpp")
    trials = list(expand.trials(found.overrides, is_sweep=True))
    assert 4 <= len(trials) <= 10
    assert trials[0].config.is_baseline


def test_an_experiment_may_choose_a_space(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "ours.yaml").write_text(
        "# @package _global_\n# Ours.\ndefaults: [override /space: quick]\n"
    )
    found = made(f"hydra.searchpath=[file://{tmp_path}]", "experiment=ours", *SGLANG)
    assert "space=none" in found.overrides
    assert command_line.check(found.overrides, is_sweep=True).total == 8


def test_own_tiers_lie_in_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "space" / "llamacpp").mkdir(parents=True)
    (tmp_path / "space" / "ours.yaml").write_text("# Ours.\nname: ours\n")
    entry = "{values: [64, 128], why: w, source: s}"
    text = f"trials: 3\nsources: [s]\nknobs: {{n_ubatch: {entry}}}\n"
    (tmp_path / "space" / "llamacpp" / "ours.yaml").write_text(text)
    found = made(f"hydra.searchpath=[file://{tmp_path}]", "space=ours", "runtime=llamacpp")
    assert "n_ubatch=null,64,128" in found.overrides


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["space=moe", "runtime=llamacpp"], "It has space=latency, long_context, quick"),
        (["space=moe", *SGLANG], "leaves nothing to search"),
        (["space=quick", "runtime=sglang", "model=deepseek_v3", "hardware=h100"], "tp_size=8: weights 80.2 GiB do not"),
        (["space=quick,standard", *SGLANG], "Name one space for all of the sweep"),
        (["space=quick", "runtime=sglang", "hydra/launcher=submitit_slurm"], "name it, e.g. hardware=h100"),
        (["space=quick", "backend=endpoint", "backend.url=http://localhost:1", "model=served"], "starts no engine"),
    ],
)
def test_where_there_is_nothing_to_search_it_is_said(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        spaced.expanded(words, is_sweep=True)


def test_a_space_is_a_sweep() -> None:
    with pytest.raises(ConfigError, match="add -m"):
        spaced.expanded(["space=quick"], is_sweep=False)
