"""The sensors of a trial's hardware, on stand-ins for NVML and for the kernel's energy counters."""

from pathlib import Path

import pytest

from parts.nvml import Machine
from pipeline.core.hardware_use import GpuSample, Sample
from pipeline.machine import hardware_meter, rapl
from pipeline.machine.hardware_meter import Meter

NO_SENSORS = {"power_mw": None, "busy": None}


def look(*ids: str) -> Sample | None:
    meter = Meter(ids, is_cpu=False)
    meter.begin()
    try:
        return meter.look()
    finally:
        meter.close()


def test_only_the_gpus_of_the_trial_are_read(machine: Machine) -> None:
    machine.has(4, {}, {"energy_mj": 5000, "power_mw": 250_000, "reasons": 0x4, "used_mib": 700}, {"forbidden": False})
    found = look("1")
    assert found is not None
    assert found.gpus == (
        GpuSample(
            index=1,
            utilisation=0.9,
            memory_utilisation=0.6,
            memory_used_mib=700,
            power_w=250.0,
            clock_mhz=1980,
            slowed_by=("power cap",),
            energy_j=5.0,
        ),
    )


def test_gpus_are_found_by_their_uuid(machine: Machine) -> None:
    machine.has(3)
    found = look("GPU-00000002", "0")
    assert found is not None
    assert sorted(gpu.index for gpu in found.gpus) == [0, 2]


def test_sensors_that_are_not_there_are_none_not_zero(machine: Machine) -> None:
    machine.has(1, NO_SENSORS)
    found = look("0")
    assert found is not None
    (gpu,) = found.gpus
    assert (gpu.utilisation, gpu.memory_utilisation, gpu.power_w, gpu.energy_j) == (None, None, None, None)
    assert gpu.clock_mhz == 1980


def test_without_nvml_or_gpus_there_is_nothing_to_read(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.has(1)
    assert look() is None
    monkeypatch.delenv("STANDIN_NVML")
    assert look("0") is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"energy_mj": None}, None),
        (NO_SENSORS, "GPU 0 has no power sensor that NVML knows"),
    ],
    ids=["counter", "power-alone", "blind"],
)
def test_whether_energy_can_be_measured_is_known_before(
    machine: Machine, change: dict[str, object], why: str | None
) -> None:
    machine.has(2, change)
    assert hardware_meter.why_no_energy(["0", "1"], is_cpu=False) == why


def test_without_nvml_the_energy_of_gpus_cannot_be_measured(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STANDIN_NVML")
    assert hardware_meter.why_no_energy(["0"], is_cpu=False) == "NVML does not tell of these GPUs"


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """Two packages, a part of one, and the platform that contains them."""
    for name, label in (
        ("intel-rapl", None),
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:1", "package-1"),
        ("intel-rapl:2", "psys"),
    ):
        (tmp_path / name).mkdir()
        if label:
            (tmp_path / name / "name").write_text(f"{label}\n")
            (tmp_path / name / "max_energy_range_uj").write_text("10000000\n")
            (tmp_path / name / "energy_uj").write_text("9000000\n")
    return tmp_path


def count(powercap: Path, zone: int, microjoules: int) -> None:
    (powercap / f"intel-rapl:{zone}" / "energy_uj").write_text(f"{microjoules}\n")


def test_packages_are_added_up_through_the_end_of_their_counters(powercap: Path) -> None:
    packages = rapl.Packages(powercap)
    assert packages.read_j() == 0.0
    count(powercap, 0, 9_500_000)
    count(powercap, 1, 2_000_000)
    assert packages.read_j() == pytest.approx(0.5 + 3.0)
    count(powercap, 2, 1)
    count(powercap, 0, 9_600_000)
    assert packages.read_j() == pytest.approx(3.6)


def test_a_cpu_engine_is_metered_by_its_packages(powercap: Path) -> None:
    meter = Meter((), is_cpu=True, powercap=powercap)
    meter.begin()
    assert meter.look() == Sample(cpu_energy_j=0.0)
    assert hardware_meter.why_no_energy((), is_cpu=True, powercap=powercap) is None


def test_counters_that_are_not_there_or_not_ours_to_read_are_told(powercap: Path, tmp_path: Path) -> None:
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    told = hardware_meter.why_no_energy((), is_cpu=True, powercap=powercap)
    assert told is not None
    assert told.startswith("the energy counters of the CPU cannot be read")
    assert Meter((), is_cpu=True, powercap=powercap).look() is None
    nothing = hardware_meter.why_no_energy((), is_cpu=True, powercap=tmp_path / "none")
    assert nothing is not None
    assert nothing.startswith("this machine has no energy counters of its CPU")
