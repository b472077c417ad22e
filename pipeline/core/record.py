"""What a trial leaves behind: the values of its record."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from pipeline.core.advice import Advice
from pipeline.core.answers import Asked
from pipeline.core.arrivals import Arrivals
from pipeline.core.errors import FailureKind, PipelineError, Stopped
from pipeline.core.evaluation import Evaluation
from pipeline.core.findings import Verdict
from pipeline.core.loads import AtLoad
from pipeline.core.origin import Origin
from pipeline.core.quality import Judgement
from pipeline.core.reasons import Reason
from pipeline.core.resolved import Rewrite
from pipeline.core.schema import Config
from pipeline.core.teardown import Teardown
from pipeline.core.values import value

# confirm: winner and baseline again; held_out: under other traffic; between: the best of each engine
Phase = Literal["search", "confirm", "held_out", "between"]


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
    if isinstance(error, Stopped):
        hint = "The sweep went on without this trial, and learned nothing from it."
        return Failure(step=step, kind=FailureKind.STOPPED, message=f"stopped by {error}", hint=hint)
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
    is_saturated: bool = False  # the server does not keep up with the rate at which requests are sent
    cached_tokens_mean: float | None = None  # of the prompts, by the answers' own word; None: they do not say
    joules_per_output_token: float | None = None  # None: no sensor tells
    tokens_per_s_per_watt: float | None = None  # output tokens


@value
class Client:
    """How the load generator did during a level: latencies include its own delays."""

    cpu_share: float  # of one core, of the busiest of its processes
    lag_p99_s: float  # how late it read what had come
    lag_max_s: float
    unsure_p99_s: float | None = (
        None  # how far the time to first token may be too long for that; None: as late as it read
    )
    workers: int = 1  # processes that shared the users
    users: int = 0  # 0: an older record, which does not say
    idle_share: float = 0.0  # of the users' time: between an answer and the next request
    keeps_connections: bool = False  # False: a new one for each request; older records had those
    resent: int = 0  # requests on a kept connection that the server closed without a word
    own_from_users: int | None = None  # from so many users on, latencies are partly its own (core/client.py)


@value
class EngineTimes:
    """What the engine's own histograms say of a level: means, in seconds; None where it has no such histogram."""

    requests: int  # whose first token the engine made meanwhile
    ttft_mean_s: float | None
    tpot_mean_s: float | None
    is_apart: bool = False  # further from what the load generator measured than both may be


@value
class EngineMetrics:
    """What the engine's /metrics say of a level. None: the engine does not tell it, or could not be asked.

    Gauges are those of the samples taken meanwhile; counters and times what came between the level's begin and end.
    """

    samples: int
    running_mean: float | None = None
    running_max: float | None = None
    waiting_mean: float | None = None
    waiting_max: float | None = None
    kv_use_mean: float | None = None  # share
    kv_use_max: float | None = None
    preemptions: int | None = None
    prefix_hit_rate: float | None = None  # share of the prompt tokens
    prefix_hits_by: Literal["engine", "answers"] | None = None  # who says so
    queue_mean_s: float | None = None  # per request
    prefill_mean_s: float | None = None
    decode_mean_s: float | None = None
    drafted_tokens: int | None = None
    accepted_tokens: int | None = None
    accept_rate: float | None = None
    requests: int | None = None  # as the engine counts: finished
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    missing: str | None = None  # why there are no numbers, or fewer
    series_file: str | None = None  # the samples, relative to the run directory


@value
class GpuUse:
    """What the sensors of a GPU said during a level. None: it has no such sensor."""

    index: int
    utilisation: float | None = None  # share of the time with a kernel at work, mean
    memory_utilisation: float | None = None  # share of the time in which its memory was read or written
    memory_used_mib: int | None = None  # the most
    clock_mhz: float | None = None  # mean
    power_w: float | None = None  # mean
    energy_j: float | None = None
    slowed: Mapping[str, float] = Field(default_factory=dict)  # why it was slowed down: share of the samples


@value
class HardwareUse:
    """What the trial's own hardware did during a level, and what that took."""

    samples: int
    gpus: tuple[GpuUse, ...] = ()
    power_w: float | None = None  # of all its GPUs, or of the CPU packages where the engine runs on the CPU
    energy_j: float | None = None
    missing: str | None = None  # why there is no energy
    series_file: str | None = None  # the samples, relative to the run directory


@value
class Load:
    """What else the machine did during a level."""

    cores: int
    others_cores: float  # busy cores that were neither the engine's nor ours, mean
    is_crowded: bool
    notes: tuple[str, ...] = ()  # of GPUs: clocks, throttling, other processes
    engine_cores: float | None = None  # that the engine's processes kept busy, mean
    busiest_cores: float | None = None  # that its busiest process did


@value
class Level(AtLoad):
    """One measured scenario under one load, and its result. `result_file` is relative to the run directory."""

    status: Literal["ok", "failed", "skipped"]
    failure: Failure | None = None
    metrics: LevelMetrics | None = None
    elapsed_s: float = 0.0
    result_file: str | None = None
    cache_reset: str = "none"
    client: Client | None = None
    arrivals: Arrivals | None = None  # of requests that are sent at a rate
    load: Load | None = None
    engine: EngineTimes | None = None
    engine_metrics: EngineMetrics | None = None
    hardware: HardwareUse | None = None
    times_measured: int = 1  # more: it was cut, or the machine was crowded, and it was measured again
    warnings: tuple[str, ...] = ()


@value
class Record:
    """Everything that a trial leaves behind, whether it succeeded or failed."""

    schema_version: Literal[1] = 1
    trial_id: str
    sweep_id: str
    number: int
    overrides: tuple[str, ...]
    origin: Origin = Origin()
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
    asked: Asked | None = None  # by the quality guard; None: nobody asked
    quality: Judgement | None = None  # when it ended, against the baseline so far; the verdict on the sweep judges anew
    evaluation: Evaluation | None = None  # by lm-eval; None: it was measured instead
    objective: Mapping[str, float] | None
    best_level: str | None
    advice: Advice | None = None  # what limits it; None: nothing was measured
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
    def is_unfinished(self) -> bool:
        """Whether it was broken off with its sweep, which runs it again; a trial that was stopped alone is ended."""
        is_stopped = self.failure is not None and self.failure.kind == FailureKind.STOPPED
        return self.status == "interrupted" and not is_stopped

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
