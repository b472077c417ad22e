"""Whether this machine can run a trial: programs of the tests' own stand in for the engine's Python and nvidia-smi."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parts.nvml import Machine
from pipeline.core.errors import FailureKind, PreflightFailed
from pipeline.core.schema import Config
from pipeline.trial import checks
from support.records import CONFIG, make_config

RUNTIME = {
    **CONFIG["runtime"],
    "name": "sglang",
    "version": "0.5.23",
    "needs_modules": ["sglang"],
    "knobs": {"tp_size": {"kind": "int", "flag": "--tp", "help": "GPUs"}},
    "gpu_knobs": ["tp_size"],
}
H100 = {"name": "h100", "gpu_count": 8, "vendor": "nvidia"}


def trial(*, python: Path | None = None, version: str = "0.5.23", tp_size: int = 1, **sections: Any) -> Config:
    runtime = {**RUNTIME, "version": version, "python": python}
    return make_config(**{"runtime": runtime, "hardware": H100, "knobs": {"tp_size": tp_size}, **sections})


def check(config: Config, name: str) -> str:
    """What one check says."""
    return {**dict(checks.of(config)), "model llama": checks.model}[name](config)


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str], Path]:
    """A program that prints a text."""

    def make(name: str, text: str) -> Path:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ncat <<'TEXT'\n{text}TEXT\n")
        path.chmod(0o755)
        return path

    return make


@pytest.mark.parametrize("installed", ["0.5.23", "0.5.23+cu129"], ids=["release", "build"])
def test_the_engine_of_the_configured_version_is_well(program: Callable[..., Path], installed: str) -> None:
    python = program("python", f'{{"sglang": "{installed}"}}\n')
    assert check(trial(python=python), "package sglang") == installed


def test_another_version_is_refused_with_the_setting_that_mends_it(program: Callable[..., Path]) -> None:
    python = program("python", '{"sglang": "0.5.22"}\n')
    with pytest.raises(PreflightFailed, match=r"sglang 0\.5\.22 is installed in .*runtime\.version=0\.5\.23") as caught:
        check(trial(python=python), "package sglang")
    assert "Set runtime.version=0.5.22" in caught.value.hint
    assert "python -m pipeline.catalogues sglang==0.5.22" in caught.value.hint


def test_an_engine_that_is_not_installed_is_told_with_the_commands(program: Callable[..., Path]) -> None:
    python = program("python", '{"sglang": null}\n')
    with pytest.raises(PreflightFailed, match="The Python package sglang is not installed in") as caught:
        check(trial(python=python), "package sglang")
    assert "sglang==0.5.23) and set runtime.python=" in caught.value.hint


def test_a_python_that_is_none_is_told() -> None:
    with pytest.raises(PreflightFailed, match="'/nope/python', which is not found on the PATH") as caught:
        check(
            trial(python=Path("/nope/python"), runtime={**RUNTIME, "python": "/nope/python", "command": ["{python}"]}),
            "runtime sglang",
        )
    assert caught.value.hint == "Install it, or set runtime.python."


def test_a_program_without_the_right_to_execute_it_is_told(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.touch(mode=0o644)
    with pytest.raises(PreflightFailed, match=f"starts '{python}', which this user may not execute") as caught:
        check(
            trial(python=python, runtime={**RUNTIME, "python": str(python), "command": ["{python}"]}), "runtime sglang"
        )
    assert caught.value.hint == f"chmod +x {python}, or set runtime.python."


@pytest.fixture
def gpus(program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A machine with so many H100."""

    def make(count: int) -> None:
        path = program("nvidia-smi", "NVIDIA H100 80GB HBM3\n" * count)
        monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")

    return make


def test_gpus_are_counted(gpus: Callable[[int], None]) -> None:
    gpus(2)
    assert check(trial(tp_size=2), "hardware h100") == "2 x NVIDIA H100 80GB HBM3"


