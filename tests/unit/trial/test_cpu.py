"""An engine on the CPU: its image, the size of its KV cache, the memory that there is."""

from dataclasses import replace
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from pipeline.config.command_line import composed, to_config
from pipeline.core.errors import PreflightFailed
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.machine import memory
from pipeline.trial import cpu

VLLM = ("runtime=vllm", "model=qwen3_0_6b")
KV = "VLLM_CPU_KVCACHE_SPACE"


def config(*overrides: str) -> Config:
    with initialize_config_dir(str(CONF)):
        return to_config(composed([*VLLM, "hardware=cpu", *overrides]))


@pytest.fixture(autouse=True)
def machine_of_32_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total_gib", lambda: 32.0)
    monkeypatch.setattr(memory, "available_gib", lambda: 16.0)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), "8"),
        (("backend=docker",), "8"),
        (("backend=docker", "backend.container.memory_gib=6"), "1"),
        (("backend=ome", "backend.kubernetes.memory=64Gi"), "16"),
        (("backend=ome",), "4"),
        ((f"+runtime.env.{KV}=3",), "3"),
        ((f"+runtime.env.{KV}='2'",), "2"),
    ],
    ids=["a quarter", "of the host", "of the container", "of the pod", "unknown", "a number", "a word"],
)
def test_the_kv_cache_has_a_size(overrides: tuple[str, ...], expected: str) -> None:
    assert cpu.adapted(config(*overrides)).runtime.env[KV] == expected


def test_the_image_is_the_one_for_cpus() -> None:
    made = cpu.adapted(config("backend=docker"))
    assert made.runtime.image == f"vllm/vllm-openai-cpu:v{made.runtime.version}"
    assert made.runtime.image_gib is None


@pytest.mark.parametrize("overrides", [("hardware=h100",), ("hardware=auto",)], ids=["a GPU", "nobody has looked"])
def test_nothing_else_is_changed(overrides: tuple[str, ...]) -> None:
    given = config(*overrides)
    assert cpu.adapted(given) == given


def test_an_engine_without_settings_for_the_cpu_is_left_alone() -> None:
    given = config("runtime=llamacpp", "model=gemma3_270m")
    assert cpu.adapted(given) == given


def test_what_never_fits_is_refused() -> None:
    made = cpu.adapted(config(f"+runtime.env.{KV}=32"))
    with pytest.raises(PreflightFailed, match=r"32 GiB of KV cache .* 32\.0 GiB of memory") as caught:
        cpu.check_memory(made)
    assert f"+runtime.env.{KV}=1" in caught.value.hint


@pytest.mark.parametrize(("kv", "is_tight"), [("8", False), ("20", True)])
def test_what_is_free_is_told(kv: str, *, is_tight: bool) -> None:
    told = cpu.check_memory(cpu.adapted(config(f"+runtime.env.{KV}={kv}")))
    assert "16.0 of 32.0 GiB are free" in told
    assert ("warned" in told) == is_tight


@pytest.mark.parametrize("version", ["0.33.0", "0.33.0+cpu"])
def test_a_builds_version_is_the_releases(version: str) -> None:
    made = config(f"runtime.version={version}")
    assert made.runtime.version == "0.33.0"
    assert made.runtime.on_cpu.image == "vllm/vllm-openai-cpu:v0.33.0"


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/a/b\n", {"v2/a/memory.max": "1073741824", "v2/a/b/memory.max": "max"}, [2**30]),
        ("5:memory:/job\n1:cpu:/job\n", {"v1/job/memory.limit_in_bytes": "2147483648"}, [2**31]),
        ("0::/\n", {}, []),
    ],
    ids=["of a cgroup around ours", "version 1", "none"],
)
def test_limits_of_cgroups(
    lines: str, files: dict[str, str], expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup").write_text(lines)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name, place in {"OURS": "cgroup", "V2": "v2", "V1": "v1"}.items():
        monkeypatch.setattr(memory, name, tmp_path / place)
    assert list(memory._limits()) == expected


def test_a_trial_on_a_cpu_takes_no_gpu() -> None:
    assert replace(config(), knobs={"tensor_parallel_size": 2}).gpus == 0
