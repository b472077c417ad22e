"""The verdict before a deployment: rules, then memory; and what is refused."""

from pathlib import Path

import pytest
from hydra import initialize_config_dir

from fakes.tiny_hf import write_tiny_hf
from pipeline.config.command_line import composed, to_config
from pipeline.core.errors import FailureKind, PreflightFailed
from pipeline.core.findings import Verdict
from pipeline.core.places import CONF
from pipeline.trial import preflight


def foreseen(*overrides: str) -> Verdict:
    with initialize_config_dir(str(CONF)):
        return preflight.foresee(to_config(composed(list(overrides))))


def refused(*overrides: str) -> PreflightFailed:
    with pytest.raises(PreflightFailed) as caught:
        preflight.refuse(foreseen(*overrides))
    return caught.value


def test_a_model_that_does_not_fit_is_refused_with_the_sum() -> None:
    found = refused("runtime=vllm", "model=llama33_70b", "hardware=h100")
    assert found.kind == FailureKind.DOES_NOT_FIT
    assert str(found).startswith("Refused: weights 131.4 GiB do not fit 73.3 of 79.7 GiB per GPU")
    assert "runtime.memory=null" in found.hint


def test_a_combination_that_cannot_start_is_refused_with_the_reason() -> None:
    found = refused("runtime=sglang", "hardware=b200", "attention_backend=fa3")
    assert found.kind == FailureKind.UNSUPPORTED_COMBINATION
    assert str(found).startswith("Refused: fa3 on compute capability 10.0")
    assert "runtime.rules=[]" in found.hint


@pytest.mark.parametrize(
    "overrides",
    [
        ("runtime=vllm", "model=llama33_70b", "hardware=h100", "runtime.memory=null"),
        ("runtime=sglang", "hardware=b200", "attention_backend=fa3", "runtime.rules=[]"),
    ],
    ids=["memory", "rules"],
)
def test_who_knows_better_can_leave_a_check_out(overrides: tuple[str, ...]) -> None:
    preflight.refuse(foreseen(*overrides))


def test_what_is_only_tight_is_not_refused() -> None:
    found = foreseen("runtime=sglang", "model=llama33_70b", "hardware=h100", "tp_size=2", "traffic=long_prompt")
    assert found.word == "warned"
    preflight.refuse(found)


def test_a_folder_tells_its_architecture(tmp_path: Path) -> None:
    with initialize_config_dir(str(CONF)):
        tree = composed(["runtime=sglang", "model=local", f"model.path={write_tiny_hf(tmp_path / 'tiny')}"])
        arch = to_config(tree).model.arch
    assert arch is not None
    assert (arch.layers, arch.heads, arch.kv_heads, arch.hidden_size) == (2, 4, 2, 64)


def test_a_folder_that_does_not_is_served_unchecked(tmp_path: Path) -> None:
    folder = write_tiny_hf(tmp_path / "tiny")
    (folder / "config.json").write_text('{"architectures": ["Odd"]}')
    found = foreseen("runtime=sglang", "model=local", f"model.path={folder}", "hardware=h100")
    assert [(finding.rule, finding.verdict) for finding in found.findings] == [("memory_unknown", "warned")]
