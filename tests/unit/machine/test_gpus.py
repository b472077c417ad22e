"""What NVML tells of the GPUs, on the stand-in for it: who uses them, which are near, what is not given back."""

import inspect
import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType

import pytest

from parts.nvml import Machine
from pipeline.machine import gpus
from pipeline.machine.gpus import Gpu
from support.places import FAKES


def load(place: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = PathFinder.find_spec("pynvml", [str(place)])
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pynvml", module)  # it looks itself up there
    spec.loader.exec_module(module)
    return module


def seen() -> tuple[Gpu, ...]:
    found = gpus.look()
    assert found is not None
    return found


def indexes(chosen: tuple[Gpu, ...]) -> list[int]:
    return [gpu.index for gpu in chosen]


def test_the_stand_in_spells_as_the_real_bindings_do(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    real, fake = load(packages, monkeypatch), load(FAKES / "nvml", monkeypatch)
    names = [name for name in vars(fake) if name.lower().startswith("nvml")]
    assert len(names) > 12
    for name in names:
        ours, theirs = getattr(fake, name), getattr(real, name)
        if inspect.isfunction(ours):
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), name
        elif not inspect.isclass(ours):
            assert ours == theirs, name


def test_without_a_driver_nobody_can_be_asked() -> None:
    assert gpus.look() is None


def test_tells_who_uses_a_gpu(machine: Machine) -> None:
    machine.has(4, {}, {"used_mib": 20000}, {"processes": {os.getpid(): 9000}}, {"processes": {4194305: 1}})
    idle, full, ours, unknown = seen()
    assert idle.busy is None
    assert full.busy == "19.5 GiB in use by a process that cannot be seen from here"
    assert ours.busy is not None
    assert f"process {os.getpid()} (" in ours.busy
    assert unknown.busy == "process 4194305 (?)"


def test_a_desktop_does_not_make_a_gpu_busy(machine: Machine) -> None:
    machine.has(1, {"used_mib": 1500, "total_mib": 24564})
    assert seen()[0].busy is None


def test_a_gpu_that_a_job_may_not_use_is_not_counted(machine: Machine) -> None:
    machine.has(3, {"forbidden": True})
    assert [(gpu.index, gpu.uuid) for gpu in seen()] == [(0, "GPU-00000001"), (1, "GPU-00000002")]


@pytest.mark.parametrize(
    ("ids", "found"),
    [(["2", "0"], [2, 0]), (["GPU-00000001"], [1]), (["GPU-0000000"], [0, 1, 2]), (["7", "MIG-1"], [])],
)
def test_finds_gpus_by_number_and_by_name(machine: Machine, ids: list[str], found: list[int]) -> None:
    machine.has(3)
    assert indexes(gpus.named(seen(), ids)) == found


@pytest.mark.parametrize(("count", "best"), [(1, [0]), (2, [1, 2]), (3, [1, 2, 3]), (4, [0, 1, 2, 3])])
def test_takes_those_of_one_side_of_the_machine(machine: Machine, count: int, best: list[int]) -> None:
    machine.has(4, {"node": 0}, {"node": 1}, {"node": 1}, {"node": 1})
    assert indexes(gpus.nearest(seen(), count)) == best


def test_takes_those_with_nvlink_between_them(machine: Machine) -> None:
    machine.has(4, *({"nvlinks": links} for links in ([3], [2], [1], [0])))
    assert indexes(gpus.nearest(seen(), 2)) == [0, 3]
    assert indexes(gpus.nearest(seen()[1:], 2)) == [1, 2]


def test_takes_the_first_ones_where_all_are_alike(machine: Machine) -> None:
    machine.has(8, *({"nvlinks": list(range(8))} for _ in range(8)))
    assert indexes(gpus.nearest(seen(), 4)) == [0, 1, 2, 3]


def test_names_memory_that_is_not_given_back(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "GIVEN_BACK_S", 0.3)
    machine.has(3, {"used_mib": 30720}, {"used_mib": 600})
    before = {gpu.uuid: 500 for gpu in seen()}
    assert gpus.kept(before) == ("GPU 0 still holds 29.5 GiB",)
    assert gpus.kept({**before, "GPU-00000000": 30000}) == ()


def test_memory_of_somebody_who_came_meanwhile_is_not_ours(machine: Machine) -> None:
    machine.has(1, {"used_mib": 30720, "processes": {os.getpid(): 30000}})
    assert gpus.kept({"GPU-00000000": 500}) == ()
