"""The error tree and the closed list of failure kinds.

PipelineError
├── ConfigError        the user's mistake: nothing was deployed; one message, no stack trace
├── PreflightFailed    a check before deploying failed: the trial cannot work here
│   ├── ModelError     model file or tokenizer missing or unreadable
│   ├── CannotRun      none of the command's trials can work here: found before anything was made
│   └── NotAsked       another check has failed that this one needs
├── StepError          a step of a trial failed; the record says which
│   ├── DeployFailed
│   ├── ServerDied
│   ├── NotReady
│   ├── WarmupFailed
│   ├── BenchFailed
│   ├── StepTimedOut
│   └── WorkerDied      the worker process that ran the trial ended first
│       └── JobEnded     the batch job that ran the trial ended; the scheduler gives the reason
├── DiskFull           nothing can be written; the same command goes on once there is space
├── TeardownFailed     something of the trial may still exist; the record names it
└── TrackerFailed      publishing failed; noted in the record, the trial still counts
Interrupted            (BaseException) a signal asked us to stop
└── Stopped            somebody asked for the end of this trial alone
"""

import signal
from enum import StrEnum


class FailureKind(StrEnum):
    """Why a trial, a step or a level failed. A closed list: docs/failures.md explains each."""

    PREFLIGHT = "preflight"
    UNSUPPORTED_COMBINATION = "unsupported_combination"
    DOES_NOT_FIT = "does_not_fit"
    MODEL_MISSING = "model_missing"
    MODEL_GATED = "model_gated"
    HUB_UNREACHABLE = "hub_unreachable"
    BAD_FLAG = "bad_flag"
    IMAGE_MISSING = "image_missing"
    REGISTRY_UNREACHABLE = "registry_unreachable"
    DISK_FULL = "disk_full"
    BACKEND_DOWN = "backend_down"
    UNSCHEDULABLE = "unschedulable"
    CRASH_LOOP = "crash_loop"
    PORT_TAKEN = "port_taken"
    NO_GPU = "no_gpu"
    GPU_BUSY = "gpu_busy"
    DRIVER_TOO_OLD = "driver_too_old"
    ENGINE_BROKEN = "engine_broken"
    GPU_COMMUNICATION = "gpu_communication"
    OOM_GPU = "oom_gpu"
    KV_CACHE_TOO_SMALL = "kv_cache_too_small"
    OOM_HOST = "oom_host"
    LOAD_FAILED = "load_failed"
    SERVER_DIED = "server_died"
    NOT_READY_IN_TIME = "not_ready_in_time"
    WARMUP_FAILED = "warmup_failed"
    BENCH_ERROR = "bench_error"
    OVERLOADED = "overloaded"
    REQUEST_REJECTED = "request_rejected"
    CLIENT_LIMIT = "client_limit"
    STEP_TIMED_OUT = "step_timed_out"
    WORKER_DIED = "worker_died"
    NEVER_STARTED = "never_started"
    TIME_LIMIT = "time_limit"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    NODE_FAILED = "node_failed"
    TEARDOWN_FAILED = "teardown_failed"
    TRACKER_FAILED = "tracker_failed"
    NOT_RUN = "not_run"
    RACED = "raced"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped"
    INTERNAL = "internal"


BY_SURROUNDINGS = frozenset(
    {
        FailureKind.PREFLIGHT,
        FailureKind.MODEL_MISSING,
        FailureKind.MODEL_GATED,
        FailureKind.HUB_UNREACHABLE,
        FailureKind.IMAGE_MISSING,
        FailureKind.REGISTRY_UNREACHABLE,
        FailureKind.DISK_FULL,
        FailureKind.BACKEND_DOWN,
        FailureKind.PORT_TAKEN,
        FailureKind.NO_GPU,
        FailureKind.GPU_BUSY,
        FailureKind.DRIVER_TOO_OLD,
        FailureKind.ENGINE_BROKEN,
        FailureKind.CLIENT_LIMIT,
        FailureKind.WORKER_DIED,
        FailureKind.NEVER_STARTED,
        FailureKind.TIME_LIMIT,
        FailureKind.CANCELLED,
        FailureKind.PREEMPTED,
        FailureKind.NODE_FAILED,
        FailureKind.TEARDOWN_FAILED,
        FailureKind.TRACKER_FAILED,
        FailureKind.NOT_RUN,
        FailureKind.INTERRUPTED,
        FailureKind.STOPPED,
        FailureKind.INTERNAL,
    }
)  # they say nothing of the configuration that was tried: the search learns nothing of them


