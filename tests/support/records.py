"""A small complete Record for tests, and the plain data its Config is parsed from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from pipeline.core.errors import FailureKind
from pipeline.core.record import Failure, Level, LevelMetrics, Record, Stats, StepTiming
from pipeline.core.schema import Config
from pipeline.core.schema_traffic import Dataset
from pipeline.core.teardown import Teardown
from pipeline.core.values import now, parse

CONFIG: dict[str, Any] = {
    "runtime": {
        "name": "llamacpp",
        "command": ["{python}", "-m", "pipeline.engines.runtimes.llamacpp"],
        "knobs": {
            "page_size": {"kind": "int", "flag": "--page-size", "help": "tokens per KV page", "minimum": 1},
            "slots": {"kind": "int", "flag": "--parallel", "help": "requests at once", "minimum": 1},
        },
        "api_backend": "openai",
        "server_engine": "vLLM",
        "health": {"path": "/health", "timeout_s": 60, "interval_s": 0.1},
        "cache_reset": "none",
        "stop_grace_s": 5,
    },
    "model": {"name": "tiny", "path": "tiny.gguf", "served_name": "tiny"},
    "backend": {"name": "local", "target": "pipeline.backends.local.Local"},
    "traffic": {
        "name": "quick",
        "scenarios": ["D(64,16)"],
        "concurrencies": [1, 2],
        "min_requests": 4,
        "requests_per_user": 2,
        "max_time_per_level_s": 10,
        "warmup_requests": 1,
        "seed": 1,
    },
    "hardware": {"name": "cpu", "gpu_count": 0},
    "slo": {"name": "none", "attainment": 0.9, "max_error_rate": 0.1},
    "tracker": {"name": "none", "target": "pipeline.trackers.none.Off", "timeout_s": 30},
    "bench": {"runner": "resident", "start_timeout_s": 60, "level_grace_s": 30},
    "timeouts": {"preflight_s": 10, "download_s": 10, "slots_s": 10, "deploy_s": 10, "warmup_s": 10, "teardown_s": 10},
    "objective": ["output_tokens_per_s"],
    "knobs": {"page_size": 32, "slots": None},
}


def make_config(**changes: Any) -> Config:
    """A valid Config; `changes` replace whole sections, as plain data."""
    return parse(Config, {**CONFIG, **changes})


def make_dataset(**changes: Any) -> Dataset:
    """What may be found in a file of prompts."""
    made = Dataset(
        sha256="ab" * 32,
        in_file=9,
        prompts=9,
        left_out=0,
        input_tokens_mean=10.0,
        input_tokens_longest=20,
        output_tokens_mean=5.0,
        output_tokens_longest=8,
        longest_tokens=28,
        longest_at=3,
        least_tokens=9,
        is_counted=True,
        shared_prefix=0.5,
    )
    return replace(made, **changes)


def make_metrics(*, output_tokens_per_s: float = 100.0, **changes: Any) -> LevelMetrics:
    """The metrics of a level of 8 requests that all went well."""
    times = Stats(mean=0.2, p50=0.2, p90=0.3, p95=0.35, p99=0.4)
    made = LevelMetrics(
        num_requests=8,
        num_errors=0,
        error_rate=0.0,
        error_codes={},
        run_duration_s=1.28,
        ttft=times,
        tpot=times,
        e2e=times,
        input_tokens_mean=64.0,
        output_tokens_mean=16.0,
        output_tokens_asked_mean=16.0,
        requests_per_s=output_tokens_per_s / 16,
        output_tokens_per_s=output_tokens_per_s,
        input_tokens_per_s=4 * output_tokens_per_s,
        total_tokens_per_s=5 * output_tokens_per_s,
        slo_attainment=None,
        goodput_requests_per_s=None,
        goodput_output_tokens_per_s=None,
        meets_slo=True,
        is_usable=True,
    )
    return replace(made, **changes)


def make_levels() -> tuple[Level, ...]:
    """Two levels that went well; the second is the better one."""
    return tuple(
        Level(
            scenario="D(64,16)",
            concurrency=users,
            status="ok",
            metrics=make_metrics(output_tokens_per_s=speed),
        )
        for users, speed in ((1, 100.0), (2, 150.0))
    )


def make_failure(**changes: Any) -> Failure:
    """A server that died."""
    kind = FailureKind.SERVER_DIED
    failure = Failure(step="wait", kind=kind, message="the server ended with code 1", hint="Read server.log.")
    return replace(failure, **changes)


def make_record(**changes: Any) -> Record:
    """The record of a trial that went well, with two levels; `changes` replace its fields."""
    started = now()
    made = Record(
        trial_id="sweep-1/7",
        sweep_id="sweep-1",
        number=7,
        overrides=("page_size=32",),
        status="ok",
        is_baseline=False,
        failure=None,
        config=make_config(),
        argv=("server", "--page-size", "32"),
        settings={"n_ctx": 4096},
        levels=make_levels(),
        objective={"output_tokens_per_s": 150.0},
        best_level="D(64,16) x2",
        notes=(),
        steps=(StepTiming(step="deploy", seconds=0.2, status="ok"),),
        teardown=Teardown(by="trial", seconds=0.1, remaining=()),
        environment={"python": "3.11"},
        started_at=started,
        ended_at=started + timedelta(seconds=3),
    )
    return replace(made, **changes)


def make_failed_record(**changes: Any) -> Record:
    """The record of a trial whose server died before any level."""
    nothing: dict[str, Any] = {"levels": (), "objective": None, "best_level": None, "settings": None}
    return make_record(**{**nothing, "status": "failed", "failure": make_failure(), **changes})
