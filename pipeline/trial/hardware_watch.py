"""Reads the sensors of a trial's own hardware while a level runs, once or twice a second and beside it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.backends import docker_checks
from pipeline.bench import ledger
from pipeline.core import hardware_use
from pipeline.core.errors import PreflightFailed
from pipeline.core.hardware_use import Sample, Seen
from pipeline.core.metric_names import ENERGY
from pipeline.core.plan import Plan
from pipeline.core.record import Level
from pipeline.core.schema import Config
from pipeline.machine import gpus, hardware_meter
from pipeline.machine.hardware_meter import Meter
from pipeline.machine.sampler import Sampler

NAME = "hardware.json"  # in the level's folder
ELSEWHERE = "the engine runs on another machine"
THERE = "the server was there already, and nobody knows on which hardware it runs"
AMD = "the sensors of AMD's GPUs are not read"
NO_NVML = "NVML does not tell of these GPUs"
TAIL = 1.25  # how much longer than the load a call may take, for its whole time to stand for it


def why_no_energy(config: Config) -> str | None:
    """Why the energy of a configuration's trials cannot be measured from here, in words; None: it can."""
    if why := why_not_read(config):
        return why
    if config.bench.runner == "cli":
        return "bench.runner=cli does not tell when its load began"
    if config.hardware.is_cpu:
        return hardware_meter.why_no_energy((), is_cpu=True)
    usable = gpus.allowed(gpus.look() or (), config.hardware.gpu_ids)
    if not usable:
        return NO_NVML
    return hardware_meter.why_no_energy([gpu.uuid for gpu in usable], is_cpu=False)


def why_not_read(config: Config) -> str | None:
    """Why no sensor of the trial's hardware is read from here, in words; None: they are, as far as they are there."""
    if config.backend.is_endpoint:
        return THERE
    if config.backend.kubernetes is not None or docker_checks.is_remote(config):
        return ELSEWHERE
    return AMD if config.hardware.vendor == "amd" else None


def outlook(config: Config) -> str:
    """Whether levels will have their energy, for the doctor: only an objective needs it."""
    why = why_no_energy(config)
    return f"not measured: {why}" if why else "measured: joules_per_output_token, tokens_per_s_per_watt"


def check(config: Config) -> str:
    """Whether an objective of energy can be measured; called where one is asked for.

    Raises:
        PreflightFailed: it cannot.
    """
    asked = [name for name in config.objective if name in ENERGY]
    if why := why_no_energy(config):
        raise PreflightFailed(
            f"objective={asked[0]} cannot be measured here: {why}.",
            hint="Choose another objective, or run where the power of the hardware can be read.",
        )
    return f"the power of the hardware can be read for {', '.join(asked)}"


@dataclass
class HardwareWatch:
    """The sensors of one trial's hardware, level after level."""

    config: Config
    plan: Plan

    def meter(self) -> Meter | None:
        """Of the trial's own GPUs, or of the CPU; None where its hardware is not read."""
        if why_not_read(self.config):
            return None
        return Meter(self.plan.slots.gpu_ids, is_cpu=self.config.hardware.is_cpu)

    @contextmanager
    def level(self) -> Iterator["LevelWatch"]:
        """Read them in this scope."""
        meter = self.meter()
        watch = LevelWatch(self, time.time(), meter)
        if meter is None:
            yield watch
            return
        meter.begin()
        try:
            sampler, watch.began_at = Sampler(meter.look), time.time()
            sampler.once()
            if sampler.samples:
                sampler.start()
            try:
                yield watch
            finally:
                watch.samples = sampler.finish()
        finally:
            meter.close()


@dataclass
class LevelWatch:
    """What was read of one level. `began_at`: the time of day when reading began."""

    hardware: HardwareWatch
    began_at: float
    meter: Meter | None
    samples: tuple[tuple[float, Sample], ...] = field(default=())

    def told(self, level: Level, folder: Path, run_dir: Path) -> Level:
        """The level with what its hardware did. The samples go into `folder`."""
        seen = self.seen(level, folder)
        level = hardware_use.told(level, seen)
        if level.hardware is None or not seen.samples:
            return level
        path = folder / NAME
        try:
            path.write_text(json.dumps(hardware_use.rows(seen)), "utf-8")
        except OSError:  # the summary has what counts
            return level
        return replace(level, hardware=replace(level.hardware, series_file=str(path.relative_to(run_dir))))

    def seen(self, level: Level, folder: Path) -> Seen:
        """All that was read, and when the load was: it ends when the last line on it was written."""
        if not self.samples:
            return Seen(samples=(), missing=self._why())
        duration_s = level.metrics.run_duration_s if level.metrics else 0.0
        try:
            ended_s = (folder / ledger.NAME).stat().st_mtime - self.began_at
        except OSError:
            is_timed = self.samples[-1][0] - self.samples[0][0] <= TAIL * duration_s
            return Seen(samples=self.samples, is_timed=is_timed)
        return Seen(samples=self.samples, began_s=ended_s - duration_s, ended_s=ended_s)

    def _why(self) -> str:
        if self.meter is None:
            return why_not_read(self.hardware.config) or hardware_use.UNKNOWN
        if self.meter.packages is not None:
            return self.meter.packages.why_not or hardware_use.UNKNOWN
        return NO_NVML
