"""What a trial leaves behind: the values of its record."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from pipeline.core.errors import FailureKind, PipelineError
from pipeline.core.findings import Verdict
from pipeline.core.reasons import Reason
from pipeline.core.resolved import Rewrite
from pipeline.core.schema import Config
from pipeline.core.teardown import Teardown
from pipeline.core.values import value

Phase = Literal["search", "confirm", "held_out"]  # confirm: winner and baseline again; held_out: under other traffic


@value
class Failure:
    """Why something failed: the step, the kind of failure, the message, and what to do."""

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
    num_planned: int = 0  # 0: an older record, which does not say
    num_begun: int = 0
    fates: Mapping[str, int] = Field(default_factory=dict)  # how many requests met which fate (core/fates.py)
    error_words: Mapping[str, int] = Field(default_factory=dict)  # what was said of those that failed, commonest first
    is_cut: bool = False  # fewer requests were begun or ended than were planned


@value
class Client:
    """How the load generator did during a level: latencies include its own delays."""

    cpu_share: float  # of one core
    lag_p99_s: float  # how late its event loop ran
    lag_max_s: float


@value
class EngineTimes:
    """What the engine's own histograms say of a level: means, in seconds; None where it has no such histogram."""

    requests: int  # whose first token the engine made meanwhile
    ttft_mean_s: float | None
    tpot_mean_s: float | None
    is_apart: bool = False  # further from what the load generator measured than both may be


@value
class Load:
    """What else the machine did during a level."""

    cores: int
    others_cores: float  # busy cores that were neither the engine's nor ours, mean
    is_crowded: bool
    notes: tuple[str, ...] = ()  # of GPUs: clocks, throttling, other processes


@value
class Level:
    """One measured (scenario, concurrency) and its result. `result_file` is relative to the run directory."""

    scenario: str
    concurrency: int
    status: Literal["ok", "failed", "skipped"]
    failure: Failure | None = None
    metrics: LevelMetrics | None = None
    elapsed_s: float = 0.0
    result_file: str | None = None
    cache_reset: str = "none"
    client: Client | None = None
    load: Load | None = None
    engine: EngineTimes | None = None
    times_measured: int = 1  # more: it was cut, or the machine was crowded, and it was measured again
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """E.g. `D(64,16) x4`."""
        return f"{self.scenario} x{self.concurrency}"


@value
class Record:
    """Everything that a trial leaves behind, whether it succeeded or failed."""

    schema_version: Literal[1] = 1
    trial_id: str
    sweep_id: str
    number: int
    overrides: tuple[str, ...]
    status: Literal["ok", "failed", "refused", "interrupted"]  # refused: known before deploying that it cannot start
    is_baseline: bool
    verdict: Verdict | None = None  # what was foreseen; None: the trial ended before it was asked
    failure: Failure | None
    config: Config
    argv: tuple[str, ...]
    deployment: Mapping[str, str] = Field(default_factory=dict)  # its GPUs and cores; image, container, docker run
    settings: Mapping[str, Any] | None
    settings_unknown: str | None = None  # why there are none, though the engine was asked
    engine_version: str | None = None  # by its own word; None: it was not asked, or does not say
    rewrites: tuple[Rewrite, ...] = ()  # what the engine made of the knobs, where that is not what was asked
    repeat_of: int | None = None  # the number of the trial whose configuration was measured again
    phase: Phase = "search"
    reason: Reason | None = None  # why the search proposed it; None: nobody searched
    rounds: int | None = None  # of the confirmation that this is part of; None: as many as its test takes
    same_as: int | None = None  # the number of the trial whose levels these are: both resolved alike
    cached_from: str | None = None  # the trial of another sweep whose levels these are: cache=read
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

    @property
    def is_raced(self) -> bool:
        """Whether levels were left out because the trial could not beat another one: its score is no whole one's."""
        return any(level.failure is not None and level.failure.kind == FailureKind.RACED for level in self.levels)

    @property
    def place(self) -> str:
        """The host and GPUs that it ran on: only what was measured on the same can be compared in pairs."""
        where = (self.environment.get("host"), *(self.deployment.get(name) for name in ("node", "gpus")))
        return " ".join(word for word in where if word)


class Timings:
    """Collects the step timings of one trial while it runs; the only mutable helper of a trial."""

    def __init__(self) -> None:
        self.done: list[StepTiming] = []

    def add(self, step: str, seconds: float, *, failed: bool) -> None:
        """Remember a step that has ended."""
        timing = StepTiming(step=step, seconds=round(seconds, 4), status="failed" if failed else "ok")
        self.done.append(timing)
