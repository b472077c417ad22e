"""The sensors of a trial's hardware around and during a level, and what an objective of energy needs."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import make_plan
from parts.nvml import Machine
from pipeline.bench import ledger
from pipeline.core.errors import PreflightFailed
from pipeline.core.plan import Slots
from pipeline.core.record import Level
from pipeline.core.schema import Config
from pipeline.machine import rapl
from pipeline.machine.sampler import Sampler
from pipeline.trial import checks, hardware_watch, preflight
from pipeline.trial.hardware_watch import AMD, ELSEWHERE, NAME, THERE, HardwareWatch
from support.records import make_config, make_levels, make_metrics

GPUS: dict[str, Any] = {"name": "h100", "gpu_count": 1, "vendor": "nvidia"}
ENDPOINT = {"name": "endpoint", "target": "pipeline.backends.endpoint.Endpoint", "url": "http://127.0.0.1:8000"}
JOULES: dict[str, Any] = {"objective": ["joules_per_output_token"]}


def watch(folder: Path, *, ids: tuple[str, ...] = ("1",), **sections: Any) -> HardwareWatch:
    config = make_config(**{"hardware": GPUS, **sections})
    return HardwareWatch(config, replace(make_plan(folder), slots=Slots(gpu_ids=ids)))


def measured(watched: HardwareWatch, folder: Path) -> Level:
    """A level that begins with the scope and lasts a little; it is looked at when it begins and ends, at least."""
    with watched.level() as level:
        began = time.monotonic()
        time.sleep(0.3)
        duration = time.monotonic() - began
        (folder / ledger.NAME).write_text("")
    metrics = make_metrics(run_duration_s=duration, output_tokens_per_s=100.0)
    return level.told(replace(make_levels()[0], metrics=metrics, warnings=()), folder, folder.parent)


def test_a_level_has_the_energy_of_the_trials_own_gpus(machine: Machine, tmp_path: Path) -> None:
    steady = {"power_mw": 200_000, "energy_mj": None}  # a counter runs on where the machine holds up the reader of it
    machine.has(2, {"power_mw": 900_000}, steady)
    found = measured(watch(tmp_path), tmp_path)
    assert found.hardware is not None
    assert [one.index for one in found.hardware.gpus] == [1]
    assert found.hardware.power_w == pytest.approx(200.0)
    assert found.metrics is not None
    assert found.metrics.joules_per_output_token == pytest.approx(2.0)
    assert found.metrics.tokens_per_s_per_watt == pytest.approx(0.5)
    assert found.hardware.series_file == f"{tmp_path.name}/{NAME}"
    assert "gpu1.power_w" in json.loads((tmp_path / NAME).read_text())["columns"]


def test_sensors_that_are_not_there_give_no_number(machine: Machine, tmp_path: Path) -> None:
    machine.has(2, {}, {"power_mw": None})
    found = measured(watch(tmp_path), tmp_path)
    assert found.hardware is not None
    assert (found.hardware.power_w, found.hardware.missing) == (None, "no sensor tells of its power")
    assert found.hardware.gpus[0].utilisation == 0.9
    assert found.metrics is not None
    assert found.metrics.joules_per_output_token is None


def test_hardware_elsewhere_is_not_read(tmp_path: Path) -> None:
    remote = {"name": "docker", "target": "pipeline.backends.docker.Docker", "container": {"socket": "tcp://far:1"}}
    watched = watch(tmp_path, backend=remote)
    with watched.level() as level:
        assert level.meter is None
    found = level.told(make_levels()[0], tmp_path, tmp_path.parent)
    assert found.hardware is not None
    assert (found.hardware.samples, found.hardware.missing) == (0, ELSEWHERE)


def test_looking_takes_a_hundredth_of_a_core_at_most(machine: Machine, tmp_path: Path) -> None:
    """By its own account: whatever a look costs, the pause after it is a hundred times that."""
    machine.has(2)
    meter = watch(tmp_path).meter()
    assert meter is not None
    meter.begin()
    sampler = Sampler(meter.look)
    for _ in range(20):
        sampler.once()
    meter.close()
    assert sampler.cpu_s / sampler.looks <= 0.01 * sampler.pause_s * (1 + 1e-9)  # rounding


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"backend": ENDPOINT, "hardware": {"name": "unknown", "gpu_count": 0}}, THERE),
        ({"hardware": {"name": "mi300x", "gpu_count": 1, "vendor": "amd"}}, AMD),
    ],
    ids=["endpoint", "amd"],
)
def test_sensors_that_are_not_those_of_the_engine_are_not_read(
    sections: dict[str, Any], why: str, tmp_path: Path
) -> None:
    """Least of all this machine's CPU for a server that may run anywhere."""
    watched = watch(tmp_path, ids=(), **sections)
    assert watched.meter() is None
    found = measured(watched, tmp_path)
    assert found.hardware is not None
    assert (found.hardware.missing, found.hardware.power_w) == (why, None)
    assert hardware_watch.outlook(watched.config) == f"not measured: {why}"
    with pytest.raises(PreflightFailed, match="cannot be measured here"):
        hardware_watch.check(replace(watched.config, objective=("joules_per_output_token",)))


def test_the_doctor_says_whether_energy_is_measured(machine: Machine) -> None:
    machine.has(1)
    gpus = make_config(hardware=GPUS)
    assert hardware_watch.outlook(gpus) == "measured: joules_per_output_token, tokens_per_s_per_watt"
    cli = replace(gpus, bench=replace(gpus.bench, runner="cli"))
    assert hardware_watch.outlook(cli) == "not measured: bench.runner=cli does not tell when its load began"
    found = [(one.name, one.error) for one in preflight.examine(cli)]
    assert found.count(("energy", None)) == 1


def energy_check(config: Config) -> str:
    return dict(checks.of(config))["energy"](config)


def test_only_an_objective_of_energy_asks_for_sensors() -> None:
    assert "energy" not in dict(checks.of(make_config()))
    assert "energy" in dict(checks.of(make_config(objective=["tokens_per_s_per_watt", "ttft_p95_s"])))


@pytest.mark.parametrize("objective", ["joules_per_output_token", "tokens_per_s_per_watt"])
def test_energy_that_cannot_be_measured_is_refused_before_anything(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, objective: str, tmp_path: Path
) -> None:
    monkeypatch.setattr(rapl, "ROOT", tmp_path)
    with pytest.raises(PreflightFailed, match=f"objective={objective} cannot be measured here: this machine has no"):
        energy_check(make_config(objective=[objective]))
    machine.has(1, {"power_mw": None})
    with pytest.raises(PreflightFailed, match="GPU 0 has no power sensor"):
        energy_check(make_config(objective=[objective], hardware=GPUS))
    machine.has(1)
    assert "can be read" in energy_check(make_config(objective=[objective], hardware=GPUS))


def test_energy_elsewhere_is_refused() -> None:
    remote = {"name": "docker", "target": "pipeline.backends.docker.Docker", "container": {"socket": "tcp://far:1"}}
    with pytest.raises(PreflightFailed, match="another machine"):
        hardware_watch.check(make_config(backend=remote, **JOULES))
