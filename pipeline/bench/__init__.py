"""Measures with genai-bench, one run per level. Several ways to call it; the numbers mean the same.

`resident` imports genai-bench once and forks per level; `cli` calls the command itself and is the reference, and
`in_cluster` does so in a Kubernetes Job.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pipeline.core.schema import Bench
from pipeline.core.schema_backends import Cluster
from pipeline.core.values import value
from pipeline.machine.companion import Watch

__all__ = ["Beside", "Job", "Outcome", "Runner", "Watch", "close", "installed_program", "runner"]


@value
class Beside:
    """Where in a cluster a call of genai-bench runs."""

    cluster: Cluster
    manifest: Mapping[str, Any]  # of the Kubernetes Job, without an owner
    owner: str  # the Job that owns it, the trial's dead man's switch
    start_timeout_s: float  # for the image to be pulled, and the pod to start


@value
class Job:
    """One call of genai-bench. `argv` is `benchmark --api-backend ...`; the API key is not in it."""

    argv: tuple[str, ...]
    label: str  # the trial's lease: what is started for it can be found by it
    folder: Path
    seed: int
    users: int
    max_requests: int
    max_time_s: float  # no request begins after it
    drain_s: float  # for those that are then open to finish
    timeout_s: float
    beside: Beside | None = None  # None: it runs on this machine


@value
class Outcome:
    """How the call ended. `error` is None when genai-bench reported success."""

    exit_code: int | None
    error: str | None
    elapsed_s: float


class Runner(Protocol):
    """Calls genai-bench."""

    def start(self, tokenizer_dir: Path | None = None) -> None:
        """Begin what can be done before there is a server, and return at once. May be called again."""

    def wait_ready(self, *, timeout_s: float, watch: Watch) -> None:
        """Wait until a level can start without delay. Raises BenchFailed."""

    def run(self, job: Job, watch: Watch) -> Outcome:
        """Run one level. A call that hangs or dies gives an Outcome, not an error; what `watch` raises is raised."""

    def close(self) -> None:
        """End every process of the runner."""


_running: dict[str, Runner] = {}


def runner(config: Bench, log: Path) -> Runner:
    """The runner of this process, made on first use and kept for its later trials."""
    name = "cluster" if config.location == "cluster" else config.runner
    if name not in _running:
        _running[name] = _make(name, config, log)
    return _running[name]


def _make(name: str, config: Bench, log: Path) -> Runner:
    if name == "cluster":
        from pipeline.bench.in_cluster import InCluster

        return InCluster()
    if name == "cli":
        from pipeline.bench.cli import Cli

        return Cli(config.program or installed_program())
    from pipeline.bench.resident import Resident

    return Resident(log)


def installed_program() -> Path:
    """The genai-bench command of this environment."""
    return Path(sys.executable).with_name("genai-bench")


def close() -> None:
    """End the runners of this process."""
    while _running:
        _running.popitem()[1].close()