class PipelineError(Exception):
    """Base class of all errors of this project. `kind`: which kind of failure; `hint`: what to do next."""

    kind = FailureKind.INTERNAL
    hint = "This is a bug in the pipeline: please report it with record.json and pipeline.log."

    def __init__(self, message: str, *, kind: FailureKind | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind or type(self).kind
        self.hint = hint or type(self).hint


class ConfigError(PipelineError):
    """The configuration cannot be used. Nothing was started."""

    kind = FailureKind.PREFLIGHT
    hint = "Correct the configuration; nothing was started."


class PreflightFailed(PipelineError):
    """A check before deployment failed. Nothing was deployed."""

    kind = FailureKind.PREFLIGHT
    hint = "Fix what the message names; nothing was deployed."


class ModelError(PreflightFailed):
    """The model file or its tokenizer is missing or cannot be read."""

    kind = FailureKind.MODEL_MISSING
    hint = "Check model.path and the model's package or file."


class CannotRun(PreflightFailed):
    """No trial of the command can work where its trials run."""


class NotAsked(PreflightFailed):
    """A check needs what an earlier one has found missing."""


class StepError(PipelineError):
    """A step of a trial failed after deployment began."""


class DeployFailed(StepError):
    """The server could not be started."""

    kind = FailureKind.LOAD_FAILED
    hint = "Read server.log; run the command in plan.json by hand."


class ServerDied(StepError):
    """The server ended while it was still needed."""

    kind = FailureKind.SERVER_DIED
    hint = "Read the last lines of server.log."


class NotReady(StepError):
    """The server did not answer its health check in time."""

    kind = FailureKind.NOT_READY_IN_TIME
    hint = "Raise runtime.health.timeout_s if the model is still loading at the end of server.log."


class WarmupFailed(StepError):
    """The server is healthy but does not answer a completion request."""

    kind = FailureKind.WARMUP_FAILED
    hint = "Send the request shown in the message by hand; check the served model name."


class BenchFailed(StepError):
    """genai-bench returned no usable result."""

    kind = FailureKind.BENCH_ERROR
    hint = "Read bench/<scenario>/<concurrency>/console.log."


class StepTimedOut(StepError):
    """A step did not end within its deadline."""

    kind = FailureKind.STEP_TIMED_OUT
    hint = "Raise the step's timeout_s if the step really needs more time."


class WorkerDied(StepError):
    """The worker process that ran a trial of a sweep ended before the trial did."""

    kind = FailureKind.WORKER_DIED
    hint = "Run fewer trials at once (hydra.launcher.n_jobs): a SIGKILL usually means out of memory, see `dmesg`."


class JobEnded(WorkerDied):
    """The batch job of a trial ended. The scheduler knows why; the trial itself may have seen only a signal."""


class DiskFull(PipelineError):
    """A disk is full: what was being written is lost, what was written before is whole."""

    kind = FailureKind.DISK_FULL
    hint = "Free some space, then give the same command again: a search goes on where it stopped."


class TeardownFailed(PipelineError):
    """Teardown ended, but something of the trial still exists (or could not be checked)."""

    kind = FailureKind.TEARDOWN_FAILED
    hint = "Run: python -m pipeline.reap"


class TrackerFailed(PipelineError):
    """The tracker did not accept the record. The record on disk is complete."""

    kind = FailureKind.TRACKER_FAILED
    hint = "The record on disk is complete; offline W&B runs can be uploaded later with `make sync`."


class Interrupted(BaseException):
    """A signal asked us to stop. Not an Exception, so no library can swallow it before teardown."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Stopped(Interrupted):
    """Somebody asked for the end of this trial alone (`servetune stop FOLDER TRIAL`): the sweep goes on."""

    def __init__(self) -> None:
        super().__init__(signal.SIGURG)
        self.args = ("servetune stop",)
