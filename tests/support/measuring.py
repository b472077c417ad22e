"""Levels for the tests that measure: planned as a trial plans them, run by a real runner."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psutil
from hydra import initialize_config_dir

from pipeline import bench
from pipeline.backends import Deployment, lease
from pipeline.backends.local import Local
from pipeline.bench import Job, Outcome, command, results
from pipeline.bench.resident import Resident
from pipeline.config import command_line, planning
from pipeline.core import metrics
from pipeline.core.places import CONF
from pipeline.core.plan import Plan
from pipeline.core.record import Level, LevelMetrics
from pipeline.core.requests import Measurement
from pipeline.core.schema import Config
from pipeline.machine import process
from pipeline.machine.progress import Lines
from pipeline.models import assets
from pipeline.trial.levels import Ladder


class Planned(NamedTuple):
    """What one level needs: the values of a trial, and its genai-bench call."""

    config: Config
    plan: Plan
    job: Job


class Make(Protocol):
    """A level of eight requests at `url`, in a run directory called `name`; `changes` to its Job."""

    def __call__(self, url: str, name: str = "run", **changes: Any) -> Planned: ...


def planned(
    gguf: Path, run_dir: Path, url: str, scenario: str = "D(48,16)", *, words: Sequence[str] = (), **changes: Any
) -> Planned:
    """The first level of a default trial on the model `gguf`, with another scenario and further overrides."""
    with initialize_config_dir(str(CONF)):
        given = ["model=gguf", f"model.path={gguf}", "model.served_name=tiny", f"traffic.scenarios=['{scenario}']"]
        tree = command_line.composed([*given, *words])
    config = command_line.to_config(tree)
    made = planning.make(config, assets.prepare(config.model), sweep_id="s", number=0, run_dir=run_dir)
    job = command.job(config, made, made.levels[0], url=url, label="test-bench")
    return Planned(config, made, replace(job, **changes))


def by(runner: bench.Runner, level: Planned, tokens: float) -> tuple[LevelMetrics, Measurement]:
    """What a runner that may be new makes of a level in which each request asks for so many tokens.

    Raises:
        RuntimeError: nothing was measured.
    """
    runner.start(level.plan.tokenizer_dir)
    runner.wait_ready(timeout_s=180, watch=lambda: None)
    outcome = run(runner, level.job)
    try:
        read, _ = results.of(level.job.folder, level.plan.levels[0])
    except Exception as error:
        raise RuntimeError(outcome.error or str(error)) from error
    return metrics.measure(read, level.config.slo, output_tokens_asked=tokens), read


def run(runner: bench.Runner, job: Job) -> Outcome:
    """Without a watch."""
    return runner.run(job, lambda: None)


def measure(runner: bench.Runner, level: Planned, url: str) -> Level:
    """As the ladder does it: reset, run, read; with the Job of `level`."""
    level.plan.run_dir.mkdir(exist_ok=True)
    deployment = Deployment(lease=lease.make(level.plan), url=url, port=1)
    ladder = Ladder(level.config, level.plan, deployment, Local(), runner, Lines(None))
    return ladder.read(level.plan.levels[0], run(runner, level.job))


def message(level: Level) -> str:
    """Why it failed."""
    assert level.failure is not None
    return level.failure.message


def result(job: Job) -> Any:
    """What genai-bench wrote."""
    return json.loads(results.result_file(job.folder).read_bytes())


def driver_of(runner: Resident) -> psutil.Process:
    """The resident's process."""
    assert runner.driver is not None
    return psutil.Process(runner.driver.child.pid)


def children(parent: psutil.Process) -> list[psutil.Process]:
    """Those that live."""
    return [child for child in parent.children() if process.is_running(child)]
