"""The GPUs that hardware=auto sees on this machine."""

import json
from pathlib import Path
from typing import Any

import pytest

from parts.nvml import Machine
from pipeline.core.errors import ConfigError
from pipeline.core.schema_hardware import Seen
from pipeline.machine import amd, detected

L4 = {"name": "NVIDIA L4", "total_mib": 23034, "compute_capability": 8.9}
MI300X = [
    {
        "gpu": index,
        "asic": {"market_name": "AMD Instinct MI300X", "vendor_id": "0x1002"},
        "vram": {"type": "HBM", "size": {"value": 196592, "unit": "MB"}},
    }
    for index in range(2)
]
CARDS = {
    **{
        f"card{index}": {
            "Card Series": "AMD Instinct MI300X",
            "VRAM Total Memory (B)": "206141652992",
            "VRAM Total Used Memory (B)": "297947136",
        }
        for index in range(2)
    },
    "system": {"Driver version": "6.8.5"},
}


def tool(folder: Path, name: str, prints: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program on the PATH that prints this."""
    (folder / "text").write_text(prints)
    (folder / name).write_text(f"#!/bin/sh\ncat {folder}/text\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_without_gpus_there_are_none() -> None:
    assert detected.here() == ()


def test_what_nvml_says(machine: Machine) -> None:
    machine.has(2, *({"nvlinks": [0, 1], "name": "NVIDIA H100 80GB HBM3", "total_mib": 81559},) * 2)
    assert detected.here() == (
        Seen(
            vendor="nvidia",
            name="NVIDIA H100 80GB HBM3",
            count=2,
            memory_gib=81559 / 1024,
            compute_capability=9.0,
            nvlink=True,
        ),
    )


@pytest.mark.parametrize(
    ("changes", "nvlink"),
    [(({"nvlinks": [0]}, {"nvlinks": [1]}), False), (({},), None)],
    ids=["no links", "a single GPU has nobody to be linked with"],
)
def test_links(changes: tuple[dict[str, Any], ...], nvlink: bool | None, machine: Machine) -> None:
    machine.has(len(changes), *changes)
    assert detected.here()[0].nvlink is nvlink


def test_kinds_are_told_apart(machine: Machine) -> None:
    machine.has(3, L4)
    first, second = detected.here()
    assert (first.count, second.name, second.compute_capability) == (2, "NVIDIA L4", 8.9)


@pytest.mark.parametrize(
    ("visible", "ids", "expected"),
    [
        ("0", (), [1]),
        ("", (), []),
        ("-1", (), []),
        ("NoDevFiles", (), []),
        ("0, 2", (), [2]),
        (None, ("1", "2"), [2]),
        (None, (), [3]),
    ],
    ids=["those that CUDA sees", "none", "CUDA's word for none", "nobody's word", "blanks", "ids", "all"],
)
def test_only_gpus_that_trials_may_take(
    visible: str | None, ids: tuple[str, ...], expected: list[int], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.has(3)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [kind.count for kind in detected.here(ids)] == expected


def test_slices_have_to_be_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.has(1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1234")
    with pytest.raises(ConfigError, match="MIG"):
        detected.here()


@pytest.mark.parametrize(
    ("name", "prints"),
    [
        ("amd-smi", json.dumps(MI300X)),
        ("amd-smi", json.dumps({"gpu_data": MI300X})),
        ("amd-smi", "WARNING: User is missing the following required groups\n" + json.dumps(MI300X)),
        ("rocm-smi", json.dumps(CARDS)),
    ],
    ids=["amd-smi", "newer amd-smi", "with a warning", "rocm-smi"],
)
def test_what_amds_tools_say(name: str, prints: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, name, prints, monkeypatch)
    [seen] = amd.look()
    assert (seen.vendor, seen.name, seen.count) == ("amd", "AMD Instinct MI300X", 2)
    assert seen.memory_gib == pytest.approx(191.98, abs=0.02)
    assert detected.here() == (seen,)


@pytest.mark.parametrize(
    ("env", "count"),
    [
        ({"ROCR_VISIBLE_DEVICES": "1"}, 1),
        ({"ROCR_VISIBLE_DEVICES": "0,1", "HIP_VISIBLE_DEVICES": "1"}, 1),
        ({"HIP_VISIBLE_DEVICES": "-1"}, 0),
        ({"ROCR_VISIBLE_DEVICES": ""}, 0),
    ],
)
def test_amds_tools_count_what_the_variables_hide(
    env: dict[str, str], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool(tmp_path, "amd-smi", json.dumps(MI300X), monkeypatch)
    for name, text in env.items():
        monkeypatch.setenv(name, text)
    assert sum(kind.count for kind in detected.here()) == count


@pytest.mark.parametrize("prints", ["", "No GPU\n", "[]", "{}", '[{"gpu": 0}]', '{"card0": "?"}', "[1, 2"])
def test_tools_that_say_something_else_are_not_believed(
    prints: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool(tmp_path, "amd-smi", prints, monkeypatch)
    assert amd.look() == ()


@pytest.mark.parametrize(("ids", "visible"), [(("9",), None), ((), "7")], ids=["gpu_ids", "CUDA_VISIBLE_DEVICES"])
def test_gpus_that_are_not_there_are_not_the_cpu(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, ids: tuple[str, ...], visible: str | None
) -> None:
    machine.has(2)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ConfigError, match=r"=\[?[97]\]?: expected GPUs of this machine, which has 0, 1\."):
        detected.here(ids)


def test_without_nvml_nobody_can_tell_of_named_gpus() -> None:
    assert detected.here(("1",)) == ()


def test_all_gpus_can_be_hidden(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.has(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert detected.here() == ()


@pytest.mark.parametrize(
    ("visible", "ids", "lent", "expected"),
    [
        ("0,1", ("1",), False, [1]),
        ("0,1", ("1", "2"), False, r"hardware\.gpu_ids=\[1,2\]: CUDA_VISIBLE_DEVICES=0,1 hides GPU 2\. Name GPUs"),
        ("", ("1",), False, r"CUDA_VISIBLE_DEVICES= hides GPU 1\."),
        (None, ("0", "9"), False, r"gpu_ids=\[0,9\]: expected GPUs of this machine, which has 0, 1, 2\."),
        (None, ("0", "0", "GPU-00000000"), False, [1]),
        ("0, 1", ("GPU-00000002",), False, r"CUDA_VISIBLE_DEVICES=0, 1 hides GPU GPU-00000002\."),
        ("0,1", ("1", "2"), True, [1]),
    ],
    ids=["shown", "hidden", "all are hidden", "one is not there", "named twice", "hidden by UUID", "lent"],
)
def test_cuda_visible_devices_limits_the_ids_too(
    *,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    ids: tuple[str, ...],
    lent: bool,
    expected: list[int] | str,
) -> None:
    machine.has(3)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if lent:
        monkeypatch.setenv("SLURM_JOB_ID", "7")
    if isinstance(expected, str):
        with pytest.raises(ConfigError, match=expected):
            detected.here(ids)
    else:
        assert [kind.count for kind in detected.here(ids)] == expected
