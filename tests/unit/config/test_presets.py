"""hardware=auto: which option stands for the GPUs that were seen."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline.config import presets
from pipeline.core.errors import ConfigError
from pipeline.core.schema_hardware import Hardware, Seen

AUTO = Hardware(name="auto", gpu_count=0)
H100 = Seen(vendor="nvidia", name="NVIDIA H100 80GB HBM3", count=8, memory_gib=81559 / 1024, compute_capability=9.0)


def seen(name: str, memory_gib: float | None = None, **more: Any) -> Seen:
    return Seen(**{"vendor": "nvidia", "name": name, "count": 1, "memory_gib": memory_gib, **more})


@pytest.mark.parametrize(
    ("gpu", "option"),
    [
        (H100, "h100"),
        (seen("NVIDIA-H100-80GB-HBM3", 79.65), "h100"),
        (seen("NVIDIA A100-SXM4-40GB", 40.0), "a100_40"),
        (seen("NVIDIA A100-SXM4-80GB", 80.0), "a100_80"),
        (seen("NVIDIA GeForce RTX 4090", 23.99), "rtx4090"),
        (seen("AMD Instinct MI300X", 191.98, vendor="amd"), "mi300x"),
        (seen("NVIDIA H100 PCIe", 79.65), "h100_pcie"),
        (seen("NVIDIA A100 80GB PCIe", 80.0), "a100_80_pcie"),
        (seen("NVIDIA GB200", 185.03), "gb200"),
        (seen("NVIDIA A800 80GB PCIe", 80.0), "nvidia-a800-80gb-pcie"),
        (seen("NVIDIA H100 80GB HBM3", 9.75), "nvidia-h100-80gb-hbm3"),
    ],
    ids=[
        "by NVML's name",
        "by a label of a node",
        "40 GB",
        "80 GB",
        "a single one",
        "AMD",
        "another card with the same chip",
        "another card with the same memory",
        "a name that begins another's",
        "a card without an option",
        "a slice of one",
    ],
)
def test_the_option_is_found_by_name_and_memory(gpu: Seen, option: str) -> None:
    found = presets.resolved(AUTO, [gpu])
    assert found.name == option
    assert found.gpu_count == gpu.count


def test_an_unknown_gpu_gets_what_was_seen_and_no_more() -> None:
    gpu = seen("NVIDIA Z1", 20.0, compute_capability=12.1, count=2, nvlink=True)
    assert presets.resolved(AUTO, [gpu]) == Hardware(
        name="nvidia-z1", gpu_count=2, vendor="nvidia", gpu_memory_gib=20.0, compute_capability=12.1, nvlink=True
    )


def test_without_gpus_it_is_the_cpu() -> None:
    assert presets.resolved(AUTO, []) == presets.shipped()["cpu"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"gpu_memory_gib": 79.65, "nvlink": True}),
        ({"memory_gib": 77.0}, {"gpu_memory_gib": 77.0}),
        ({"memory_gib": None}, {"gpu_memory_gib": 79.65}),
        ({"nvlink": False}, {"nvlink": False}),
    ],
    ids=["the option's numbers", "a little less memory", "memory unknown", "no links in this machine"],
)
def test_what_was_seen_corrects_the_option(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    found = presets.resolved(AUTO, [replace(H100, **changes)])
    assert (found.name, found.bf16_tflops) == ("h100", 989)
    assert {name: getattr(found, name) for name in expected} == expected


def test_what_a_person_says_counts_for_more() -> None:
    given = replace(AUTO, gpu_count=2, gpu_ids=("4", "5"), usd_per_gpu_hour=2.5, cores_per_trial=8, gpu_memory_gib=70.0)
    found = presets.resolved(given, [H100])
    assert (found.name, found.gpu_count, found.gpu_ids, found.gpu_memory_gib) == ("h100", 2, ("4", "5"), 70.0)
    assert (found.usd_per_gpu_hour, found.cores_per_trial) == (2.5, 8)


def test_gpus_of_several_kinds_are_a_persons_choice() -> None:
    with pytest.raises(ConfigError, match=r"8 x NVIDIA H100 80GB HBM3 \(79.6 GiB\), 1 x NVIDIA L4.*gpu_ids"):
        presets.resolved(AUTO, [H100, seen("NVIDIA L4", 22.49)])


@pytest.mark.parametrize(
    ("named", "kinds", "words"),
    [
        ("h100", [H100], None),
        ("h100", [], None),
        ("a100_80", [H100], "hardware=a100_80, but what is there is 8 x NVIDIA H100 80GB HBM3"),
        ("cpu", [H100], "Trials use none of them"),
        ("cpu", [], None),
        ("auto", [H100], None),
    ],
    ids=["it is there", "nothing to be seen", "another GPU", "GPUs are left out", "a CPU", "auto"],
)
def test_named_hardware_that_is_not_there_is_told(named: str, kinds: list[Seen], words: str | None) -> None:
    told = presets.difference(presets.shipped()[named], kinds)
    assert (told is None) if words is None else (told is not None and words in told)


def test_an_option_of_the_users_own_fits_by_its_numbers() -> None:
    own = Hardware(name="ours", gpu_count=8, vendor="nvidia", gpu_memory_gib=80.0, compute_capability=9.0)
    assert presets.difference(own, [H100]) is None
    assert presets.difference(replace(own, gpu_memory_gib=40.0), [H100]) is not None
