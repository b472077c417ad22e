"""The GPUs under conf/hardware, against genai-bench's list and one another."""

import re
from importlib.metadata import files

import pytest
import yaml

from pipeline.config import presets
from pipeline.core.places import CONF
from pipeline.core.schema_hardware import Hardware, Seen
from pipeline.core.values import parse

GPUS = [
    parse(Hardware, yaml.safe_load(path.read_text()))
    for path in sorted((CONF / "hardware").glob("*.yaml"))
    if path.stem not in {"auto", "cpu"}
]


def known_types() -> set[str]:
    """Read, not imported: genai-bench replaces Python's threads when it is imported."""
    [source] = [path for path in files("genai-bench") or [] if path.match("cli/option_groups.py")]
    choices = re.search(r'"--server-gpu-type",\s+type=click\.Choice\(\s+\[(.*?)\]', source.read_text(), re.DOTALL)
    assert choices
    return set(re.findall(r'"([^"]+)"', choices[1]))


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_a_gpu_is_described_in_full(gpu: Hardware) -> None:
    assert gpu.gpu_type is None or gpu.gpu_type in known_types()
    assert None not in {gpu.gpu_memory_gib, gpu.vendor, gpu.architecture, gpu.memory_bandwidth_gb_s, gpu.bf16_tflops}
    assert (gpu.compute_capability is None) == (gpu.nvlink is None) == (gpu.vendor == "amd")
    assert gpu.seen_as


def test_no_two_gpus_have_the_same_name() -> None:
    names = [presets.slug(name) for gpu in GPUS for name in gpu.seen_as]
    assert len(names) == len({*names})


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_auto_finds_the_gpu_by_its_name(gpu: Hardware) -> None:
    for name in gpu.seen_as:
        seen = Seen(vendor=gpu.vendor or "nvidia", name=name, count=gpu.gpu_count, memory_gib=gpu.gpu_memory_gib)
        assert presets.of(seen) == gpu
