"""What a trial's hardware did during a level: means, and energy over the time of the load alone."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline.core.hardware_use import SHORT, UNKNOWN, WHEN, GpuSample, Sample, Seen, rows, summary, told
from pipeline.core.record import HardwareUse, Level
from support.records import make_levels, make_metrics

LEVEL = replace(make_levels()[0], metrics=make_metrics(run_duration_s=4.0, output_tokens_per_s=100.0))


def gpu(energy_j: float | None = None, *, index: int = 0, **sensors: Any) -> Sample:
    return Sample(gpus=(GpuSample(index=index, energy_j=energy_j, **sensors),))


def seen(*samples: Sample, began_s: float | None = None, ended_s: float | None = None, **more: Any) -> Seen:
    """One sample a second."""
    return Seen(
        samples=tuple((float(at), one) for at, one in enumerate(samples)), began_s=began_s, ended_s=ended_s, **more
    )


def used(found: Seen) -> HardwareUse:
    made = summary(found)
    assert made is not None
    return made


# Idle at 50 W for two seconds, at work at 300 W for four, idle again
ENERGY = (0, 50, 100, 400, 700, 1000, 1300, 1350)


def test_the_energy_is_that_of_the_load_alone() -> None:
    found = told(LEVEL, seen(*map(gpu, ENERGY), began_s=2.0, ended_s=6.0))
    assert found.hardware is not None
    assert (found.hardware.power_w, found.hardware.energy_j) == (300.0, 1200.0)
    assert found.hardware.gpus[0].energy_j == 1200.0
    assert found.metrics is not None
    assert found.metrics.joules_per_output_token == pytest.approx(3.0)
    assert found.metrics.tokens_per_s_per_watt == pytest.approx(1 / 3)


def test_between_two_readings_energy_grows_evenly() -> None:
    assert used(seen(*map(gpu, ENERGY), began_s=1.5, ended_s=3.5)).power_w == pytest.approx((550 - 75) / 2)


def test_of_several_gpus_it_is_the_sum() -> None:
    both = [
        Sample(gpus=(GpuSample(index=2, energy_j=at * 100.0), GpuSample(index=5, energy_j=at * 200.0)))
        for at in range(4)
    ]
    found = used(seen(*both))
    assert [(one.index, one.power_w) for one in found.gpus] == [(2, 100.0), (5, 200.0)]
    assert found.power_w == 300.0


def test_without_a_counter_it_is_the_power_over_time() -> None:
    found = used(seen(*(gpu(power_w=watts) for watts in (100.0, 200.0, 300.0, 200.0, 100.0))))
    assert found.power_w == pytest.approx(200.0)


def test_the_energy_of_the_cpu_is_that_of_its_packages() -> None:
    found = told(LEVEL, seen(*(Sample(cpu_energy_j=30.0 * at) for at in range(5)), began_s=0, ended_s=4))
    assert found.hardware is not None
    assert (found.hardware.power_w, found.hardware.energy_j, found.hardware.gpus) == (30.0, 120.0, ())


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (seen(gpu(), gpu(), gpu()), UNKNOWN),
        (seen(gpu(100.0)), SHORT),
        (seen(gpu(100.0), gpu(100.0)), SHORT),
        (seen(*map(gpu, ENERGY), began_s=-9.0, ended_s=6.0), SHORT),
        (seen(*map(gpu, ENERGY), is_timed=False), WHEN),
        (seen(missing="no NVML"), "no NVML"),
    ],
    ids=["no-sensor", "one-reading", "nothing-used", "read-too-late", "load-of-unknown-time", "nothing-read"],
)
def test_without_a_sensor_there_is_no_number_and_never_a_zero(found: Seen, why: str) -> None:
    level = told(LEVEL, found)
    assert level.hardware is not None
    assert (level.hardware.power_w, level.hardware.energy_j, level.hardware.missing) == (None, None, why)
    assert level.metrics == LEVEL.metrics


def test_one_gpu_of_two_without_a_sensor_leaves_the_sum_unknown() -> None:
    both = [Sample(gpus=(GpuSample(index=0, energy_j=at * 100.0), GpuSample(index=1))) for at in range(4)]
    found = used(seen(*both))
    assert (found.gpus[0].power_w, found.gpus[1].power_w, found.power_w) == (100.0, None, None)


def test_where_nothing_was_to_be_read_nothing_is_said() -> None:
    assert told(LEVEL, seen()) == LEVEL


def test_a_level_without_answers_has_no_energy_per_token() -> None:
    failed: Level = replace(LEVEL, metrics=None)
    found = told(failed, seen(*map(gpu, ENERGY)))
    assert found.metrics is None
    assert found.hardware is not None


def test_means_and_the_most_memory_are_those_of_the_load() -> None:
    at_work = gpu(
        None, utilisation=1.0, memory_utilisation=0.5, memory_used_mib=900, clock_mhz=1000.0, slowed_by=("heat",)
    )
    idle = gpu(None, utilisation=0.0, memory_used_mib=100, clock_mhz=200.0, slowed_by=())
    (one,) = used(seen(idle, at_work, idle, at_work, idle, began_s=1.0, ended_s=3.0)).gpus
    assert one.utilisation == pytest.approx(2 / 3)
    assert (one.memory_utilisation, one.memory_used_mib) == (0.5, 900)
    assert one.slowed == {"heat": pytest.approx(2 / 3)}


def test_the_samples_are_a_table() -> None:
    table = rows(seen(gpu(5.0, power_w=100.0), Sample()))
    assert table["columns"][0] == "at_s"
    assert dict(zip(table["columns"], table["rows"][0], strict=True))["gpu0.power_w"] == 100.0
    assert set(table["rows"][1][1:]) == {None}
