"""hardware=auto, resolved where trials run, before anything is judged or compared."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir

from fakes.tiny_hf import write_tiny_hf
from parts.nvml import Machine
from pipeline.config.command_line import composed, to_config
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.trial import cached, hardware
from support.cli import pipeline
from support.places import FAKES, TESTS

A100 = {"name": "NVIDIA A100-SXM4-80GB", "total_mib": 81920, "compute_capability": 8.0}
H100 = {"name": "NVIDIA H100 80GB HBM3", "total_mib": 81559}
REMOTE = "backend=docker", "backend.container.socket=tcp://127.0.0.1:9"


@pytest.fixture(autouse=True)
def nothing_was_seen() -> Iterator[None]:
    hardware.forget()
    yield
    hardware.forget()


def config(*overrides: str) -> Config:
    with initialize_config_dir(str(CONF)):
        return to_config(composed(["runtime=sglang", "model=llama31_8b", *overrides]))


def key(made: Config, environment: dict[str, str]) -> str:
    return cached.key(made, made.knobs, environment)


@pytest.mark.parametrize("count", [1, 8])
def test_auto_and_the_name_share_the_cache_key(count: int, machine: Machine) -> None:
    machine.has(count, *(H100 | {"nvlinks": [*range(count)]} for _ in range(count)))
    found = hardware.resolved(config("tp_size=1"))
    assert (found.hardware.name, found.hardware.gpu_count) == ("h100", count)
    assert key(found, {}) == key(config("hardware=h100", "tp_size=1"), {})


def test_a_record_of_another_gpu_does_not_answer(machine: Machine) -> None:
    machine.has(1, H100)
    on_h100 = hardware.resolved(config())
    machine.has(1, A100)
    hardware.forget()
    assert key(on_h100, {}) != key(hardware.resolved(config()), {})


def test_without_a_gpu_it_is_the_cpu() -> None:
    found = hardware.resolved(config())
    assert (found.hardware.name, found.gpus) == ("cpu", 0)


def test_an_engine_for_the_cpu_leaves_gpus_alone(machine: Machine) -> None:
    machine.has(8)
    found = hardware.resolved(config("runtime=llamacpp"))
    assert (found.hardware.name, found.gpus) == ("cpu", 0)
    assert hardware.difference(found) is None


def test_different_gpus_are_chosen_by_a_person(machine: Machine) -> None:
    machine.has(2, H100, A100)
    with pytest.raises(ConfigError, match="the GPUs differ"):
        hardware.resolved(config())
    assert hardware.resolved(config("hardware.gpu_ids=[1]")).hardware.name == "a100_80"


def test_a_docker_daemon_on_this_machine_has_its_gpus(machine: Machine) -> None:
    machine.has(1, H100)
    assert hardware.resolved(config("backend=docker")).hardware.name == "h100"


def test_named_hardware_is_left_as_it_is_and_the_difference_told(machine: Machine) -> None:
    machine.has(1, A100)
    named = config("hardware=h100")
    assert hardware.resolved(named) == named
    assert "what is there is 1 x NVIDIA A100-SXM4-80GB (80.0 GiB)" in str(hardware.difference(named))


def test_nobody_can_tell_the_difference_of_what_does_not_answer() -> None:
    assert hardware.difference(config("hardware=h100", *REMOTE)) is None


@pytest.fixture
def stand_in(tmp_path: Path) -> dict[str, Any]:
    """The stand-ins for the engine and for NVML, and the model, for `pipeline`."""
    places = os.pathsep.join(str(FAKES / name) for name in ("site", "nvml"))
    env = {"PYTHONPATH": places, "PATH": f"{TESTS / 'fakes' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    return {"folder": tmp_path / "out", "gguf": write_tiny_hf(tmp_path / "tiny"), "env": env}


def test_record_and_hydras_folder_show_what_was_found(machine: Machine, stand_in: dict[str, Any]) -> None:
    machine.has(1, H100)
    chosen = ("runtime=sglang", "model=local", f"model.path={stand_in['gguf']}", "page_size=32")
    result = pipeline(*chosen, **stand_in, sweep=True)
    assert result.code == 0, result.err
    [record] = result.records
    assert (record.config.hardware.name, record.config.hardware.gpu_count) == ("h100", 1)
    assert record.deployment["gpus"] == "0"
    written = yaml.safe_load((result.folder / "0" / ".hydra" / "config.yaml").read_text())
    assert (written["hardware"]["name"], written["hardware"]["gpu_memory_gib"]) == ("h100", 79.65)
    assert written["runtime"]["name"] == "sglang"


def test_the_record_says_that_other_hardware_was_named(machine: Machine, stand_in: dict[str, Any]) -> None:
    machine.has(1, A100)
    chosen = ("runtime=sglang", "model=local", f"model.path={stand_in['gguf']}", "page_size=32", "hardware=h100")
    [record] = pipeline(*chosen, **stand_in, sweep=True).records
    assert any(note.startswith("warned: hardware=h100, but what is there is 1 x NVIDIA A100") for note in record.notes)
