"""Which AMD GPUs trials may take, and that each has one lock however it is named, on a made-up KFD."""

from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.machine import amd_gpus
from pipeline.machine.amd_gpus import AmdGpu

UNIQUE = (0xBABABABABABABABA, 0xABBAABBAABBAABBA, 0xBABAABBAABBABABA, 0xABBABABABABAABBA)
KEYS = tuple(f"GPU-{number:016x}" for number in UNIQUE)


@pytest.fixture
def kfd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two CPUs and four GPUs, of which the kernel shows all; node 10 comes after node 9."""
    for node, unique in enumerate((0, 0, *UNIQUE), start=6):
        write(tmp_path / str(node), simd_count=0 if node < 8 else 1216, unique_id=unique)
    monkeypatch.setattr(amd_gpus, "NODES", tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)


def write(node: Path, **told: int) -> None:
    node.mkdir(exist_ok=True)
    (node / "properties").write_text("".join(f"{name} {number}\n" for name, number in told.items()))


def gpus(*pairs: tuple[str, str]) -> tuple[AmdGpu, ...]:
    return tuple(AmdGpu(id=id_, key=key, place=str(KEYS.index(key)) if key in KEYS else key) for id_, key in pairs)


def test_the_kernels_order_is_rocrs(kfd: Path) -> None:
    assert amd_gpus.machine() == KEYS
    write(kfd / "8", simd_count=0)
    write(kfd / "9", simd_count=8, unique_id=0, domain=1, location_id=0x4300)
    (kfd / "10" / "properties").unlink()
    assert amd_gpus.machine() == ("GPU-at-0001-4300", KEYS[3])


@pytest.mark.parametrize(
    ("env", "ids", "expected"),
    [
        ({}, (), gpus(*((str(n), key) for n, key in enumerate(KEYS)))),
        ({}, (" 1", "GPU-ABBAB"), gpus(("1", KEYS[1]), ("3", KEYS[3]))),
        ({"ROCR_VISIBLE_DEVICES": "2,GPU-babababa"}, (), gpus(("0", KEYS[2]), ("1", KEYS[0]))),
        ({"ROCR_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "1"}, (), gpus(("1", KEYS[3]))),
        ({"ROCR_VISIBLE_DEVICES": "2,3", "CUDA_VISIBLE_DEVICES": "1, 0"}, (), gpus(("1", KEYS[3]), ("0", KEYS[2]))),
        ({"HIP_VISIBLE_DEVICES": "1,9,0"}, (), gpus(("1", KEYS[1]))),
        ({"HIP_VISIBLE_DEVICES": ""}, (), ()),
        ({"ROCR_VISIBLE_DEVICES": "-1"}, (), ()),
        ({"ROCR_VISIBLE_DEVICES": "2,3"}, ("1", KEYS[3]), gpus(("1", KEYS[3]))),
    ],
    ids=["all", "ids", "rocr", "hip in rocr", "cuda in rocr", "cut off", "empty", "none", "ids in rocr"],
)
def test_every_way_to_name_a_gpu_leads_to_its_own_key(
    kfd: Path, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], ids: tuple[str, ...], expected: tuple[AmdGpu, ...]
) -> None:
    assert kfd.is_dir()
    for name, text in env.items():
        monkeypatch.setenv(name, text)
    assert amd_gpus.allowed(ids, 1) == expected


@pytest.mark.parametrize(
    ("env", "ids", "words"),
    [
        ({"ROCR_VISIBLE_DEVICES": "2,3"}, ("2",), "ROCR_VISIBLE_DEVICES=2,3 hides GPU 2. Name GPUs"),
        ({"ROCR_VISIBLE_DEVICES": "2,3"}, (KEYS[0],), f"ROCR_VISIBLE_DEVICES=2,3 hides GPU {KEYS[0]}"),
        ({"HIP_VISIBLE_DEVICES": "0"}, ("1",), "HIP_VISIBLE_DEVICES=0 hides GPU 1"),
        ({"CUDA_VISIBLE_DEVICES": "0"}, ("1",), "CUDA_VISIBLE_DEVICES=0 hides GPU 1"),
        ({}, ("9",), "expected GPUs of this machine, which has 0 (GPU-baba"),
    ],
)
def test_a_message_names_the_variable_that_hides_a_gpu(
    kfd: Path, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], ids: tuple[str, ...], words: str
) -> None:
    assert kfd.is_dir()
    for name, text in env.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ConfigError) as told:
        amd_gpus.allowed(ids, 1)
    assert words in str(told.value)


def test_in_a_job_those_ids_count_that_it_was_lent(kfd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kfd.is_dir()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "2,3")
    assert amd_gpus.allowed(("1", "5"), 1) == gpus(("1", KEYS[3]))


@pytest.mark.parametrize(
    ("env", "ids", "expected"),
    [
        ({}, (), gpus(("0", "0"), ("1", "1"))),
        ({}, ("05", "5"), gpus(("5", "5"))),
        ({"HIP_VISIBLE_DEVICES": "4, 5"}, (), gpus(("4", "4"), ("5", "5"))),
        ({"ROCR_VISIBLE_DEVICES": "6,7", "HIP_VISIBLE_DEVICES": "1"}, (), gpus(("1", "7"))),
    ],
    ids=["believed", "ids", "hip", "hip in rocr"],
)
def test_where_nobody_tells_the_variables_are_believed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    env: dict[str, str],
    ids: tuple[str, ...],
    expected: tuple[AmdGpu, ...],
) -> None:
    monkeypatch.setattr(amd_gpus, "NODES", tmp_path / "none")
    for name, text in env.items():
        monkeypatch.setenv(name, text)
    assert amd_gpus.allowed(ids, 2) == expected


def test_what_the_tools_count_is_cut_to_what_is_shown(kfd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kfd.is_dir()
    assert amd_gpus.positions(4) == (0, 1, 2, 3)
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", f"{KEYS[3]},1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert amd_gpus.positions(4) == (3,)
    assert amd_gpus.positions(2) == ()  # the kernel counts others: UUIDs mean nothing
