"""What a trial leaves behind: the values of its record, and the one class that names its files."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import FailureKind, PipelineError, PreflightFailed
from pipeline.schema import Config
from pipeline.values import to_json, value

MINIMUM_FREE_BYTES = 64 * 1024 * 1024


@value
class Failure:
    """Why something failed: which step, which kind, in which words, and what to do."""

    step: str
    kind: FailureKind
    message: str
    hint: str


def failure(step: str, error: BaseException) -> Failure:
    """`error`, raised in `step`, as a value."""
    if isinstance(error, PipelineError):
        return Failure(step=step, kind=error.kind, message=str(error) or type(error).__name__, hint=error.hint)
    if isinstance(error, Exception):
        words = f"{type(error).__name__}: {error}"
        return Failure(step=step, kind=FailureKind.INTERNAL, message=words, hint=PipelineError.hint)
    words = f"stopped by {error}" if str(error) else f"stopped by {type(error).__name__}"
    return Failure(step=step, kind=FailureKind.INTERRUPTED, message=words, hint="Run the same command again.")


@value
class StepTiming:
    """How long a step took and how it ended."""

    step: str
    seconds: float
    status: Literal["ok", "failed"]


@value
class Stats:
    """Mean and percentiles of one quantity over the requests of a level (linear interpolation)."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float


@value
class LevelMetrics:
    """One level in numbers. Latencies in seconds; throughput counts completed requests over run_duration_s."""

    num_requests: int
    num_errors: int
    error_rate: float
    error_codes: Mapping[str, int]
    run_duration_s: float
    ttft: Stats | None  # None: no request had that time
    tpot: Stats | None
    e2e: Stats | None
    input_tokens_mean: float
    output_tokens_mean: float
    output_tokens_asked_mean: float | None
    requests_per_s: float
    output_tokens_per_s: float
    input_tokens_per_s: float
    total_tokens_per_s: float
    slo_attainment: float | None
    goodput_requests_per_s: float | None
    goodput_output_tokens_per_s: float | None
    meets_slo: bool
    is_usable: bool


@value
class Level:
    """One (scenario, concurrency) and what came of it. `result_file` is relative to the run directory."""

    scenario: str
    concurrency: int
    status: Literal["ok", "failed", "skipped"]
    failure: Failure | None = None
    metrics: LevelMetrics | None = None
    elapsed_s: float = 0.0
    result_file: str | None = None
    cache_reset: str = "none"
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """E.g. `D(64,16) x4`."""
        return f"{self.scenario} x{self.concurrency}"


@value
class Teardown:
    """What teardown saw at its end. `remaining` is empty when everything is gone."""

    by: Literal["trial", "keeper", "reaper"]
    seconds: float
    remaining: tuple[str, ...]
    error: str | None = None

    @property
    def is_clean(self) -> bool:
        """Whether we looked and nothing was left."""
        return not self.remaining and self.error is None


@value
class Record:
    """Everything a trial leaves behind, whatever happened."""

    schema_version: Literal[1] = 1
    trial_id: str
    sweep_id: str
    number: int
    overrides: tuple[str, ...]
    status: Literal["ok", "failed", "interrupted"]
    is_baseline: bool
    failure: Failure | None
    config: Config
    argv: tuple[str, ...]
    settings: Mapping[str, Any] | None
    levels: tuple[Level, ...]
    objective: Mapping[str, float] | None
    best_level: str | None
    notes: tuple[str, ...]
    steps: tuple[StepTiming, ...]
    teardown: Teardown | None
    tracker: Failure | None = None
    environment: Mapping[str, str]
    started_at: datetime
    ended_at: datetime


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class RunDir:
    """Every file name of a run. The only place where they are spelled."""

    path: Path

    @property
    def config(self) -> Path:
        """The trial's whole configuration, as frozen."""
        return self.path / "config.json"

    @property
    def lease(self) -> Path:
        """What the trial owns; after teardown, who removed it and what is left."""
        return self.path / "lease.json"

    @property
    def plan(self) -> Path:
        """The exact command, environment and levels."""
        return self.path / "plan.json"

    @property
    def server_log(self) -> Path:
        """The engine's stdout and stderr."""
        return self.path / "server.log"

    @property
    def keeper_log(self) -> Path:
        """What the keeper had to say; empty when all went well."""
        return self.path / "keeper.log"

    @property
    def pipeline_log(self) -> Path:
        """What the pipeline and its libraries logged during the trial."""
        return self.path / "pipeline.log"

    @property
    def bench(self) -> Path:
        """genai-bench's own files, one folder per scenario and concurrency."""
        return self.path / "bench"

    def level(self, scenario: str, concurrency: int) -> Path:
        """The folder of one level; a scenario is spelled as genai-bench spells it in file names."""
        safe = scenario.replace("/", "_").replace(",", "_").replace("(", "").replace(")", "")
        return self.bench / safe / str(concurrency)

    @property
    def metrics(self) -> Path:
        """The levels alone, for reading with other tools."""
        return self.path / "metrics.json"

    @property
    def record(self) -> Path:
        """The record."""
        return self.path / "record.json"


@dataclass(frozen=True, slots=True)
class SweepDir:
    """Every file name of a sweep's folder."""

    path: Path

    @property
    def records(self) -> tuple[Path, ...]:
        """The record of every trial that has left one."""
        return tuple(sorted(self.path.glob("*/record.json")))

    @property
    def ranking(self) -> Path:
        """The ranked table as CSV."""
        return self.path / "ranking.csv"

    @property
    def best(self) -> Path:
        """The best trial's overrides, command and metrics."""
        return self.path / "best.json"

    @property
    def tracker_log(self) -> Path:
        """What the tracker's process printed."""
        return self.path / "tracker.log"

    @property
    def bench_log(self) -> Path:
        """What the resident genai-bench runner printed outside of levels."""
        return self.path / "bench-runner.log"


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the new one, also after a crash.

    Raises:
        OSError: the disk is full or the folder not writable; the old file is untouched.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def save(path: Path, item: object) -> None:
    """Write a value as JSON, atomically."""
    write_atomically(path, to_json(item) + "\n")


def claim(run_dir: RunDir) -> None:
    """Make sure that a trial can leave its record here: an own, writable folder on a disk that is not full.

    Raises:
        PreflightFailed: saying which of these is not so.
    """
    where = run_dir.path
    try:
        where.mkdir(parents=True, exist_ok=True)
        if run_dir.record.exists() or run_dir.lease.exists():
            raise PreflightFailed(f"{where} already holds a trial. Expected an empty run directory.")
        write_atomically(where / ".writable", "x" * 4096)
        (where / ".writable").unlink()
        state = os.statvfs(where)
    except OSError as error:
        raise PreflightFailed(
            f"Cannot write to the run directory {where}: {error.strerror or error}.",
            hint="Choose another one with hydra.run.dir=... or hydra.sweep.dir=..., or free some space.",
        ) from error
    free = state.f_bavail * state.f_frsize
    if free < MINIMUM_FREE_BYTES:
        raise PreflightFailed(f"{where} has {free / 1e6:.0f} MB free; a trial needs {MINIMUM_FREE_BYTES / 1e6:.0f} MB.")


class Timings:
    """Collects the steps' timings of one trial while it runs; the one mutable helper of a trial."""

    def __init__(self) -> None:
        self.done: list[StepTiming] = []

    def add(self, step: str, seconds: float, *, failed: bool) -> None:
        """Remember a step that has ended."""
        timing = StepTiming(step=step, seconds=round(seconds, 4), status="failed" if failed else "ok")
        self.done.append(timing)