def test_too_few_gpus_are_told_before_deploying(gpus: Callable[[int], None]) -> None:
    gpus(2)
    with pytest.raises(PreflightFailed, match=r"needs 4 NVIDIA GPUs; this machine has 2 \(NVIDIA H100") as caught:
        check(trial(tp_size=4), "hardware h100")
    assert caught.value.kind == FailureKind.NO_GPU


def test_a_machine_without_gpus_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(checks, "NVIDIA_DEVICE", tmp_path / "nvidiactl")
    with pytest.raises(PreflightFailed, match="needs 1 NVIDIA GPU; this machine has none"):
        check(trial(), "hardware h100")


def test_a_driver_without_nvidia_smi_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(checks, "NVIDIA_DEVICE", tmp_path / "nvidiactl")
    assert "not counted" in check(trial(tp_size=8), "hardware h100")


def test_nvml_counts_where_it_answers(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere else: whether nvidia-smi is installed beside the driver says nothing of the GPUs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    machine.has(3, {"name": "NVIDIA L4"}, {"name": "NVIDIA L4"}, {"name": "NVIDIA H100 80GB HBM3"})
    assert check(trial(), "hardware h100") == "2 x NVIDIA L4, 1 x NVIDIA H100 80GB HBM3"


def test_no_gpu_is_looked_for_where_none_is_meant() -> None:
    config = trial(hardware=CONFIG["hardware"])
    assert not any(name.startswith("hardware") for name, _check in checks.of(config))


@pytest.fixture
def hub_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    return tmp_path


ARCH = {
    "attention": "gqa", "layers": 16, "hidden_size": 2048, "heads": 32, "kv_heads": 8, "head_dim": 64,
    "parameters_b": 1.24, "active_parameters_b": 1.24, "weights_gib": 0.1, "dtype": "bfloat16",
    "context_tokens": 131072,
}  # fmt: skip
REPO: dict[str, Any] = {"name": "llama", "repo": "meta-llama/Llama", "served_name": "llama", "arch": ARCH}


def test_a_model_that_will_be_downloaded_says_how_much(hub_at: Path) -> None:
    assert check(trial(model=REPO), "model llama") == (f"meta-llama/Llama: 0.1 GiB will be downloaded to {hub_at}/hub")


def test_a_gated_model_without_a_token_is_refused(hub_at: Path) -> None:
    with pytest.raises(PreflightFailed, match="is gated, and there is no Hugging Face token") as caught:
        check(trial(model={**REPO, "gated": True}), "model llama")
    assert caught.value.kind == FailureKind.MODEL_GATED


def test_a_gated_model_with_a_token_is_well(hub_at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    assert "will be downloaded" in check(trial(model={**REPO, "gated": True}), "model llama")


def test_a_model_larger_than_the_disk_is_refused(hub_at: Path) -> None:
    big = {**REPO, "arch": {**ARCH, "weights_gib": 1e9}}
    with pytest.raises(PreflightFailed, match=r"needs 1000000000\.0 GiB to download; .* GiB free") as caught:
        check(trial(model=big), "model llama")
    assert "HF_HOME" in caught.value.hint


def test_a_runtime_of_gguf_files_refuses_others(hub_at: Path) -> None:
    config = trial(model=REPO)
    config = replace(config, runtime=replace(config.runtime, needs_gguf=True))
    with pytest.raises(PreflightFailed, match="serves only GGUF files; model=llama is not a GGUF file"):
        check(config, "model llama")


def addressed(host: str) -> Config:
    return make_config(backend={**CONFIG["backend"], "host": host})


def test_an_address_of_another_machine_is_refused_before_deploying() -> None:
    found = dict(checks.of(addressed("192.0.2.1")))  # RFC 5737: of no machine
    with pytest.raises(PreflightFailed, match=r"backend.host=192.0.2.1 cannot be used on this machine: Cannot assign"):
        found["address 192.0.2.1"](addressed("192.0.2.1"))


def test_an_address_of_this_machine_is_well() -> None:
    assert checks.address(addressed("127.0.0.1")).startswith("a server can listen there")
